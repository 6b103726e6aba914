//! Backdoors: triggers, poisoned training sets and the file that describes them (`poison.json`).
//!
//! An [`Attack`] is what an attacker chooses, a [`Trigger`] the same prepared for one image size.
//! [`poison`] plants it in a training set, [`triggered_test`] stamps a test set for the attack
//! success rate, and a [`PoisonFile`] keeps both for later. [`plant`] trains a model on the result.

mod attack;
pub mod dynamic;
mod pattern;
mod picture;
mod plant;
mod poison;
mod poison_file;
mod trigger;
mod warp;

pub use attack::{Attack, LabelMode};
pub use dynamic::Dynamic;
pub use picture::Picture;
pub use plant::{Lesson, PlantConfig, plant};
pub use poison::{Amount, Poisoned, Selection, poison, select, triggered_test};
pub use poison_file::{PoisonFile, PoisonedTrain};
pub use trigger::Trigger;
pub use warp::Warp;
