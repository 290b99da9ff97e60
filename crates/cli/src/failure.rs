//! How a command ends when it does not succeed: a message on stderr and an exit code that scripts can rely on.

use std::fmt;
use std::io;
use std::process::ExitCode;

use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

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

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            lapin::ErrorKind::ProtocolError(refusal) => from_refusal(refusal),
            lapin::ErrorKind::SerialisationError(_) => Self::Other(error.into()),
            _ => Self::Connection(format!("connection lost: {}", words_of(&error))),
        }
    }
}

/// What happened in the broker's or the kernel's own words, without the library's around them.
pub(crate) fn words_of(error: &lapin::Error) -> String {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) => refusal.get_message().to_string(),
        lapin::ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// The code that fits a refusal.
fn from_refusal(refusal: &AMQPError) -> Failure {
    let text = refusal.get_message().to_string();
    match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND | AMQPSoftError::NOCONSUMERS) => Failure::NoRoute(text),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::CONTENTTOOLARGE)
        | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::RESOURCEERROR) => {
            Failure::Refused(text)
        }
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => Failure::Connection(text),
        _ => Failure::Other(anyhow::anyhow!(text)),
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPErrorKind;

    use super::*;

    #[test]
    fn a_refusal_has_the_code_that_fits() {
        let check = |reply_code: u16, expected: &str| {
            let kind = AMQPErrorKind::from_id(reply_code).unwrap();
            let error = lapin::ErrorKind::ProtocolError(AMQPError::new(kind, "words".into()));
            let failure = Failure::from(lapin::Error::from(error));
            assert_eq!(format!("{failure:?}"), format!("{expected}(\"words\")"), "{reply_code}");
        };
        check(404, "NoRoute");
        check(313, "NoRoute");
        check(403, "Refused");
        check(311, "Refused");
        check(530, "Refused");
        check(320, "Connection");
    }
}
