//! `pbe`: reads the arguments, runs the command, prints what went wrong.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::read().and_then(cli::Cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pbe: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
