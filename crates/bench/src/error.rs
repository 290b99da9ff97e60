//! Why a load could not be run to its end.

use std::fmt;
use std::io;
use std::time::Duration;

/// A result whose error ends the load.
pub type Result<T> = std::result::Result<T, Error>;

/// Nothing here is tried again: a load that met an error measured something else than was asked for.
#[derive(Debug)]
pub enum Error {
    /// What was asked for cannot be run, and why: whoever asked is to blame.
    Plan(String),
    /// The socket to the broker failed, while doing this.
    Socket(&'static str, io::Error),
    /// The broker closed a channel or the connection, with this code and text.
    Refused(u16, String),
    /// What came is not what AMQP 0-9-1 says comes here: the broker is to blame.
    Protocol(String),
    /// A message or a confirm was lost, doubled or out of order: the broker is to blame.
    Promise(String),
    /// The broker owed something, and nothing came for so long.
    Silence(Duration),
    /// The kernel does not say what was asked about a process.
    Process(&'static str),
    /// A thread of the load panicked: this crate is to blame.
    Panic,
}

impl Error {
    pub(crate) fn socket(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::Socket(doing, error)
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Error {
        Error::Protocol(what.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Socket(doing, error) => write!(out, "{doing}: {error}"),
            Error::Refused(code, text) => write!(out, "the broker said: {code} {text}"),
            Error::Plan(what) | Error::Protocol(what) | Error::Promise(what) => out.write_str(what),
            Error::Silence(time) => write!(out, "nothing came for {time:?}"),
            Error::Process(what) => out.write_str(what),
            Error::Panic => out.write_str("a load thread panicked"),
        }
    }
}

impl std::error::Error for Error {}
