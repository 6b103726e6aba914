//! What training images and adversarial examples tell about a model: the paper's observations, and a verdict.

mod asr_estimate;
mod common_change;
mod confusion;
mod features;
mod inspect;
mod observe;
mod suspects;
mod transfer;
mod tsne;

pub use asr_estimate::{AsrEstimate, AsrProbe, EstimatedFrom};
pub use confusion::ConfusionMatrix;
pub use features::{features, mean_distance};
pub use inspect::{Inspection, THRESHOLD, TransferTest, Verdict, judge};
pub use observe::{Observation, observe};
pub use suspects::{Detection, LabelSuspects, SUSPECT_DEVIATION, Suspects, find_suspects};
pub use transfer::{ATTACKS, AttackStatistics, Transfer, UntargetedAttack, attack_statistics};
pub use tsne::tsne;
