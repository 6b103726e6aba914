//! `pbe poison`: a poisoned data set as an image folder, for any tool.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use pbe::data::write_folder;
use pbe::device::Precision;
use pbe::error::{Error, Result};
use pbe::report::RunFolder;
use serde::Serialize;

use super::common::{DataArgs, DataConfig, Provenance, begin, print};
use super::open::tell;
use super::progress::Progress;
use super::trigger::{PoisonSettings, TriggerArgs};

/// Options of `pbe poison`.
#[derive(Args)]
pub struct PoisonArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    trigger: TriggerArgs,
    /// Folder to write: train/<class>/, test/<class>/ (clean), poison.json
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Replace what an earlier run has left in that folder
    #[arg(long)]
    force: bool,
    /// Decides which images are poisoned
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
}

#[derive(Serialize)]
struct PoisonConfig<'a> {
    #[serde(flatten)]
    provenance: Provenance,
    attack: &'a PoisonSettings,
    data: DataConfig,
}

/// Removes what an earlier run has written.
fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(Error::write(folder, cause)),
        _ => Ok(()),
    }
}

/// Runs the command.
pub fn run(args: &PoisonArgs) -> Result<()> {
    let none = || Error::input("--attack none: nothing would be poisoned");
    let settings = args.trigger.check()?.ok_or_else(none)?;
    let progress = Progress::new();
    let loaded = args.data.load(None, None, args.seed, &progress)?;
    tell(&args.data.data, &loaded.set, &[], &progress);
    let data = DataConfig::new(&args.data, &loaded.set, &loaded.set.normalisation);
    let config = PoisonConfig {
        provenance: Provenance::new("cpu".into(), Precision::F32, args.seed),
        attack: &settings,
        data,
    };
    let mut data_set = settings.poison(loaded.limited(loaded.set.train.clone()), args.seed)?;
    let folder = RunFolder::create(&args.output, "poison", &config, begin(args.force))?;
    for split in ["train", "test"].map(|split| folder.path().join(split)).iter().filter(|_| args.force) {
        remove_folder(split)?;
    }
    progress.log(&format!("writing {} images", data_set.poisoned.images.len()));
    let order = write_folder(folder.path(), "train", &data_set.poisoned.images)?;
    if let Some(test) = &loaded.set.test {
        write_folder(folder.path(), "test", test)?;
    }
    // A poisoned image is written to its new class's folder and gets another index there.
    let places = |listed: &[u32]| {
        let written = order.iter().enumerate().filter(|(_, index)| listed.binary_search(index).is_ok());
        written.map(|(place, _)| place as u32).collect()
    };
    data_set.truth.train.indices = places(&data_set.poisoned.indices);
    data_set.truth.train.noise = places(&data_set.poisoned.noise);
    data_set.truth.train.applied = true;
    data_set.truth.save(&folder.poison())?;
    let (poisoned, images) = (data_set.truth.train.indices.len(), data_set.truth.train.images);
    print(&format!(
        "{}: {images} images, {poisoned} of them poisoned ({})\n",
        args.output.display(),
        data_set.truth.attack.name()
    ))
}
