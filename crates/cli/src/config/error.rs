//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::keys::KEYS;
use super::sources::Origin;

/// A configuration that cannot be used. All of these are the user's to put right.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// The file is not TOML.
    Syntax { origin: Origin, what: String },
    /// No such key.
    UnknownKey { origin: Origin, key: String },
    /// The key cannot have this value.
    WrongValue { origin: Origin, key: &'static str, value: String, allowed: String },
    /// A table where a value belongs.
    Table { origin: Origin, key: String },
    /// `--set` without a value.
    NoValue { text: String },
    /// A variable that is not UTF-8.
    NotUtf8 { origin: Origin },
    /// A first user needs a name and a password.
    HalfOfFirstUser { missing: &'static str },
    /// TLS needs a listener, a certificate and a key.
    HalfOfTls { missing: &'static str },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Syntax { origin, what } => write!(f, "{origin}: {what}"),
            Self::UnknownKey { origin, key } => {
                let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
                write!(f, "{origin}: unknown key {key:?}; allowed: {}", names.join(", "))
            }
            Self::WrongValue { origin, key, value, allowed } => {
                write!(f, "{origin}: {key} cannot be {value:?}; allowed: {allowed}")
            }
            Self::Table { origin, key } => write!(f, "{origin}: {key} cannot be a table"),
            Self::NoValue { text } => write!(f, "--set {text}: expected KEY=VALUE"),
            Self::NotUtf8 { origin } => write!(f, "{origin}: the value is not UTF-8"),
            Self::HalfOfFirstUser { missing } => write!(f, "the first user also needs {missing}"),
            Self::HalfOfTls { missing } => write!(f, "TLS also needs {missing}"),
        }
    }
}

impl std::error::Error for ConfigError {}
