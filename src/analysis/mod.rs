//! What adversarial examples tell about a model: the paper's observations, and a verdict from them.

mod confusion;
mod features;
mod inspect;
mod observe;
mod transfer;
mod tsne;

pub use confusion::ConfusionMatrix;
pub use features::{features, mean_distance};
pub use inspect::{Inspection, THRESHOLD, Verdict, judge};
pub use observe::{Observation, observe};
pub use transfer::{ATTACKS, AttackStatistics, Transfer, UntargetedAttack, attack_statistics};
pub use tsne::tsne;
