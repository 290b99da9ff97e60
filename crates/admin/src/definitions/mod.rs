//! Definitions: all that is set up in a broker, as one JSON document, both ways with RabbitMQ.
//!
//! ```text
//!   file ─► read ─► Definitions ─► Broker::define        all of it, or none
//!   file ◀─ shown ◀───────────────── Broker
//! ```
//!
//! What does not survive a restart, belongs to a connection or to the broker itself is not in it.

mod read;
mod shown;

use std::fmt;

use leveret_broker::definitions::DefinitionsError;
use leveret_broker::{Batch, Broker};

pub(crate) use read::{Scope, read};
pub(crate) use shown::{Reader, shown};

/// Why a definitions file was not put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// It is no such file, and why.
    Unreadable(String),
    /// The broker refused it.
    Refused(DefinitionsError),
}

/// Puts a definitions file in force, as `POST /api/definitions` does: all of it, or none. The caller finishes the batch.
///
/// # Errors
/// The file makes no sense, or something in it.
pub fn load(broker: &Broker, file: &[u8], batch: &mut Batch) -> Result<(), LoadError> {
    let definitions = read(file, Scope::Everything).map_err(|error| LoadError::Unreadable(error.reason))?;
    broker.define(&definitions, None, batch).map_err(LoadError::Refused)
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => f.write_str(reason),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}
