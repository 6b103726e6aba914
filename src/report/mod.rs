//! Results: what is measured, and the files and tables it is written to.

pub mod csv;
mod measure;
mod metrics;
pub mod page;
mod ranking;
mod result;
mod run_folder;
pub mod svg;
mod table;

pub use measure::{TestBed, logits};
pub use metrics::{Figures, accuracy, attack_figures, defense_effectiveness, predictions};
pub use ranking::{CurvePoint, average_precision, precision, precision_recall, ranked, top_precision};
pub use result::{COMMIT, Look, Round, RunResult, SCHEMA, Seconds};
pub use run_folder::RunFolder;
pub use table::{Table, comparison, figure};
