//! `pbe demo`: plants a backdoor in a model of synthetic images and erases it.
//!
//! It is two commands, which it prints, and a settings file for the second.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use pbe::device::DeviceChoice;
use pbe::error::{Error, Result};
use pbe::fs::write_atomic;
use pbe::report::RunResult;

use super::common::print_result;
use super::device::ComputeArgs;
use super::infect::{Infect, infect};
use super::progress::{Progress, log};
use super::purify::{PurifyArgs, purify};

/// The two commands.
struct Script {
    data: &'static str,
    /// Options of `pbe infect`.
    infect: &'static str,
    /// Settings file of `pbe purify`.
    settings: &'static str,
}

/// Without a clean set.
const FULL: Script = Script {
    data: "synthetic:per_class=600,test_per_class=100",
    infect: "--attack badnets --rate 0.1 --target 0 --width 8 --batch 32 --epochs 9 --lr 0.05 --crop 0 --no-flip",
    settings: include_str!("demo.toml"),
};

/// Two classes of tiny images, of which half are a clean set.
const QUICK: Script = Script {
    data: "synthetic:classes=2,per_class=300,test_per_class=40,size=12",
    infect: "--attack badnets --rate 0.1 --target 0 --width 4 --batch 16 --epochs 8 --lr 0.1 --crop 0 --no-flip",
    settings: include_str!("demo_quick.toml"),
};

/// Options of `pbe demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// A smaller network and set, with a clean set: what an emulated GPU does in minutes
    #[arg(long)]
    quick: bool,
    /// Folder to keep both runs in: infected/ and purified/ [default: none is kept]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace the runs in that folder
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    compute: ComputeArgs,
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
    let script = if args.quick { QUICK } else { FULL };
    let mut line = command("infect", &script, &infected, args);
    line.extend(script.infect.split_whitespace().map(OsString::from));
    let mut first = parse::<Infect>(&line)?.args;
    first.compute = args.compute.clone();
    infect(&first, &progress)?;
    let settings = folder.join("demo.toml");
    write_atomic(&settings, script.settings.as_bytes())?;
    let mut line = command("purify", &script, &purified, args);
    line.extend(["--model".into(), infected.join("model.safetensors").into()]);
    line.extend(["--poison".into(), infected.join("poison.json").into()]);
    line.extend(["--config".into(), settings.into()]);
    let mut second = parse::<Purify>(&line)?.args;
    second.compute = args.compute.clone();
    let mut result = purify(&second, &progress)?;
    result.command = "demo".into();
    Ok(result)
}

/// A command line with the data, the output folder and the shared options.
fn command(name: &str, script: &Script, output: &Path, args: &DemoArgs) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![name.into(), "--data".into(), script.data.into()];
    if args.compute.device != DeviceChoice::Auto {
        line.extend(["--device".into(), args.compute.device.to_string().into()]);
    }
    if let Some(precision) = args.compute.precision {
        line.extend(["--precision".into(), precision.to_string().into()]);
    }
    line.extend(["--seed".into(), args.compute.seed().to_string().into(), "--output".into(), output.into()]);
    line.extend(args.force.then(|| "--force".into()));
    line
}

fn parse<T: Parser>(line: &[OsString]) -> Result<T> {
    let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
    log(&format!("pbe {}", words.join(" ")));
    T::try_parse_from(line).map_err(|cause| Error::run(cause.to_string()))
}
