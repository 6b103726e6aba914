//! What training images and adversarial examples tell about a model: the paper's observations, and a verdict.

mod asr_estimate;
mod confusion;
mod detection;
mod features;
mod inspect;
mod observe;
mod transfer;
mod tsne;

pub use asr_estimate::{AsrEstimate, AsrProbe, EstimatedFrom};
pub use confusion::ConfusionMatrix;
pub use detection::Detection;
pub use features::{features, mean_distance};
pub use inspect::{Inspection, THRESHOLD, TransferTest, Verdict, judge};
pub use observe::{Observation, observe};
pub use transfer::{ATTACKS, AttackStatistics, Transfer, UntargetedAttack, attack_statistics};
pub use tsne::tsne;
