//! Results: the files and tables they are written to.

pub mod checkpoint;
pub mod comparison;
pub mod csv;
mod findings;
pub mod page;
mod purify_checkpoint;
mod result;
mod run_folder;
pub mod svg;
mod table;

pub use findings::{findings, not_done};
pub use purify_checkpoint::{CheckpointMeta, RunSizes};
pub use result::{
    COMMIT, ClassRecall, FilterResult, RoundResult, RunResult, SCHEMA, Seconds, TrainingAccuracy,
};
pub use run_folder::{Begin, RunFolder};
pub use table::{Table, comparison, two_decimals};
