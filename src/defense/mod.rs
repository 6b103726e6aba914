//! Progressive Backdoor Erasing: Algorithm 1 ([`pbe`]) and its steps.

mod check;
pub mod config;
pub mod examples;
pub mod filter;
pub mod fine_tune;
pub mod pbe;
pub mod rank;
pub mod selection;
pub mod state;
#[cfg(test)]
mod tests;
pub mod views;
pub mod watcher;
