//! The program: one file per command, arguments as plain data first, checked objects second.
//!
//! Progress and remarks go to stderr, results to stdout.

mod checkpoint;
mod common;
mod compare;
mod completions;
mod config_file;
mod convert;
mod demo;
mod device;
mod doctor;
mod evaluate;
mod infect;
mod inspect;
mod interrupt;
mod memory;
mod observe;
mod open;
mod poison;
mod profile;
mod progress;
mod purify;
mod rank;
mod selftest;
mod trigger;
mod truth;

use clap::{Parser, Subcommand};
use pbe::error::Result;

/// Progressive Backdoor Erasing: takes a suspect image classifier and its training data, gives back
/// one without the backdoor.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// No progress: results, warnings and errors only
    #[arg(long, global = true, help_heading = "Every command")]
    quiet: bool,
    /// Neither read decoded images from the cache nor keep them there
    #[arg(long, global = true, help_heading = "Every command")]
    no_cache: bool,
    /// Threads [default: all of the machine]; no result depends on it
    #[arg(long, value_name = "N", global = true, help_heading = "Every command",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Subcommand)]
enum Command {
    /// Train a backdoored model on synthetic images, erase the backdoor, show before and after.
    Demo(demo::DemoArgs),
    /// Train a backdoored model, or a benign one (--attack none).
    Infect(Box<infect::InfectArgs>),
    /// Write a poisoned data set as an image folder.
    Poison(poison::PoisonArgs),
    /// Erase the backdoor: infected model and its training data in, purified model out.
    Purify(Box<purify::PurifyArgs>),
    /// Score how likely each training image is clean.
    Rank(rank::RankArgs),
    /// Say from its training images whether a model is infected, for which labels, and which images are suspected.
    Inspect(inspect::InspectArgs),
    /// Measure a model: accuracy, and with a trigger attack success.
    Evaluate(evaluate::EvaluateArgs),
    /// Compare defences on models of `pbe infect`: every model, defence and seed, as tables.
    Compare(Box<compare::CompareArgs>),
    /// Draw the paper's figures for a model and its trigger: confusion matrix of adversarial examples, distances
    /// of features, rankings, rounds.
    Observe(Box<observe::ObserveArgs>),
    /// Write a PyTorch checkpoint (.pt, .pth) as safetensors; nothing in it is executed.
    Convert(convert::ConvertArgs),
    /// Say what this machine offers, and how much memory a run would need.
    Doctor(doctor::DoctorArgs),
    /// Say what every op of a network takes: launches, FLOP, bytes, time, share of a card's roofline.
    Profile(profile::ProfileArgs),
    /// Test every operation of a device against exact arithmetic and the CPU engine.
    Selftest(selftest::SelftestArgs),
    /// Print the completions for a shell, or write man pages.
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Reads the command line; ends the program where clap does.
    ///
    /// # Errors
    /// A settings file that can't be a part of it.
    pub fn read() -> Result<Self> {
        Ok(Self::parse_from(infect::expand(std::env::args_os().collect())?))
    }

    /// Runs the command.
    pub fn run(self) -> Result<()> {
        interrupt::watch()?;
        if self.quiet {
            progress::be_quiet();
        }
        if self.no_cache {
            common::without_cache();
        }
        self.threads.map_or(Ok(()), device::set_threads)?;
        match self.command {
            Command::Demo(args) => demo::run(&args),
            Command::Infect(args) => infect::run(&args),
            Command::Poison(args) => poison::run(&args),
            Command::Purify(args) => purify::run(&args),
            Command::Rank(args) => rank::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Evaluate(args) => evaluate::run(&args),
            Command::Compare(args) => compare::run(&args),
            Command::Observe(args) => observe::run(&args),
            Command::Convert(args) => convert::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Profile(args) => profile::run(&args),
            Command::Selftest(args) => selftest::run(&args),
            Command::Completions(args) => completions::run(&args),
        }
    }
}
