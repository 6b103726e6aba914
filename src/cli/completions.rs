//! `pbe completions`: what shells and `man` know of the command line, made from its definition.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use pbe::error::{Error, Result};

use super::common::print;

/// Options of `pbe completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// Shell whose completions go to stdout
    #[arg(required_unless_present = "man")]
    shell: Option<Shell>,
    /// Write pbe.1 and a page for each command into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "shell")]
    man: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<()> {
    let mut command = super::Cli::command();
    if let Some(folder) = &args.man {
        std::fs::create_dir_all(folder).map_err(|cause| Error::file(folder, cause))?;
        return clap_mangen::generate_to(command, folder).map_err(|cause| Error::file(folder, cause));
    }
    let mut text = vec![];
    if let Some(shell) = args.shell {
        clap_complete::generate(shell, &mut command, "pbe", &mut text);
    }
    print(&String::from_utf8_lossy(&text))
}
