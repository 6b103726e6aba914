//! A mutation, and what happens to it.

use std::io::Write;

use pbe::device::Precision;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::emulated::emulated;
use super::program::text;

/// Kinds of mistake: as many as [`MISTAKES`].
#[derive(Clone, Copy, Debug)]
pub enum Mistake {
    /// A bound that lets one item more in.
    OffByOne,
    /// What is left over behind whole tiles, parts or steps isn't done.
    MissingTail,
    /// Threads that read before the others have written, or write before they have read.
    MissingBarrier,
    /// A barrier that some threads go round.
    DivergentBarrier,
    /// Blocks that write to the same place.
    Race,
    /// Another thread's partial result.
    WrongLane,
    /// Rows for columns, one tensor's index for another's.
    SwappedIndex,
    /// A sum that begins with whatever there is, or with something else than zero.
    Accumulator,
    /// Zeros that a padding or border should hold.
    LostZero,
    /// A vector at an address that isn't a multiple of its size.
    Unaligned,
    /// A result that isn't stored.
    LostWrite,
    /// A condition that guards against a special case.
    LostGuard,
    /// Another formula.
    WrongFormula,
    /// A copy that is used before it is sure to have arrived.
    MissingWait,
    /// Another stage of a pipeline.
    WrongStage,
    /// A matrix instruction's operand in another order.
    WrongFragment,
    /// A vector in shared memory in another place for the writer than for the reader.
    WrongSwizzle,
}
use Mistake::*;

/// How many kinds there are.
pub const MISTAKES: usize = 17;

/// What has to notice a mutation.
#[derive(Clone, Copy, Debug)]
pub enum Caught {
    /// A finding of this kind, in the kernel with the mistake.
    Finding(&'static str),
    /// One of these two, by which threads come first.
    Either(&'static str, &'static str),
    /// One of these, by which threads come first.
    OneOf(&'static [&'static str]),
    /// A finding of this kind in a kernel that reads what the one with the mistake wrote.
    FindingIn(&'static str, &'static str),
    /// A row of the self-test, by values alone: the kernel breaks no rule.
    Row(&'static str),
}

/// A mistake in one kernel.
pub struct Mutation {
    pub mistake: Mistake,
    pub kernel: &'static str,
    pub what: &'static str,
    /// What to find, which of its occurrences (0 where there is one), what to put there.
    pub edits: &'static [(&'static str, usize, &'static str)],
    pub caught: Caught,
}

impl Mutation {
    fn file(&self) -> NamedTempFile {
        let edits = self.edits.iter().map(|&(find, number, replace)| {
            let mut edit = serde_json::json!({"kernel": self.kernel, "find": find, "replace": replace});
            if number > 0 {
                edit["occurrence"] = number.into();
            }
            edit
        });
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(Value::from_iter(edits).to_string().as_bytes()).unwrap();
        file
    }

    /// The schedules it has to be caught under: more than one where the order of threads decides what
    /// goes wrong.
    fn seeds(&self) -> &'static [&'static str] {
        match self.mistake {
            MissingBarrier | DivergentBarrier | Race | WrongLane => &["0", "5", "6"],
            _ => &["0"],
        }
    }

    /// Runs the rows of the self-test whose names contain `rows`: what was found, and which rows failed.
    fn run(
        &self,
        precision: Precision,
        rows: &str,
        seed: &str,
    ) -> Result<(Vec<String>, Vec<String>), String> {
        let file = self.file();
        let settings = [("PATCHES", file.path().to_str().unwrap()), ("SEED", seed), ("THREADS", "1")];
        let precision = precision.to_string();
        let line = ["selftest", "--device", "cuda", "--quick", "--json", "--precision", &precision];
        let output = emulated(&[&line[..], &["--only", rows]].concat(), &settings);
        let log = text(&output.stderr);
        let said = log.lines().filter_map(|line| line.strip_prefix("ptx-emulator: "));
        let edited = format!("patch of {}, PTX line ", self.kernel);
        let (edits, findings): (Vec<&str>, Vec<&str>) = said.partition(|line| line.starts_with(&edited));
        let Ok(document) = serde_json::from_slice::<Value>(&output.stdout) else {
            return Err(log);
        };
        let rows = document["rows"].as_array().unwrap();
        let failed: Vec<&Value> = rows.iter().filter(|row| row["passed"] == false).collect();
        if edits.len() != self.edits.len() || output.status.code() != Some(i32::from(!failed.is_empty())) {
            return Err(log);
        }
        let name = |row: &&Value| row["name"].as_str().unwrap().to_string();
        Ok((findings.into_iter().map(String::from).collect(), failed.iter().map(name).collect()))
    }

    /// Why it isn't caught as it should be.
    fn escapes(&self, precision: Precision, rows: &str, seed: &str) -> Option<String> {
        let (findings, failed) = match self.run(precision, rows, seed) {
            Ok(outcome) => outcome,
            Err(log) => return Some(log),
        };
        let first = findings.first().map_or("", String::as_str);
        let found = |kernel: &str, kind: &str| first.starts_with(&format!("{kind} in {kernel} at "));
        let caught = match self.caught {
            Caught::Finding(kind) => found(self.kernel, kind),
            Caught::Either(kind, other) => found(self.kernel, kind) || found(self.kernel, other),
            Caught::OneOf(kinds) => kinds.iter().any(|kind| found(self.kernel, kind)),
            Caught::FindingIn(kernel, kind) => found(kernel, kind),
            Caught::Row(name) => first.is_empty() && failed.iter().any(|row| row == name),
        };
        let place = first.is_empty() || first.contains(".cu:") || first.contains(".cuh:");
        let seen = format!("seed {seed}, first finding `{first}`, failing rows {failed:?}");
        (!caught || !place || failed.is_empty()).then_some(seen)
    }
}

/// Checks that the self-test's rows of a family pass with an edit that changes nothing, and that each
/// mutation is caught.
#[track_caller]
pub fn survive_none(precision: Precision, rows: &str, mutations: &[Mutation]) {
    let kernel = mutations[0].kernel;
    let nothing = Mutation {
        mistake: WrongFormula,
        kernel,
        what: "nothing",
        edits: &[("ret;", 0, "ret;")],
        caught: Caught::Row(""),
    };
    assert_eq!(nothing.run(precision, rows, "0"), Ok((vec![], vec![])));
    let runs = mutations.iter().flat_map(|one| one.seeds().iter().map(move |seed| (one, seed)));
    let escaped = runs.filter_map(|(one, seed)| {
        let seen = one.escapes(precision, rows, seed)?;
        Some(format!("{}, {:?}, {}: not {:?} but {seen}\n", one.kernel, one.mistake, one.what, one.caught))
    });
    let escaped: Vec<String> = escaped.collect();
    assert!(escaped.is_empty(), "\n{}", escaped.concat());
}
