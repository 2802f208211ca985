//! Errors of the program, in one line each.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The reason why the program ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("unknown optimizer {name:?}, known are {known}")]
    UnknownOptimizer { name: String, known: String },

    #[error("cannot read {path}: {error}", path = path.display())]
    Read { path: PathBuf, error: io::Error },

    #[error("{path} is not JSON: {error}", path = path.display())]
    Json { path: PathBuf, error: serde_json::Error },

    #[error("{path}: {error}", path = path.display())]
    Config { path: PathBuf, error: optimizers::Error },

    #[error("{name}: {error}")]
    Training { name: String, error: optimizers::Error },

    #[error("cannot write {path}: {error}", path = path.display())]
    Write { path: PathBuf, error: io::Error },

    #[error("{0}")]
    Checkpoint(optimizers::checkpoint::Error),

    #[error("{path} has checkpoints: use --resume, or choose another folder", path = path.display())]
    NotResumed { path: PathBuf },

    #[error("{path} is of another program", path = path.display())]
    OtherProgram { path: PathBuf },

    #[error("{path} is of a training with seed {found}, not {seed}", path = path.display())]
    OtherSeed { path: PathBuf, found: u64, seed: u64 },

    #[error("cannot draw the loss curves: {0}")]
    Plot(String),

    #[error("cannot print: {0}")]
    Print(io::Error),
}

impl Failure {
    /// Prints the error. The exit code is 2 if the error is in the command line or in a file that it names.
    ///
    /// A reader that closes the pipe early is no failure.
    pub(crate) fn report(&self) -> ExitCode {
        let code = match self {
            Self::Print(error) if error.kind() == ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::UnknownOptimizer { .. } | Self::Read { .. } | Self::Json { .. } | Self::Config { .. } => 2,
            Self::NotResumed { .. } | Self::OtherProgram { .. } | Self::OtherSeed { .. } => 2,
            Self::Training { .. } | Self::Write { .. } | Self::Checkpoint(_) | Self::Plot(_) | Self::Print(_) => 1,
        };
        // If standard error is closed, there is nobody to tell.
        let _ = writeln!(io::stderr(), "error: {}", self.line());
        ExitCode::from(code)
    }

    /// The message with its line breaks, such as those of regular expressions, as spaces.
    fn line(&self) -> String {
        self.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let failure = Failure::UnknownOptimizer { name: "a".to_owned(), known: "b,\n  c".to_owned() };
        assert_eq!(failure.line(), "unknown optimizer \"a\", known are b, c");
    }
}
