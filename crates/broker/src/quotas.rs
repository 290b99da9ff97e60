//! How many connections, channels and queues a virtual host or a user may have: RabbitMQ's virtual host limits and
//! user limits.
//!
//! A [`Quota`] counts what is in use with one atomic number; a [`Seat`] is one thing in use, and gives it back when it
//! is dropped. Nothing is counted per message. A limit that is set below what is in use ends nothing: it only admits
//! nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hashbrown::HashMap;
use leveret_wire::{FieldTable, FieldValue};
use parking_lot::RwLock;

use crate::parameter_error::ParameterError;
use crate::policies::{print_settings, print_value};

/// Written for a limit that is not set.
const NONE: i64 = -1;
const RECORD_VERSION: u8 = 1;

/// What a virtual host may have. `None` is no limit; 0 admits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VHostLimits {
    /// Connections open at a time (`max-connections`).
    pub max_connections: Option<u64>,
    /// Queues (`max-queues`). Those that exist may be declared again.
    pub max_queues: Option<u64>,
}

/// What a user may have, over all virtual hosts. `None` is no limit; 0 admits nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Connections open at a time (`max-connections`).
    pub max_connections: Option<u64>,
    /// Channels open at a time, over all connections (`max-channels`).
    pub max_channels: Option<u64>,
}

impl VHostLimits {
    /// Reads `{"max-connections": N, "max-queues": N}`; a negative number is no limit.
    ///
    /// # Errors
    /// [`ParameterError::Invalid`] with RabbitMQ's text: something else is named, or no number.
    pub fn parse(definition: &FieldTable) -> Result<Self, ParameterError> {
        let [max_connections, max_queues] = parse(definition, ["max-connections", "max-queues"], "limits")?;
        Ok(Self { max_connections, max_queues })
    }

    /// The form that [`Self::parse`] reads, without what is not set.
    pub fn definition(&self) -> FieldTable {
        table([("max-connections", self.max_connections), ("max-queues", self.max_queues)])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode([self.max_connections, self.max_queues])
    }

    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        let [max_connections, max_queues] = decode(record)?;
        Some(Self { max_connections, max_queues })
    }
}

impl UserLimits {
    /// Reads `{"max-connections": N, "max-channels": N}`; a negative number is no limit.
    ///
    /// # Errors
    /// [`ParameterError::Invalid`] with RabbitMQ's text: something else is named, or no number.
    pub fn parse(definition: &FieldTable) -> Result<Self, ParameterError> {
        let [max_connections, max_channels] =
            parse(definition, ["max-connections", "max-channels"], "user-limits")?;
        Ok(Self { max_connections, max_channels })
    }

    /// The form that [`Self::parse`] reads, without what is not set.
    pub fn definition(&self) -> FieldTable {
        table([("max-connections", self.max_connections), ("max-channels", self.max_channels)])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode([self.max_connections, self.max_channels])
    }

    pub(crate) fn decode(record: &[u8]) -> Option<Self> {
        let [max_connections, max_channels] = decode(record)?;
        Some(Self { max_connections, max_channels })
    }
}

/// How many of something may be in use, and how many are.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: AtomicI64,
    used: AtomicU64,
}

/// One of something in use, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Quota>);

impl Default for Quota {
    fn default() -> Self {
        Self { limit: AtomicI64::new(NONE), used: AtomicU64::new(0) }
    }
}

impl Quota {
    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        let limit = limit.map_or(NONE, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.limit.store(limit, Ordering::Release);
    }

    /// The limit; `None` when there is none.
    pub(crate) fn limit(&self) -> Option<u64> {
        u64::try_from(self.limit.load(Ordering::Acquire)).ok()
    }

