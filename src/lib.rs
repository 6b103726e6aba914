//! Progressive Backdoor Erasing (Mu et al., CVPR 2023) with an engine of its own: takes a suspect image classifier and the
//! images it was trained on, gives back one without the backdoor.
//!
//! ```
//! use pbe::{ImageSet, NoopObserver, Options, inspect, load_data, load_model, purify, score};
//!
//! fn main() -> pbe::Result<()> {
//! #   let folder = std::env::temp_dir().join(format!("pbe-doc-{}", std::process::id()));
//! #   std::fs::create_dir_all(&folder).unwrap();
//! #   let suspect = &folder.join("suspect.safetensors");
//! #   let purified_path = &folder.join("purified.safetensors");
//! #   use pbe::model::{Architecture, NetworkKind, Weights, save};
//! #   let network = NetworkKind::PreActResNet18;
//! #   let mut weights = Weights::initialise(Architecture { network, width: 2, classes: 2, channels: 3 }, 0);
//! #   weights.normalisation = Some(pbe::data::Normalisation::identity(3));
//! #   weights.input_size = Some((12, 12));
//! #   save(&weights, suspect)?;
//! #   let data = "synthetic:classes=2,per_class=20,test_per_class=5,size=12";
//!     let mut suspect = load_model(suspect)?;
//!     let data = load_data(data, &mut suspect, &Options::default())?;
//!     let (detection, suspects) = inspect(&suspect, &data.train, &Options::default())?;
//!     println!("{:?}, {} suspected images", detection.verdict, suspects.images.len());
//!
//!     let purified = purify(&suspect, &data.train, &Options::default(), &mut NoopObserver)?;
//!     let scores = score(&suspect, &purified, &data.train, &Options::default())?;
//!     println!("image 0 is clean by {:.2}", scores[0]);
//!     purified.save(purified_path)
//! }
//! ```
//!
//! Images may come from memory ([`ImageSet::new`]), models from bytes ([`Model::from_bytes`]) or tensors
//! ([`Model::from_tensors`]). What is wrong is an
//! [`Error`] of one line. An [`Observer`] follows a purification and may end it.
//!
//! The modules below are what this is made of; they change between versions as the program needs. Three floors: method
//! ([`train`] and [`eval`], on them [`inputs`], [`backdoor`], [`analysis`] and [`defense`], on these [`report`]), engine
//! ([`model`], [`engine`]), device ([`device`]). [`data`], [`rng`], [`fs`], [`map`], [`memory`], [`digest`] and [`error`]
//! serve all three. `tests/library/floors.rs` refuses an import that runs the other way. See ARCHITECTURE.md.
//!
//! Features: `cuda` (a GPU's engine), `decoders` (image types besides JPEG and PNG), `cli` (the program). All are on by
//! default; a library wants `default-features = false` and those it needs.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]

pub mod analysis;
mod api;
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

pub use analysis::{Detection, Verdict};
pub use api::{
    Model, Options, Tensor, attack, inspect, load_data, load_model, logits, predict, purify, score,
};
pub use data::{Dataset, ImageSet};
pub use defense::{NoopObserver, Observer};
pub use device::{DeviceChoice, Precision};
pub use error::{Error, Result};
pub use eval::Suspects;
