//! Evaluation: what a classifier says about images, and the figures that follow from it.

mod evaluator;
mod metrics;
mod predict;
mod ranking;

pub use evaluator::Evaluator;
pub use metrics::{Metrics, accuracy, attack_metrics, defense_effectiveness};
pub use predict::{Agreement, agreement, logits, logits_with_progress, predict, predictions};
pub use ranking::{CurvePoint, average_precision, precision, precision_recall, ranked, top_precision};
