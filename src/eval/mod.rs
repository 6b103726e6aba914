//! Evaluation: what a classifier says about images, and the figures that follow from it.

mod activation_gradients;
mod evaluator;
mod metrics;
mod predict;
mod ranking;
mod views;

pub use activation_gradients::{ActivationDeviation, activation_deviation};
pub use evaluator::Evaluator;
pub use metrics::{Metrics, accuracy, attack_metrics, defense_effectiveness};
pub use predict::{Agreement, agreement, logits, logits_with_progress, predict, predictions};
pub use ranking::{CurvePoint, average_precision, precision, precision_recall, ranked, top_precision};
pub use views::{View, consistent};
