//! The arguments of queues and exchanges that deduplicate, under the names of the plugin and of LavinMQ.

use std::fmt;

use leveret_wire::{FieldTable, FieldValue, RawProperties};

use super::key::key_of;

/// Keys in a window unless told otherwise: LavinMQ's default, so that whoever relies on it finds the same window. (The
/// plugin has none: its argument is mandatory.)
const CACHE_SIZE: u32 = 128;
/// The most keys a window may have. A key takes up to 200 octets in memory, and as much in every checkpoint.
pub const CACHE_SIZE_MAX: u32 = 1_000_000;
/// The header that holds the key, and the argument that names another one.
const HEADER: &str = "x-deduplication-header";
const SWITCH: &str = "x-message-deduplication";
const SIZE: &str = "x-cache-size";
const TTL: &str = "x-cache-ttl";
const PERSISTENCE: &str = "x-cache-persistence";

/// How a queue or an exchange deduplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplication {
    /// The header that holds a message's key.
    pub header: String,
    /// Keys that are remembered.
    pub cache_size: u32,
    /// How long a key is remembered.
    pub ttl_ms: Option<u64>,
    /// The window outlives the process, if what it belongs to does.
    pub persistent: bool,
}

/// The arguments of a window are refused. The text is that of a 406.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadDeduplication {
    /// `x-message-deduplication` is neither true nor false.
    Switch,
    /// `x-cache-size` is no number from 1 to [`CACHE_SIZE_MAX`].
    Size,
    /// `x-cache-size` is missing for the exchange type that needs it.
    SizeMissing,
    /// `x-cache-ttl` is no positive number.
    Ttl,
    /// `x-cache-persistence` is neither `disk` nor `memory`.
    Persistence,
    /// `x-deduplication-header` is no text.
    Header,
}

impl fmt::Display for BadDeduplication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("Invalid argument, 'x-message-deduplication' must be a boolean"),
            Self::Size => {
                write!(f, "Invalid argument, 'x-cache-size' must be an integer from 1 to {CACHE_SIZE_MAX}")
            }
            Self::SizeMissing => {
                f.write_str("Missing or invalid argument, 'x-cache-size' must be an integer greater than 0")
            }
            Self::Ttl => f.write_str("Invalid argument, 'x-cache-ttl' must be an integer greater than 0"),
            Self::Persistence => {
                f.write_str("Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'")
            }
            Self::Header => f.write_str("Invalid argument, 'x-deduplication-header' must be a string"),
        }
    }
}

impl std::error::Error for BadDeduplication {}

/// Whether arguments make sense. `always`: the exchange type that deduplicates without being told to.
pub(crate) fn check(arguments: &FieldTable, always: bool) -> Result<(), BadDeduplication> {
    match arguments.get(SWITCH) {
        None | Some(FieldValue::Bool(_)) => {}
        Some(_) => return Err(BadDeduplication::Switch),
    }
    if !always && arguments.get(SWITCH) != Some(&FieldValue::Bool(true)) {
        return Ok(());
    }
    if always && arguments.get(SIZE).is_none() {
        return Err(BadDeduplication::SizeMissing);
    }
    optional(arguments.get(SIZE), BadDeduplication::Size, |value| {
        number(value).is_some_and(|size| (1..=u64::from(CACHE_SIZE_MAX)).contains(&size))
    })?;
    optional(arguments.get(TTL), BadDeduplication::Ttl, |value| number(value).is_some_and(|ttl| ttl > 0))?;
    optional(arguments.get(PERSISTENCE), BadDeduplication::Persistence, |value| {
        matches!(value.as_str(), Some("disk" | "memory"))
    })?;
    optional(arguments.get(HEADER), BadDeduplication::Header, |value| value.as_str().is_some())
}

fn optional(
    value: Option<&FieldValue>,
    bad: BadDeduplication,
    fits: impl Fn(&FieldValue) -> bool,
) -> Result<(), BadDeduplication> {
    if value.is_none_or(fits) { Ok(()) } else { Err(bad) }
}

/// A number, also one in digits: the plugin takes both.
fn number(value: &FieldValue) -> Option<u64> {
    match value.as_str() {
        Some(digits) => digits.parse().ok(),
        None => u64::try_from(value.as_i64()?).ok(),
    }
}

