//! Where settings come from: a TOML file, the environment, flags. All become texts with an origin.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::keys::KEYS;

const PREFIX: &str = "LEVERET_";
/// Variables of the program that are no settings of `serve`.
const OTHER_VARIABLES: [&str; 3] = ["LEVERET_URL", "LEVERET_MANAGEMENT_URL", "LEVERET_CONFIG"];
/// What Kubernetes puts into every container when a service is called `leveret`.
const SERVICE_LINKS: [&str; 2] = ["LEVERET_SERVICE_", "LEVERET_PORT_"];
const SERVICE_LINK: &str = "LEVERET_PORT";

/// A value before anybody has looked at it.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The key as written.
    pub(crate) key: String,
    /// One text, or those of a list.
    pub(crate) texts: Vec<String>,
    /// Where it stands.
    pub(crate) origin: Origin,
}

/// Where a value stands.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A line of the configuration file, from 1.
    File { path: PathBuf, line: usize },
    /// A variable.
    Variable(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings in the text of a TOML file.
///
/// # Errors
/// The text is no TOML, or nests tables.
pub(crate) fn from_file(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let origin = |offset: usize| Origin::File { path: path.to_owned(), line: line_at(text, offset) };
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        ConfigError::Syntax { origin: origin(offset), what: error.message().to_owned() }
    })?;
    let mut given = Vec::new();
    for (key, value) in table.get_ref() {
        let (origin, key) = (origin(key.span().start), key.get_ref().clone().into_owned());
        match texts(value.get_ref()) {
            Some(texts) => given.push(Given { key, texts, origin }),
            None if KEYS.iter().any(|known| known.name == key) => {
                return Err(ConfigError::Table { origin, key });
            }
            None => return Err(ConfigError::UnknownKey { origin, key }),
        }
    }
    Ok(given)
}

/// The settings among all variables: those that begin with `LEVERET_`.
///
/// # Errors
/// A value is not UTF-8.
pub(crate) fn from_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Given>, ConfigError> {
    let ours = variables.into_iter().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        let key = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
        (!is_someone_elses(&name)).then_some((name, key, value))
    });
    ours.map(|(name, key, value)| {
        let origin = Origin::Variable(name);
        match value.into_string() {
            Ok(text) => Ok(Given { key, texts: vec![text], origin }),
            Err(_) => Err(ConfigError::NotUtf8 { origin }),
        }
    })
    .collect()
}

/// The setting in a `--set KEY=VALUE`.
///
/// # Errors
/// There is no `=`.
pub(crate) fn from_set_flag(text: &str) -> Result<Given, ConfigError> {
    let (key, value) = text.split_once('=').ok_or_else(|| ConfigError::NoValue { text: text.to_owned() })?;
    Ok(Given { key: key.to_owned(), texts: vec![value.to_owned()], origin: Origin::Flag("--set") })
}

fn is_someone_elses(name: &str) -> bool {
    OTHER_VARIABLES.contains(&name)
        || name == SERVICE_LINK
        || SERVICE_LINKS.iter().any(|prefix| name.starts_with(prefix))
}

/// A value as texts; `None` for a table, or a list with something other than plain values in it.
fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    match value {
        DeValue::Array(values) => values.iter().map(|value| scalar(value.get_ref())).collect(),
        other => scalar(other).map(|text| vec![text]),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        // A number that no i64 holds is left as written: whoever reads it will say what is allowed.
        DeValue::Integer(number) => Some(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.to_string(), |number| number.to_string()),
        ),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(moment) => Some(moment.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&octet| octet == b'\n').count() + 1
}
