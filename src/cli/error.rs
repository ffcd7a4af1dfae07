//! Errors of the commands that call a broker's API, and their exit codes.

use std::{io, process::ExitCode};

use thiserror::Error;

use super::print_error;
use crate::{client::ClientError, domain::one_line};

/// The error with which a command ends.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A call failed.
    #[error(transparent)]
    Client(Box<ClientError>),
    /// A call failed, and there is a remedy.
    #[error("{error}; {hint}")]
    Hinted {
        /// The error of the call.
        error: Box<ClientError>,
        /// A clause that says what to do.
        hint: String,
    },
    /// A listing ended before its last page.
    #[error("the list is incomplete, it ends after {printed} entries: {error}")]
    Incomplete {
        /// The number of entries that were printed.
        printed: u64,
        /// The error of the page that followed them.
        error: Box<ClientError>,
    },
    /// The arguments are invalid or incomplete; nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// The command did not do its work.
    #[error("{0}")]
    Failed(String),
    /// The result is not final; the same command may succeed later.
    #[error("{0}")]
    TryAgain(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        Self::Client(Box::new(error))
    }
}

impl CommandError {
    /// Adds a hint to the error of a call: a clause that says what to do.
    pub(super) fn hinted(error: ClientError, hint: impl Into<String>) -> Self {
        Self::Hinted {
            error: Box::new(error),
            hint: hint.into(),
        }
    }

    /// Prints the error to stderr, and returns the exit code. A pipe that its reader has closed, as `head` does, is no error.
    pub(super) fn report(&self) -> ExitCode {
        if self.is_closed_pipe() {
            return ExitCode::SUCCESS;
        }
        let text = one_line(&self.to_string(), usize::MAX);
        print_error(format_args!("error: {text}"));
        ExitCode::from(self.exit_code())
    }

    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) | Self::Hinted { error, .. } | Self::Incomplete { error, .. } => {
                error.exit_code()
            }
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Output(_) => 1,
            Self::TryAgain(_) => 75,
        }
    }
}
