//! `pbe compare`: models, defences and seeds, each run on the same checkpoint and the same clean set.
//!
//! | file | |
//! |---|---|
//! | `models` | the models, as `pbe infect` left them |
//! | `defences` | what a row of the tables is |
//! | `cells` | one run: a model, a defence, a seed |
//! | `shard` | the part of the runs that one process does |

mod cells;
mod defences;
mod models;
mod shard;

use std::path::PathBuf;

use clap::Args;
use pbe::error::{Error, Result};
use pbe::fs::write_atomic;
use pbe::report::comparison::{Comparison, Outcome};
use pbe::report::{Begin, RunFolder};
use serde::Serialize;

use super::common::print;
use super::device::ComputeArgs;
use super::interrupt;
use super::progress::{Progress, log};
use cells::{Cell, Shared};
use defences::ComparedDefence;
use models::InfectedModel;
use shard::Shard;

/// Most seeds of a comparison.
const SEEDS: u64 = 1000;

/// Options of `pbe compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// Run folders of `pbe infect`
    #[arg(long, value_name = "DIR", num_args = 1.., required = true, help_heading = "What is compared")]
    models: Vec<PathBuf>,
    /// Defences, between commas, or all
    ///
    /// Those of `purify --defense`, each with a clean set, and pbe-no-clean: pbe on the poisoned training data alone.
    #[arg(long, value_name = "NAMES", default_value = "all", help_heading = "What is compared")]
    defenses: String,
    /// Runs of each defence on each model; their seeds count up from --seed
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "What is compared")]
    seeds: u64,
    /// Share of the training images that is the clean set
    ///
    /// The images depend on model and seed alone: all defences get the same.
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.05,
        allow_negative_numbers = true,
        help_heading = "What is compared"
    )]
    clean: f64,
    /// Data set of all models, or one for each in the order of --models [default: those they were trained on]
    #[arg(long, value_name = "DIR", num_args = 1.., help_heading = "What is compared")]
    data: Vec<PathBuf>,
    /// Take only so many training images, out of those that the model was trained on [default: all of those]
    #[arg(long, value_name = "N", help_heading = "What is compared")]
    limit: Option<usize>,
    /// Folder of the comparison: the runs in runs/, and compare.md, .csv, .tex, .html
    ///
    /// Runs that have ended there are not done again, an interrupted one goes on.
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    output: PathBuf,
    /// Do only every Nth run, from the Kth on; then the tables are written from all that is there
    #[arg(long, value_name = "K/N", help_heading = "Run")]
    shard: Option<String>,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What all runs in the folder have in common. Models, defences and seeds may be added.
#[derive(Serialize)]
struct CompareSettings {
    clean: f64,
    limit: Option<usize>,
    precision: Option<String>,
}

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<()> {
    let shard = args.shard.as_deref().map(Shard::parse).transpose()?;
    let cells = plan(args)?;
    let settings = CompareSettings {
        clean: args.clean,
        limit: args.limit,
        precision: args.compute.precision.map(|precision| precision.to_string()),
    };
    // Shards share the folder: it is held only while it is looked at, and while tables are written.
    let take = || RunFolder::create(&args.output, "compare", &settings, Begin::Share);
    drop(take()?);
    let shared = Shared { output: &args.output, clean: args.clean, compute: &args.compute };
    cells.iter().try_for_each(|cell| cell.check_present(&shared))?;
    let failed = compute(&cells, shard, &shared)?;
    let folder = take()?;
    let comparison = Comparison { about: about(args, &cells), runs: collect(&cells, &shared)? };
    write(&comparison, &folder)?;
    print(&if args.compute.json { comparison.to_json()? } else { comparison.to_markdown() })?;
    // Data that no run can use, for one, aren't the fault of a run.
    match failed {
        Some(cause) => Err(Error::run(format!("every run failed: {cause}"))),
        None => Ok(()),
    }
}

