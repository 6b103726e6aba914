//! Backdoors: triggers, poisoned training sets and the file that describes them (`poison.json`).
//!
//! An [`Attack`] holds the attacker's parameters, a [`Trigger`] is the attack prepared for one image size.
//! [`poison`] puts it into a training set, [`triggered_test`] stamps a test set to measure the attack success
//! rate, and a [`PoisonFile`] stores the attack and the poisoned indices. [`train_backdoored`] trains a model on the result.

mod attack;
mod bench_record;
mod classifier;
pub mod dynamic;
mod pattern;
mod picture;
mod poison;
mod poison_file;
mod trigger;
mod warp;

pub use attack::{Attack, LabelMode};
pub use bench_record::BenchRecord;
pub use classifier::{InfectConfig, InfectJob, train_backdoored};
pub use dynamic::Dynamic;
pub use picture::Picture;
pub use poison::{Poisoned, Selection, poison, select, triggered_evaluator, triggered_test};
pub use poison_file::{PoisonFile, PoisonedTrain};
pub use trigger::Trigger;
pub use warp::Warp;
