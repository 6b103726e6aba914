//! `pbe poison`: a poisoned data set as an image folder, for any tool.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use pbe::data::write_folder;
use pbe::device::Precision;
use pbe::error::Result;
use pbe::report::RunFolder;
use serde::Serialize;

use super::common::{DataArgs, DataConfig, Provenance, print};
use super::progress::Progress;
use super::trigger::{AttackKind, Choice, TriggerArgs};

/// Options of `pbe poison`.
#[derive(Args)]
pub struct PoisonArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Attack
    #[arg(long, value_enum)]
    attack: AttackKind,
    #[command(flatten)]
    trigger: TriggerArgs,
    /// Folder to write: train/<class>/, test/<class>/ (clean), poison.json
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Decides which images are poisoned
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
}

#[derive(Serialize)]
struct Config<'a> {
    #[serde(flatten)]
    provenance: Provenance,
    attack: &'a Choice,
    data: DataConfig,
}

/// Runs the command.
pub fn run(args: &PoisonArgs) -> Result<()> {
    let choice = args.trigger.check(args.attack)?;
    let progress = Progress::new();
    let loaded = args.data.load(None, None, args.seed, &progress)?;
    let data = DataConfig::new(&args.data, &loaded.set, &loaded.set.normalisation);
    let config = Config {
        provenance: Provenance::new("cpu".into(), Precision::F32, args.seed),
        attack: &choice,
        data,
    };
    let mut planted = choice.plant(loaded.limited(loaded.set.train.clone()), args.seed)?;
    let folder = RunFolder::create(&args.output, "poison", &config, false)?;
    progress.log(&format!("writing {} images", planted.poisoned.images.len()));
    let order = write_folder(folder.path(), "train", &planted.poisoned.images)?;
    if let Some(test) = &loaded.set.test {
        write_folder(folder.path(), "test", test)?;
    }
    // A poisoned image lies in its new class's folder, so it has another number there.
    let places = |listed: &[u32]| {
        let written = order.iter().enumerate().filter(|(_, index)| listed.binary_search(index).is_ok());
        written.map(|(place, _)| place as u32).collect()
    };
    planted.truth.train.indices = places(&planted.poisoned.indices);
    planted.truth.train.noise = places(&planted.poisoned.noise);
    planted.truth.train.applied = true;
    planted.truth.save(&folder.poison())?;
    let (poisoned, images) = (planted.truth.train.indices.len(), planted.truth.train.images);
    let attack = args.attack.to_possible_value().map_or_else(String::new, |value| value.get_name().into());
    print(&format!("{}: {images} images, {poisoned} of them poisoned ({attack})\n", args.output.display()))
}
