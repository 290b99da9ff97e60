//! Why a policy, a limit or a parameter is refused; shared by every door that sets them.

use std::fmt;

use crate::error::Refusal;

/// A policy, a limit or a parameter could not be set or cleared. `Display` gives RabbitMQ's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterError {
    /// There is no virtual host of that name (404 over HTTP).
    NoVHost(String),
    /// There is no user of that name (404 over HTTP).
    NoUser(String),
    /// There is nothing of that name to clear (404 over HTTP).
    Missing,
    /// What was given makes no sense, and why (400 over HTTP).
    Invalid(String),
    /// The virtual host of that name is protected from being deleted (412 over HTTP).
    Protected(String),
    /// It could not be kept: our fault (500 over HTTP).
    Failed(Refusal),
}

impl fmt::Display for ParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVHost(name) => write!(f, "Virtual host '{name}' does not exist"),
            Self::NoUser(name) => write!(f, "User '{name}' does not exist"),
            Self::Missing => f.write_str("Parameter does not exist"),
            Self::Invalid(reason) => write!(f, "Validation failed\n\n{reason}\n"),
            Self::Protected(name) => write!(f, "Virtual host '{name}' is protected from deletion"),
            Self::Failed(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for ParameterError {}

impl From<Refusal> for ParameterError {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal)
    }
}
