//! Results: the files and tables they are written to.

pub mod csv;
pub mod page;
mod result;
mod run_folder;
pub mod svg;
mod table;

pub use result::{COMMIT, FilterResult, RoundResult, RunResult, SCHEMA, Seconds};
pub use run_folder::{Begin, RunFolder};
pub use table::{Table, comparison, two_decimals};