/// The cells in their order, which shards count by.
fn plan(args: &CompareArgs) -> Result<Vec<Cell>> {
    let defences = ComparedDefence::parse(&args.defenses)?;
    let (share, first, seeds) = (args.clean, args.compute.seed(), args.seeds);
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::input(format!("--clean {share} is not above 0 and at most 1")));
    }
    if !(1..=SEEDS).contains(&seeds) {
        return Err(Error::input(format!("--seeds {seeds} is not from 1 to {SEEDS}")));
    }
    if first > i64::MAX as u64 - seeds {
        return Err(Error::input(format!("--seed {first}: there are no {seeds} seeds from there on")));
    }
    if args.limit == Some(0) {
        return Err(Error::input("--limit 0: no training image would be left"));
    }
    let models = InfectedModel::read_all(&args.models, &args.data, args.limit)?;
    let mut cells = vec![];
    for model in &models {
        for &defence in &defences {
            cells.extend((first..first + seeds).map(|seed| Cell { model: model.clone(), defence, seed }));
        }
    }
    Ok(cells)
}

/// Runs the cells that aren't done. Returns the last error where every one of them failed.
fn compute(cells: &[Cell], shard: Option<Shard>, shared: &Shared) -> Result<Option<Error>> {
    let mine = cells.iter().enumerate().filter(|(number, _)| shard.is_none_or(|shard| shard.has(*number)));
    let left: Vec<_> = mine.filter(|(_, cell)| !cell.is_done(shared)).collect();
    if left.is_empty() {
        return Ok(None);
    }
    // A device that isn't there is a fault of the command, not of each run.
    drop(shared.compute.open()?);
    let (progress, mut failed, mut last) = (Progress::new(), 0, None);
    for (number, cell) in &left {
        // Another process may have done it meanwhile.
        if cell.is_done(shared) {
            continue;
        }
        log(&format!("run {} of {}: {}", number + 1, cells.len(), cell.words()));
        match cell.run(shared, &progress).and_then(|()| interrupt::check()) {
            Ok(()) => {}
            Err(Error::Interrupted(_)) => {
                return Err(Error::Interrupted("the same command again goes on from there".into()));
            }
            // One that can't be written to is full: the other runs would fail as well.
            Err(cause @ (Error::Write { .. } | Error::Verdict(_))) => return Err(cause),
            Err(cause) => {
                progress.clear();
                log(&format!("warning: {} failed: {cause}", cell.words()));
                cell.note(shared, &cause)?;
                (failed, last) = (failed + 1, Some(cause));
            }
        }
    }
    if failed > 0 {
        log(&format!("warning: {failed} of {} runs failed; the tables say why", left.len()));
    }
    Ok(last.filter(|_| failed == left.len()))
}

fn collect(cells: &[Cell], shared: &Shared) -> Result<Vec<pbe::report::comparison::ComparedRun>> {
    cells.iter().map(|cell| cell.result(shared)).collect()
}

/// What is compared, in a sentence.
fn about(args: &CompareArgs, cells: &[Cell]) -> String {
    let (first, last) = (args.compute.seed(), args.compute.seed() + args.seeds - 1);
    let seeds = if first == last { format!("seed {first}") } else { format!("seeds {first} to {last}") };
    let images = args.limit.map_or_else(|| "the".into(), |limit| limit.to_string());
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let models = args.models.len();
    let defences = cells.len() / models.max(1) / args.seeds.max(1) as usize;
    // A share has the digits of its text.
    let share = (1e8 * args.clean).round() / 1e6;
    format!(
        "{}, {}, {seeds}; {share} % of {images} training images are a seed's clean set, the same for all defences that get one.",
        count(models, "model"),
        count(defences, "defence"),
    )
}

fn write(comparison: &Comparison, folder: &RunFolder) -> Result<()> {
    let file = |name: &str| folder.path().join(name);
    comparison.write_csv(&file("compare.csv"))?;
    write_atomic(file("compare.md"), comparison.to_markdown().as_bytes())?;
    write_atomic(file("compare.tex"), comparison.to_latex().as_bytes())?;
    write_atomic(file("compare.html"), comparison.to_page()?.as_bytes())?;
    let missing = comparison.runs.iter().filter(|run| run.outcome == Outcome::Missing).count();
    log(&format!(
        "{}: {} runs, {missing} of them not done yet",
        folder.path().display(),
        comparison.runs.len()
    ));
    Ok(())
}
