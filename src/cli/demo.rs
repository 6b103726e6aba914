//! `pbe demo`: plants a backdoor in a model of synthetic images and erases it, without a clean set.
//!
//! It is two commands and nothing else, and says which.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use pbe::error::{Error, Result};
use pbe::report::RunResult;

use super::common::{ComputeArgs, print_result};
use super::infect::{InfectArgs, infect};
use super::progress::{Progress, tell};
use super::purify::{PurifyArgs, purify};

/// Images of both runs.
const DATA: &str = "synthetic:per_class=600,test_per_class=100";
/// The model and how it is planted.
const INFECT: &str =
    "--attack badnets --rate 0.1 --target 0 --width 8 --batch 32 --epochs 9 --lr 0.05 --crop 0 --no-flip";
/// What differs from the default recipe, which is made for larger sets.
const PURIFY: &str = "--batch 32 --first-clean-epochs 20 --last-epochs 4";

/// Options of `pbe demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// Folder to keep both runs in: infected/ and purified/ [default: none is kept]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Parser)]
struct Infect {
    #[command(flatten)]
    args: InfectArgs,
}

#[derive(Parser)]
struct Purify {
    #[command(flatten)]
    args: PurifyArgs,
}

/// Runs the command.
pub fn run(args: &DemoArgs) -> Result<()> {
    let Some(folder) = &args.output else {
        let folder = std::env::temp_dir().join(format!("pbe-demo-{}", std::process::id()));
        let result = both(args, &folder);
        // What is left in the folder for temporary files does no harm.
        let _ = std::fs::remove_dir_all(&folder);
        return print_result(&result?, args.compute.json);
    };
    print_result(&both(args, folder)?, args.compute.json)
}

fn both(args: &DemoArgs, folder: &Path) -> Result<RunResult> {
    let progress = Progress::new();
    let (infected, purified) = (folder.join("infected"), folder.join("purified"));
    let line = command("infect", INFECT, &infected, args);
    let mut first = parse::<Infect>(&line)?.args;
    first.compute = args.compute.clone();
    infect(&first, &progress)?;
    let mut line = command("purify", PURIFY, &purified, args);
    line.extend(["--model".into(), infected.join("model.safetensors").into()]);
    line.extend(["--poison".into(), infected.join("poison.json").into()]);
    let mut second = parse::<Purify>(&line)?.args;
    second.compute = args.compute.clone();
    let mut result = purify(&second, &progress)?;
    result.command = "demo".into();
    Ok(result)
}

/// A command line with the data, the output folder and the shared options.
fn command(name: &str, options: &str, output: &Path, args: &DemoArgs) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![name.into(), "--data".into(), DATA.into()];
    line.extend(options.split_whitespace().map(OsString::from));
    line.extend(["--seed".into(), args.compute.seed.to_string().into(), "--output".into(), output.into()]);
    line
}

fn parse<T: Parser>(line: &[OsString]) -> Result<T> {
    let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
    tell(&format!("pbe {}", words.join(" ")));
    T::try_parse_from(line).map_err(|cause| Error::run(cause.to_string()))
}
