//! Progressive Backdoor Erasing (Mu et al., CVPR 2023) with an engine of its own.
//!
//! Three floors: method ([`train`] and [`eval`], on them [`inputs`], [`backdoor`], [`analysis`] and [`defense`], on these
//! [`report`]), engine ([`model`], [`engine`]), device ([`device`]). [`data`], [`rng`], [`fs`], [`map`], [`memory`],
//! [`digest`] and [`error`] serve all three. `tests/library/floors.rs` refuses an import that runs the other way. See
//! ARCHITECTURE.md.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod analysis;
pub mod backdoor;
pub mod data;
pub mod defense;
pub mod device;
pub mod digest;
pub mod engine;
pub mod error;
pub mod eval;
pub mod fs;
pub mod inputs;
pub mod map;
pub mod memory;
pub mod model;
pub mod report;
pub mod rng;
pub mod selftest;
pub mod train;

pub use error::{Error, Result};
