//! Progressive Backdoor Erasing (Mu et al., CVPR 2023) with an engine of its own.
//!
//! Three floors: method (`backdoor`, `defense`, `report`), engine (`model`, `engine`),
//! device ([`device`]). Data flows down, results flow up. See ARCHITECTURE.md.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod analysis;
pub mod backdoor;
pub mod data;
pub mod defense;
pub mod device;
pub mod engine;
pub mod error;
pub mod fs;
pub mod model;
pub mod report;
pub mod rng;
pub mod selftest;

pub use error::{Error, Result};
