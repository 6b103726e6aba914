//! `pbe convert`: writes a PyTorch checkpoint, or any other readable model file, as safetensors.

use std::path::PathBuf;

use clap::Args;
use pbe::error::{Error, Result};
use pbe::model::{load_set, save};

use super::common::{ModelArgs, print};

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
    input: ModelArgs,
}

/// Runs the command.
pub fn run(args: &ConvertArgs) -> Result<()> {
    if args.output.exists() {
        return Err(Error::file(&args.output, "exists already"));
    }
    let (mut weights, origin) = load_set(&args.model, args.input.weights.as_deref())?;
    if let Some(given) = &args.input.normalisation {
        weights.normalisation = Some(given.resolve(weights.architecture.channels)?);
    }
    save(&weights, &args.output)?;
    let architecture = &weights.architecture;
    let stated =
        if weights.normalisation.is_some() { "" } else { "; it states no normalisation (--normalisation)" };
    print(&format!(
        "{}: {} of width {}, {} classes, {} channels{origin}{stated}\n",
        args.output.display(),
        architecture.network.name(),
        architecture.width,
        architecture.classes,
        architecture.channels
    ))
}
