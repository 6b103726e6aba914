//! `pbe selftest`: every op of a device against the f64 reference and the CPU engine.

use clap::Args;
use pbe::error::{Error, Result};
use pbe::selftest::{Depth, SelftestReport, SelftestRow};
use serde::Serialize;
use serde_json::{Value, json};

use super::common::print;
use super::device::ComputeArgs;
use super::progress::Progress;

/// Options of `pbe selftest`.
#[derive(Args)]
pub struct SelftestArgs {
    /// Fewer combinations and small sizes: what an emulator does in minutes
    #[arg(long)]
    quick: bool,
    /// Only the rows of the table whose name has this in it, such as Conv or network
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    only: String,
    /// End after the first case that fails
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// The `--json` output.
#[derive(Serialize)]
struct SelftestJson {
    schema: u32,
    command: &'static str,
    version: &'static str,
    commit: &'static str,
    device: String,
    passed: bool,
    rows: Vec<Value>,
}

/// Runs the command; a row that fails is an error of the run.
pub fn run(args: &SelftestArgs) -> Result<()> {
    let device = args.compute.open()?;
    let progress = Progress::new();
    let depth = if args.quick { Depth::Quick } else { Depth::Full };
    let mut done = 0;
    let report =
        pbe::selftest::run(device.as_ref(), depth, &args.only, args.fail_fast, &mut |doing, total| {
            progress.show("self-test", done, total, Some(doing.to_string()));
            done += 1;
        })?;
    progress.clear();
    print(&if args.compute.json { document(&report)? } else { table(&report) })?;
    verdict(&report)
}

/// An error of the run where a row fails.
fn verdict(report: &SelftestReport) -> Result<()> {
    let missed: Vec<&str> =
        report.rows.iter().filter(|row| !row.passes()).map(|row| row.name.as_str()).collect();
    match missed.len() {
        0 => Ok(()),
        count => Err(Error::run(format!(
            "{count} of {} rows of the self-test fail: {}",
            report.rows.len(),
            missed.join("; ")
        ))),
    }
}

fn document(report: &SelftestReport) -> Result<String> {
    let rows = report.rows.iter().map(|row| {
        let mut value = serde_json::to_value(row).map_err(Error::run)?;
        value["passed"] = json!(row.passes());
        Ok(value)
    });
    let json = SelftestJson {
        schema: pbe::report::SCHEMA,
        command: "selftest",
        version: env!("CARGO_PKG_VERSION"),
        commit: pbe::report::COMMIT,
        device: report.device.clone(),
        passed: report.passes(),
        rows: rows.collect::<Result<_>>()?,
    };
    serde_json::to_string_pretty(&json).map(|text| text + "\n").map_err(Error::run)
}

/// Rows as text; those that fail with the place of the worst error.
fn table(report: &SelftestReport) -> String {
    let mut text = format!("device   {}\n\n", report.device);
    text += &line("op", "against", "cases", "worst", "allowed", "");
    for row in &report.rows {
        let verdict = if row.passes() { "pass" } else { "FAIL" };
        let (worst, allowed) = (format!("{:.1e}", row.worst), format!("{:.1e}", row.tolerance));
        text += &line(&row.name, row.against, &row.cases.to_string(), &worst, &allowed, verdict);
        if !row.passes() {
            text += &format!("    {}\n", explanation(row));
        }
    }
    text + &summary(report)
}

/// How many rows pass, and those that don't once more.
fn summary(report: &SelftestReport) -> String {
    let cases: usize = report.rows.iter().map(|row| row.cases).sum();
    let failed: Vec<_> = report.rows.iter().filter(|row| !row.passes()).collect();
    let mut text =
        format!("\n{} of {} rows pass, {cases} cases\n", report.rows.len() - failed.len(), report.rows.len());
    for row in failed {
        text += &format!("FAIL {} against {}: {}\n", row.name, row.against, explanation(row));
    }
    text
}

fn line(name: &str, against: &str, cases: &str, worst: &str, allowed: &str, verdict: &str) -> String {
    format!("{name:<30}{against:<8}{cases:>6}{worst:>10}{allowed:>10}  {verdict}\n")
}

fn explanation(row: &SelftestRow) -> String {
    if row.cases == 0 { "no case ran".into() } else { row.place.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miss_is_shown_and_ends_with_1() {
        let mut report = SelftestReport::new("a device".into(), "");
        for name in ["GlobalAvgPool", "Conv"] {
            report.expect(name, "f64", 1e-3);
            report.add(name, "f64", 1e-5, "a case", "");
        }
        assert!(verdict(&report).is_ok() && !table(&report).contains("FAIL"));
        report.add("Conv", "f64", f64::INFINITY, "another case", "Arena 7: 1 is not 2");
        let error = verdict(&report).unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert_eq!(error.to_string(), "1 of 2 rows of the self-test fail: Conv");
        assert!(table(&report).contains("FAIL\n    another case: Arena 7: 1 is not 2\n"));
        let end = "1 of 2 rows pass, 3 cases\nFAIL Conv against f64: another case: Arena 7: 1 is not 2\n";
        assert!(table(&report).ends_with(end), "{}", table(&report));
        let document: Value = serde_json::from_str(&document(&report).unwrap()).unwrap();
        assert_eq!((&document["passed"], &document["rows"][1]["passed"]), (&json!(false), &json!(false)));
        assert_eq!(document["rows"][1]["worst"], Value::Null);
    }
}
