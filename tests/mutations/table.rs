//! The mutations: `tests/mutations/MODULE.txt` holds those of `kernels/MODULE.cu` and of the headers it includes.
//!
//! ```text
//! == f32 BatchNorm                      precision and rows of the self-test, for what follows
//! OffByOne norm_affine: a channel too many => row BatchNormAffine
//! - if (c >= channels) return;
//! + if (c > channels) return;
//! ```
//!
//! The first line says the kind of mistake, the kernels that have it (`a|b`, or `conv_*`), what is wrong, and what
//! has to notice (see [`Caught`]). `-` is what to find, exactly once in the module's files, white space aside; `+`
//! is what to put there. There may be several of both. `#` begins a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::Path;

use pbe::device::Precision;

/// The kinds of mistake.
pub const MISTAKES: [(&str, &str); 17] = [
    ("OffByOne", "a bound that lets one item more in"),
    ("MissingTail", "what is left over after whole tiles, parts or steps isn't done"),
    ("MissingBarrier", "threads read before others have written, or write before others have read"),
    ("DivergentBarrier", "a barrier that some threads don't reach"),
    ("Race", "blocks that write to the same place"),
    ("WrongLane", "another thread's partial result"),
    ("SwappedIndex", "rows for columns, one tensor's index for another's"),
    ("Accumulator", "a sum that begins with an undefined value, or with another one than zero"),
    ("LostZero", "zeros that a padding or border should hold"),
    ("Unaligned", "a vector at an address that isn't a multiple of its size"),
    ("LostWrite", "a result that isn't stored"),
    ("LostGuard", "a condition that guards against a special case"),
    ("WrongFormula", "another formula"),
    ("MissingWait", "a copy that is used before it is sure to have arrived"),
    ("WrongStage", "another stage of a pipeline"),
    ("WrongFragment", "a matrix instruction's operand in another order"),
    ("WrongSwizzle", "a vector in shared memory in another place for the writer than for the reader"),
];

/// What has to notice a mutation.
#[derive(Debug)]
pub enum Caught {
    /// `KIND|KIND`: one of these findings of the emulator, in a kernel with the mistake. Which one may depend on
    /// the order of threads. `KIND in KERNEL`: in a kernel that reads what the one with the mistake wrote.
    Finding { kinds: Vec<String>, kernels: String },
    /// `row NAME`: this row of the self-test fails, by values alone; the kernel breaks no rule.
    Row(String),
}

#[derive(Debug)]
pub struct Mutation {
    pub module: String,
    pub precision: Precision,
    /// The rows of the self-test that are run: those with this in their name.
    pub rows: String,
    pub mistake: String,
    pub kernels: String,
    pub what: String,
    /// What to find and what to put there.
    pub edits: Vec<(String, String)>,
    pub caught: Caught,
}

/// All of them.
pub fn all() -> Vec<Mutation> {
    let files = fs::read_dir("tests/mutations").unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    files.sort();
    files.iter().flat_map(|path| parse(path)).collect()
}

fn parse(path: &Path) -> Vec<Mutation> {
    let module = path.file_stem().unwrap().to_str().unwrap();
    let (mut precision, mut rows, mut found) = (Precision::F32, String::new(), Vec::<Mutation>::new());
    let text = fs::read_to_string(path).unwrap();
    for (number, line) in
        text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        let place = format!("{}:{}", path.display(), number + 1);
        if let Some(group) = line.strip_prefix("== ") {
            let (name, only) = group.split_once(' ').expect(&place);
            precision = if name == "bf16" { Precision::Bf16 } else { Precision::F32 };
            rows = only.to_string();
        } else if let Some(part) = line.strip_prefix('-') {
            let edits = &mut found.last_mut().expect(&place).edits;
            match edits.last_mut() {
                Some((find, replace)) if replace.is_empty() => *find += part,
                _ => edits.push((part.to_string(), String::new())),
            }
        } else if let Some(part) = line.strip_prefix('+') {
            let (_, replace) = found.last_mut().and_then(|one| one.edits.last_mut()).expect(&place);
            *replace += &format!("{part}\n");
        } else {
            let (said, caught) = line.split_once(" => ").expect(&place);
            let (kind, what) = said.split_once(": ").expect(&place);
            let (mistake, kernels) = kind.split_once(' ').expect(&place);
            let caught = match (caught.strip_prefix("row "), caught.split_once(" in ")) {
                (Some(row), _) => Caught::Row(row.to_string()),
                (None, Some((kinds, kernels))) => finding(kinds, kernels),
                (None, None) => finding(caught, kernels),
            };
            found.push(Mutation {
                module: module.to_string(),
                precision,
                rows: rows.clone(),
                mistake: mistake.to_string(),
                kernels: kernels.to_string(),
                what: what.to_string(),
                edits: vec![],
                caught,
            });
        }
    }
    found
}

fn finding(kinds: &str, kernels: &str) -> Caught {
    Caught::Finding { kinds: kinds.split('|').map(String::from).collect(), kernels: kernels.to_string() }
}

/// Whether `kernels`, as a mutation names them, are all or some of them this one.
pub fn names(kernels: &str, kernel: &str) -> bool {
    kernels
        .split('|')
        .any(|name| name.strip_suffix('*').map_or(name == kernel, |start| kernel.starts_with(start)))
}

/// `kernels/MODULE.cu` and the headers it includes, by name.
pub fn sources(module: &str) -> BTreeMap<String, String> {
    let (mut found, mut open) = (BTreeMap::new(), BTreeSet::from([format!("{module}.cu")]));
    while let Some(name) = open.pop_first() {
        let text = fs::read_to_string(Path::new("kernels").join(&name)).unwrap();
        let included = text.lines().filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"'));
        open.extend(included.filter(|name| !found.contains_key(*name)).map(String::from));
        found.insert(name, text);
    }
    found
}

impl Mutation {
    pub fn label(&self) -> String {
        format!("{}.cu, {}, {}: {}", self.module, self.kernels, self.mistake, self.what)
    }

    /// Makes the edits in the files of the module.
    ///
    /// # Errors
    /// What there is to find isn't there exactly once.
    pub fn apply(&self, files: &mut BTreeMap<String, String>) -> Result<(), String> {
        for (find, replace) in &self.edits {
            let mut places: Vec<(&mut String, Range<usize>)> = vec![];
            let mut count = 0;
            for text in files.values_mut() {
                let ranges = occurrences(text, find);
                count += ranges.len();
                places.extend(ranges.into_iter().next().map(|range| (text, range)));
            }
            let Some((text, range)) = places.pop().filter(|_| count == 1) else {
                return Err(format!("{}: `{}` is there {count} times", self.label(), find.trim()));
            };
            text.replace_range(range, replace.trim());
        }
        Ok(())
    }
}

/// Where `snippet` is in `text`, white space aside.
fn occurrences(text: &str, snippet: &str) -> Vec<Range<usize>> {
    let (text, at) = squeezed(text);
    let (snippet, _) = squeezed(snippet.trim());
    let found = text.match_indices(&snippet);
    found.map(|(start, _)| at[start]..at[start + snippet.len() - 1] + 1).collect()
}

/// ASCII text with one space for each run of white space, and where its bytes were.
fn squeezed(text: &str) -> (String, Vec<usize>) {
    let bytes = text.as_bytes();
    let space = |at: usize| bytes[at].is_ascii_whitespace();
    let at: Vec<usize> = (0..bytes.len()).filter(|&at| at == 0 || !(space(at) && space(at - 1))).collect();
    let kept = at.iter().map(|&at| if space(at) { ' ' } else { char::from(bytes[at]) }).collect();
    (kept, at)
}
