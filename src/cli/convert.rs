//! `pbe convert`: writes a PyTorch checkpoint, or any other readable model file, as safetensors.

use std::path::PathBuf;

use clap::Args;
use pbe::error::{Error, Result};
use pbe::model::{load, save};

use super::common::{NormalisationArgs, print};

/// Options of `pbe convert`.
#[derive(Args)]
pub struct ConvertArgs {
    /// The model: .pt or .pth as torch.save writes it, or safetensors
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    normalisation: NormalisationArgs,
}

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<()> {
    if args.output.exists() {
        return Err(Error::file(&args.output, "exists already"));
    }
    let mut weights = load(&args.model)?;
    if let Some(given) = &args.normalisation.normalisation {
        if given.channels() != weights.architecture.channels {
            return Err(Error::input(format!(
                "--normalisation has {} channels, the model in {} takes {}",
                given.channels(),
                args.model.display(),
                weights.architecture.channels
            )));
        }
        weights.normalisation = Some(given.clone());
    }
    save(&weights, &args.output)?;
    let architecture = &weights.architecture;
    let stated =
        if weights.normalisation.is_some() { "" } else { "; it states no normalisation (--normalisation)" };
    print(&format!(
        "{}: {} of width {}, {} classes, {} channels{stated}\n",
        args.output.display(),
        architecture.network.name(),
        architecture.width,
        architecture.classes,
        architecture.channels
    ))
}