impl Deduplication {
    /// What arguments that [`check`] has seen ask for; `None`: nothing is deduplicated.
    pub fn of_arguments(arguments: &FieldTable, always: bool) -> Option<Self> {
        if !always && arguments.get(SWITCH) != Some(&FieldValue::Bool(true)) {
            return None;
        }
        let size = arguments.get(SIZE).and_then(number).and_then(|size| u32::try_from(size).ok());
        Some(Self {
            header: arguments.get(HEADER).and_then(FieldValue::as_str).unwrap_or(HEADER).to_owned(),
            cache_size: size.unwrap_or(CACHE_SIZE),
            ttl_ms: arguments.get(TTL).and_then(number),
            persistent: arguments.get(PERSISTENCE).and_then(FieldValue::as_str) != Some("memory"),
        })
    }

    /// The key of a message, and until when it is remembered; `None`: it has no key and is no duplicate of anything.
    pub(crate) fn key_of(&self, properties: RawProperties<'_>, now_ms: u64) -> Option<(Vec<u8>, u64)> {
        let headers = properties.headers()?;
        let key = key_of(&headers.find(&self.header)?)?;
        let own_ttl_ms = headers.find(TTL).as_ref().and_then(number).filter(|ttl_ms| *ttl_ms > 0);
        let ttl_ms = own_ttl_ms.or(self.ttl_ms);
        Some((key, ttl_ms.map_or(u64::MAX, |ttl_ms| now_ms.saturating_add(ttl_ms))))
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::Properties;

    use super::*;

    fn table(pairs: &[(&str, FieldValue)]) -> FieldTable {
        FieldTable(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    #[test]
    fn arguments_are_checked_where_they_mean_something() {
        let on = (SWITCH, FieldValue::Bool(true));
        let check_one = |key: &str, value: FieldValue, expected: Result<(), BadDeduplication>| {
            assert_eq!(
                check(&table(&[on.clone(), (key, value.clone())]), false),
                expected,
                "{key} {value:?}"
            );
            assert_eq!(check(&table(&[(key, value)]), false), Ok(()), "{key} without the switch");
        };
        check_one(SIZE, FieldValue::I32(1), Ok(()));
        check_one(SIZE, FieldValue::from("500"), Ok(()));
        check_one(SIZE, FieldValue::I32(0), Err(BadDeduplication::Size));
        check_one(SIZE, FieldValue::I64(1_000_001), Err(BadDeduplication::Size));
        check_one(SIZE, FieldValue::from("many"), Err(BadDeduplication::Size));
        check_one(TTL, FieldValue::I32(0), Err(BadDeduplication::Ttl));
        check_one(PERSISTENCE, FieldValue::from("tape"), Err(BadDeduplication::Persistence));
        check_one(HEADER, FieldValue::I32(1), Err(BadDeduplication::Header));
        assert_eq!(check(&table(&[(SWITCH, FieldValue::I32(1))]), false), Err(BadDeduplication::Switch));
        assert_eq!(check(&table(&[]), true), Err(BadDeduplication::SizeMissing));
    }

    #[test]
    fn defaults_are_those_of_lavinmq() {
        let settings = Deduplication::of_arguments(&table(&[(SWITCH, FieldValue::Bool(true))]), false);
        let header = HEADER.to_owned();
        let expected = Deduplication { header, cache_size: 128, ttl_ms: None, persistent: true };
        assert_eq!(settings, Some(expected));
        assert_eq!(Deduplication::of_arguments(&table(&[(SIZE, FieldValue::I32(5))]), false), None);
    }

    #[test]
    fn a_message_may_say_how_long_its_key_is_remembered() {
        let check = |headers: &[(&str, FieldValue)], expected: Option<u64>| {
            let properties = Properties { headers: Some(table(headers)), ..Default::default() };
            let octets = properties.encode().unwrap();
            let arguments = table(&[(TTL, FieldValue::from("70")), (SIZE, FieldValue::I32(5))]);
            let settings = Deduplication::of_arguments(&arguments, true).unwrap();
            let found = settings.key_of(RawProperties::parse(&octets).unwrap(), 1000);
            assert_eq!(found.map(|(_, until_ms)| until_ms), expected, "{headers:?}");
        };
        let key = (HEADER, FieldValue::from("k"));
        check(&[], None);
        check(&[(HEADER, FieldValue::Void)], None);
        check(std::slice::from_ref(&key), Some(1070));
        check(&[key.clone(), (TTL, FieldValue::I32(5))], Some(1005));
        check(&[key, (TTL, FieldValue::I32(-5))], Some(1070));
    }
}
