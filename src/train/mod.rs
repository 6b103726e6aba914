//! Training: one loop over batches, its schedule, distillation, and adversarial examples (PGD).
//!
//! Planting a backdoor and erasing one both stand on it.

mod check;
mod config;
mod distillation;
mod pgd;
mod schedule;
mod trainer;

pub use check::{
    MAX_EPOCHS, MAX_ITERATIONS, at_least, below_one, non_negative, positive, share, steps, within,
};
pub use config::{PgdConfig, TrainConfig, TrainerConfig};
pub use pgd::{Adversarial, budgets, pgd, pgd_params};
pub use schedule::Schedule;
pub use trainer::{
    Batch, EpochImages, Optimizer, StepEvent, TrainCursor, TrainJob, check_loss, steps_per_epoch, train,
};
