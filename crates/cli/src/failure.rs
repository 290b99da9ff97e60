//! How a command ends when it does not succeed: a message on stderr and an exit code that scripts can rely on.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::config::ConfigError;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit code 1, without a word: there was nothing to get.
    Nothing,
    /// Exit code 1: anything that has no code of its own.
    Other(anyhow::Error),
    /// Exit code 2: a flag, a variable or a line of the configuration.
    Usage(String),
    /// Exit code 3: no queue took the message, or the queue or exchange is not there.
    NoRoute(String),
    /// Exit code 4: no answer in time.
    Expired(String),
    /// Exit code 5: the broker refused.
    Refused(String),
    /// Exit code 6: no connection, or not any more.
    Connection(String),
}

impl Failure {
    /// What the shell sees.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Nothing | Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::NoRoute(_) => 3,
            Self::Expired(_) => 4,
            Self::Refused(_) => 5,
            Self::Connection(_) => 6,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing there"),
            Self::Other(error) => write!(f, "{error:#}"),
            Self::Usage(what)
            | Self::NoRoute(what)
            | Self::Expired(what)
            | Self::Refused(what)
            | Self::Connection(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}