    /// Takes a seat, or answers the limit that leaves none.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Seat, u64> {
        let limit = self.limit().unwrap_or(u64::MAX);
        let more = |used| (used < limit).then_some(used + 1);
        match self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more) {
            Ok(_) => Ok(Seat(self.clone())),
            Err(_) => Err(limit),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What one user has in use.
#[derive(Debug, Default)]
pub(crate) struct UserQuotas {
    pub(crate) connections: Arc<Quota>,
    pub(crate) channels: Arc<Quota>,
}

impl UserQuotas {
    pub(crate) fn set(&self, limits: UserLimits) {
        self.connections.set_limit(limits.max_connections);
        self.channels.set_limit(limits.max_channels);
    }

    pub(crate) fn limits(&self) -> UserLimits {
        UserLimits { max_connections: self.connections.limit(), max_channels: self.channels.limit() }
    }
}

/// What all users have in use: those who were ever connected or limited.
#[derive(Debug, Default)]
pub(crate) struct AllUserQuotas(RwLock<HashMap<String, Arc<UserQuotas>>>);

impl AllUserQuotas {
    pub(crate) fn of(&self, user: &str) -> Arc<UserQuotas> {
        if let Some(found) = self.0.read().get(user) {
            return found.clone();
        }
        self.0.write().entry_ref(user).or_default().clone()
    }
}

fn parse<const N: usize>(
    definition: &FieldTable,
    names: [&str; N],
    what: &str,
) -> Result<[Option<u64>; N], ParameterError> {
    let mut unknown = definition.iter().filter(|(name, _)| !names.contains(&name.as_str())).peekable();
    if unknown.peek().is_some() {
        let listed = print_settings(unknown);
        return Err(ParameterError::Invalid(format!("Unrecognised terms {listed} in {what}")));
    }
    let mut limits = [None; N];
    for (limit, name) in limits.iter_mut().zip(names) {
        let Some(value) = definition.get(name) else { continue };
        *limit = u64::try_from(number(name, value)?).ok();
    }
    Ok(limits)
}

fn number(name: &str, value: &FieldValue) -> Result<i64, ParameterError> {
    value.as_i64().ok_or_else(|| {
        let given = print_value(value);
        ParameterError::Invalid(format!("{name} should be a number, actually was {given}"))
    })
}

fn table<const N: usize>(limits: [(&str, Option<u64>); N]) -> FieldTable {
    let set =
        limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), i64::try_from(limit?).ok()?)));
    FieldTable(set.map(|(name, limit)| (name, FieldValue::I64(limit))).collect())
}

/// Version, then each limit as `i64` in little-endian order, -1 for none.
fn encode<const N: usize>(limits: [Option<u64>; N]) -> Vec<u8> {
    let mut record = vec![RECORD_VERSION];
    for limit in limits {
        let limit = limit.map_or(NONE, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        record.extend_from_slice(&limit.to_le_bytes());
    }
    record
}

fn decode<const N: usize>(record: &[u8]) -> Option<[Option<u64>; N]> {
    let (&[RECORD_VERSION, ..], rest) = record.split_first_chunk::<1>()? else { return None };
    if rest.len() != N * size_of::<i64>() {
        return None;
    }
    let mut limits = [None; N];
    for (limit, octets) in limits.iter_mut().zip(rest.chunks_exact(size_of::<i64>())) {
        *limit = u64::try_from(i64::from_le_bytes(octets.try_into().ok()?)).ok();
    }
    Some(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_admits_as_many_as_its_limit() {
        let check = |limit: Option<u64>, wanted: usize, expected: Result<(), u64>| {
            let quota = Arc::new(Quota::default());
            quota.set_limit(limit);
            let seats: Result<Vec<_>, _> = (0..wanted).map(|_| quota.take()).collect();
            assert_eq!(seats.map(drop), expected, "{limit:?} {wanted}");
        };
        check(None, 3, Ok(()));
        check(Some(3), 3, Ok(()));
        check(Some(3), 4, Err(3));
        check(Some(0), 1, Err(0));
    }

    #[test]
    fn a_seat_is_free_again_when_it_is_dropped() {
        let quota = Arc::new(Quota::default());
        quota.set_limit(Some(1));
        drop(quota.take());
        let seat = quota.take();
        assert!(seat.is_ok());
        assert_eq!(quota.take().map(drop), Err(1));
        quota.set_limit(None);
        assert!(quota.take().is_ok());
    }

    #[test]
    fn limits_are_read_in_rabbitmqs_words() {
        let check = |name: &str, value: FieldValue, expected: Result<Option<u64>, &str>| {
            let definition = FieldTable(vec![(name.to_owned(), value)]);
            let limits = VHostLimits::parse(&definition).map(|limits| limits.max_queues);
            let expected = expected.map_err(|reason| ParameterError::Invalid(reason.into()));
            assert_eq!(limits, expected);
        };
        check("max-queues", FieldValue::I32(5), Ok(Some(5)));
        check("max-queues", FieldValue::I32(0), Ok(Some(0)));
        check("max-queues", FieldValue::I32(-2), Ok(None));
        check("max-queue", FieldValue::I32(1), Err("Unrecognised terms [{<<\"max-queue\">>,1}] in limits"));
        let text = FieldValue::LongString(b"a".to_vec());
        check("max-queues", text, Err("max-queues should be a number, actually was <<\"a\">>"));
    }

    #[test]
    fn a_record_gives_the_same_limits_back() {
        let limits = VHostLimits { max_connections: None, max_queues: Some(0) };
        let record = limits.encode();
        assert_eq!(VHostLimits::decode(&record), Some(limits));
        for end in 0..record.len() {
            assert_eq!(VHostLimits::decode(&record[..end]), None, "cut at {end}");
        }
        assert_eq!(VHostLimits::decode(&[&[2], &record[1..]].concat()), None);
        assert_eq!(VHostLimits::parse(&limits.definition()), Ok(limits));
    }
}
