//! The library's error type: the cause, the file, and the exit code that follows.

use std::path::{Path, PathBuf};

/// Everything that can go wrong. [`Error::exit_code`] maps it to the program's exit codes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder can't be used: the message names it and the cause.
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: String },
    /// A file can't be written: the message names it and the cause.
    #[error("{}: can't be written: {cause}", path.display())]
    Write { path: PathBuf, cause: String },
    /// Arguments or inputs that don't fit, with the cause.
    #[error("{0}")]
    Input(String),
    /// The run itself failed (a loss became NaN, a device failed).
    #[error("{0}")]
    Run(String),
    /// The verdict that `--fail-on` names.
    #[error("{0}")]
    Verdict(String),
    /// Ctrl-C or SIGTERM: stopped after the current batch.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A fault of the file at `path`.
    pub fn file(path: impl AsRef<Path>, cause: impl std::fmt::Display) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), cause: cause.to_string() }
    }

    /// The file at `path` can't be written.
    pub fn write(path: impl AsRef<Path>, cause: impl std::fmt::Display) -> Self {
        Error::Write { path: path.as_ref().to_path_buf(), cause: cause.to_string() }
    }

    /// A fault in the arguments.
    pub fn input(cause: impl std::fmt::Display) -> Self {
        Error::Input(cause.to_string())
    }

    /// A fault of the run.
    pub fn run(cause: impl std::fmt::Display) -> Self {
        Error::Run(cause.to_string())
    }

    /// 2 where arguments, inputs or files are wrong, 1 where the run failed, 3 for the verdict that `--fail-on` names,
    /// 130 after Ctrl-C.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::File { .. } | Error::Input(_) => 2,
            Error::Run(_) | Error::Write { .. } => 1,
            Error::Verdict(_) => 3,
            Error::Interrupted(_) => 130,
        }
    }
}
