//! Evaluation: what a classifier says about images, and the figures that follow from it.

mod activation_gradients;
mod evaluator;
mod filter;
mod metrics;
mod predict;
mod ranking;
mod reconstructed_trigger;
mod suspects;
mod views;

pub use activation_gradients::activation_deviation;
pub use evaluator::Evaluator;
pub use filter::{Filter, FilterAttack, FilterChain, FilterReport, MAX_DROPPED, agreeing};
pub use metrics::{Metrics, accuracy, attack_metrics, defense_effectiveness};
pub use predict::{Agreement, agreement, logits, logits_with_progress, predict, predictions};
pub use ranking::{CurvePoint, average_precision, precision, precision_recall, ranked, top_precision};
pub use reconstructed_trigger::{
    LabelProbe, ReconstructedTrigger, TRIGGER_WORKS, WorkingTrigger, evenly_sampled,
};
pub use suspects::{LabelSuspects, SUSPECT_DEVIATION, Suspects, find_suspects, find_suspects_again};
pub use views::View;
