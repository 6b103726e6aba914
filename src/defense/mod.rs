//! Progressive Backdoor Erasing: Algorithm 1 ([`pbe`]) and its steps.

mod check;
pub mod config;
pub mod filter;
pub mod pbe;
pub mod selection;
pub mod state;
#[cfg(test)]
mod tests;
pub mod views;
pub mod watcher;
