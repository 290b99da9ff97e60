//! What the store keeps of the topology, as keys and values.
//!
//! ```text
//!   key                                         value
//!   v ␀ vhost                                   see `vhost_metadata`
//!   x ␀ vhost ␀ exchange                        type, flags, arguments
//!   q ␀ vhost ␀ queue                           id, flags, arguments
//!   b | e ␀ vhost ␀ source ␀ destination ␀ routing key ␀ arguments      (empty); b to a queue, e to an exchange
//!   u ␀ user                                    see `users`
//!   a ␀ queue id ␀ message id                   how often its delivery came to nothing, see `queue::Attempts`
//!   d ␀ vhost ␀ x or q ␀ name ␀ slot            a key that a window against duplicates remembers
//!   p | o ␀ vhost ␀ policy                      see `policies`; p a user's, o the operator's
//!   l ␀ vhost, m ␀ user                         see `quotas`
//!   s ␀ queue id                                (empty); it is paused
//!   f ␀ queue id                                what of it cannot be read; it is out of service
//!   r ␀ component ␀ vhost ␀ name, g ␀ name      see `parameters`; g a global one
//! ```
//!
//! Names are length-prefixed, so no name can imitate a separator. Arguments are AMQP field tables by nature
//! and are kept as such. Every value starts with a version octet; an unknown one is refused, never guessed.

use leveret_store::{MessageId, QueueId};
use leveret_wire::{EncodeError, FieldTable, RawTable};

use crate::dedup::Noted;
use crate::policies::Author;
use crate::vhost::{ExchangeSpec, QueueSpec};

const VERSION: u8 = 1;
const DURABLE: u8 = 1;
const AUTO_DELETE: u8 = 2;
const INTERNAL: u8 = 4;

/// A key of the store's map, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A virtual host.
    VHost(String),
    /// An exchange in a virtual host.
    Exchange(String, String),
    /// A queue in a virtual host.
    Queue(String, String),
    /// A binding.
    Binding(BindingKey),
    /// A user.
    User(String),
    /// A message that came back, by its queue's id in the store.
    Attempts(QueueId, MessageId),
    /// A key that a window against duplicates remembers.
    Seen(SeenKey),
    /// A policy in a virtual host.
    Policy(Author, String, String),
    /// What a virtual host may have.
    VHostLimits(String),
    /// What a user may have.
    UserLimits(String),
    /// A parameter of a component in a virtual host.
    Parameter(String, String, String),
    /// A parameter of none.
    GlobalParameter(String),
    /// A queue that is paused, by its id in the store.
    Paused(QueueId),
    /// A queue that is out of service, by its id in the store: the log file with the unreadable message is no longer read.
    Damaged(QueueId),
}

/// Where a window against duplicates has one of its notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenKey {
    /// The virtual host.
    pub vhost: String,
    /// The window is that of a queue, otherwise that of an exchange.
    pub of_queue: bool,
    /// The name of that queue or exchange.
    pub name: String,
    /// Which of its notes.
    pub slot: u32,
}

impl SeenKey {
    /// The first note of a window.
    pub(crate) fn first(vhost: &str, of_queue: bool, name: &str) -> Self {
        Self { vhost: vhost.to_owned(), of_queue, name: name.to_owned(), slot: 0 }
    }

    /// Whether both are notes of one window.
    pub(crate) fn is_of_same_window(&self, other: &Self) -> bool {
        (&self.vhost, self.of_queue, &self.name) == (&other.vhost, other.of_queue, &other.name)
    }
}

/// What a binding connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BindingKey {
    /// The virtual host.
    pub vhost: String,
    /// The exchange that routes.
    pub source: String,
    /// It leads to a queue, otherwise to an exchange.
    pub to_queue: bool,
    /// The name of that queue or exchange.
    pub destination: String,
    /// The routing key.
    pub routing_key: String,
    /// The arguments, which are part of a binding's identity.
    pub arguments: Vec<u8>,
}

impl Key {
    /// The bytes in the store.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::VHost(name) => encode_names(b'v', &[name.as_bytes()]),
            Self::Exchange(vhost, name) => encode_names(b'x', &[vhost.as_bytes(), name.as_bytes()]),
            Self::Queue(vhost, name) => encode_names(b'q', &[vhost.as_bytes(), name.as_bytes()]),
            Self::User(name) => encode_names(b'u', &[name.as_bytes()]),
            Self::Attempts(queue, id) => encode_names(b'a', &[&queue.0.to_le_bytes(), &id.0.to_le_bytes()]),
            Self::Seen(key) => {
                let kind: &[u8] = if key.of_queue { b"q" } else { b"x" };
                let slot = key.slot.to_le_bytes();
                encode_names(b'd', &[key.vhost.as_bytes(), kind, key.name.as_bytes(), &slot])
            }
            Self::Policy(author, vhost, name) => {
                encode_names(author_kind(*author), &[vhost.as_bytes(), name.as_bytes()])
            }
            Self::VHostLimits(vhost) => encode_names(b'l', &[vhost.as_bytes()]),
            Self::UserLimits(user) => encode_names(b'm', &[user.as_bytes()]),
            Self::Parameter(component, vhost, name) => {
                encode_names(b'r', &[component.as_bytes(), vhost.as_bytes(), name.as_bytes()])
            }
            Self::GlobalParameter(name) => encode_names(b'g', &[name.as_bytes()]),
            Self::Paused(queue) => encode_names(b's', &[&queue.0.to_le_bytes()]),
            Self::Damaged(queue) => encode_names(b'f', &[&queue.0.to_le_bytes()]),
            Self::Binding(key) => encode_names(
                if key.to_queue { b'b' } else { b'e' },
                &[
                    key.vhost.as_bytes(),
                    key.source.as_bytes(),
                    key.destination.as_bytes(),
                    key.routing_key.as_bytes(),
                    &key.arguments,
                ],
            ),
        }
    }

    /// Reads the bytes in the store; `None` when this version does not know them.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let names = decode_names(rest)?;
        let text = |at: usize| names.get(at).and_then(|name| String::from_utf8(name.to_vec()).ok());
        Some(match (kind, names.len()) {
            (b'v', 1) => Self::VHost(text(0)?),
            (b'x', 2) => Self::Exchange(text(0)?, text(1)?),
            (b'q', 2) => Self::Queue(text(0)?, text(1)?),
            (b'u', 1) => Self::User(text(0)?),
            (b'a', 2) => {
                let number = |at: usize| Some(u64::from_le_bytes(names[at].try_into().ok()?));
                Self::Attempts(QueueId(number(0)?), MessageId(number(1)?))
            }
            (b'd', 4) => Self::Seen(SeenKey {
                vhost: text(0)?,
                of_queue: match names[1] {
                    b"q" => true,
                    b"x" => false,
                    _ => return None,
                },
                name: text(2)?,
                slot: u32::from_le_bytes(names[3].try_into().ok()?),
            }),
            (b'p', 2) => Self::Policy(Author::User, text(0)?, text(1)?),
            (b'o', 2) => Self::Policy(Author::Operator, text(0)?, text(1)?),
            (b'l', 1) => Self::VHostLimits(text(0)?),
            (b'm', 1) => Self::UserLimits(text(0)?),
            (b'r', 3) => Self::Parameter(text(0)?, text(1)?, text(2)?),
            (b'g', 1) => Self::GlobalParameter(text(0)?),
            (b's', 1) => Self::Paused(QueueId(u64::from_le_bytes(names[0].try_into().ok()?))),
            (b'f', 1) => Self::Damaged(QueueId(u64::from_le_bytes(names[0].try_into().ok()?))),
            (b'b' | b'e', 5) => Self::Binding(BindingKey {
                vhost: text(0)?,
                source: text(1)?,
                to_queue: *kind == b'b',
                destination: text(2)?,
                routing_key: text(3)?,
                arguments: names[4].to_vec(),
            }),
            _ => return None,
        })
    }
}

/// What the keys of all messages begin with that came back to one queue.
pub(crate) fn attempts_of(queue: QueueId) -> Vec<u8> {
    encode_names(b'a', &[&queue.0.to_le_bytes()])
}

fn author_kind(author: Author) -> u8 {
    match author {
        Author::User => b'p',
        Author::Operator => b'o',
    }
}

fn encode_names(kind: u8, names: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    for name in names {
        key.extend_from_slice(&(name.len() as u32).to_le_bytes());
        key.extend_from_slice(name);
    }
    key
}

fn decode_names(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (name, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        names.push(name);
        rest = after;
    }
    Some(names)
}

/// The value of an exchange.
pub(crate) fn encode_exchange(spec: &ExchangeSpec) -> Result<Vec<u8>, EncodeError> {
    let flags =
        flag(spec.durable, DURABLE) | flag(spec.auto_delete, AUTO_DELETE) | flag(spec.internal, INTERNAL);
    let kind = spec.type_name().as_bytes();
    let mut value = vec![VERSION, flags, kind.len() as u8];
    value.extend_from_slice(kind);
    value.extend_from_slice(&spec.arguments.raw_bytes()?);
    Ok(value)
}

/// Reads the value of an exchange.
pub(crate) fn decode_exchange(value: &[u8]) -> Option<ExchangeSpec> {
    let ([VERSION, flags, kind_len], rest) = value.split_first_chunk::<3>()? else { return None };
    let (kind, arguments) = rest.split_at_checked(*kind_len as usize)?;
    let arguments = decode_arguments(arguments)?;
    let (kind, delays) = ExchangeSpec::parse_type(std::str::from_utf8(kind).ok()?, &arguments).ok()??;
    Some(ExchangeSpec {
        kind,
        delays,
        durable: flags & DURABLE != 0,
        auto_delete: flags & AUTO_DELETE != 0,
        internal: flags & INTERNAL != 0,
        arguments,
    })
}

/// The value of a queue.
pub(crate) fn encode_queue(id: QueueId, spec: &QueueSpec) -> Result<Vec<u8>, EncodeError> {
    let mut value = vec![VERSION, flag(spec.auto_delete, AUTO_DELETE) | flag(spec.internal, INTERNAL)];
    value.extend_from_slice(&id.0.to_le_bytes());
    value.extend_from_slice(&spec.arguments.raw_bytes()?);
    Ok(value)
}

/// Reads the value of a queue. Only durable queues without an owner are ever kept.
pub(crate) fn decode_queue(value: &[u8]) -> Option<(QueueId, QueueSpec)> {
    let ([VERSION, flags], rest) = value.split_first_chunk::<2>()? else { return None };
    let (id, arguments) = rest.split_first_chunk()?;
    let spec = QueueSpec {
        durable: true,
        owner: None,
        auto_delete: flags & AUTO_DELETE != 0,
        internal: flags & INTERNAL != 0,
        arguments: decode_arguments(arguments)?,
    };
    Some((QueueId(u64::from_le_bytes(*id)), spec))
}

/// The value of a key that a window remembers.
pub(crate) fn encode_seen(noted: &Noted) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend_from_slice(&noted.number.to_le_bytes());
    value.extend_from_slice(&noted.expires_at_ms.to_le_bytes());
    value.extend_from_slice(&noted.key);
    value
}

/// Reads the value of a key that a window remembers in that slot.
pub(crate) fn decode_seen(slot: u32, value: &[u8]) -> Option<Noted> {
    let ([VERSION], rest) = value.split_first_chunk::<1>()? else { return None };
    let (number, rest) = rest.split_first_chunk()?;
    let (expires_at_ms, key) = rest.split_first_chunk()?;
    Some(Noted {
        slot,
        number: u64::from_le_bytes(*number),
        expires_at_ms: u64::from_le_bytes(*expires_at_ms),
        key: key.into(),
    })
}

/// The value of a queue that is out of service: what cannot be read.
pub(crate) fn encode_damage(what: &str) -> Vec<u8> {
    [&[VERSION], what.as_bytes()].concat()
}

/// Reads what cannot be read of a queue.
pub(crate) fn decode_damage(value: &[u8]) -> Option<String> {
    let ([VERSION], what) = value.split_first_chunk::<1>()? else { return None };
    String::from_utf8(what.to_vec()).ok()
}

/// Reads arguments.
pub(crate) fn decode_arguments(bytes: &[u8]) -> Option<FieldTable> {
    Some(RawTable::parse(bytes).ok()?.to_table())
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use leveret_wire::FieldValue;

    use super::*;
    use crate::exchange::ExchangeKind;

    #[test]
    fn keys_read_back() {
        let check = |key: Key| assert_eq!(Key::decode(&key.encode()), Some(key));
        check(Key::VHost("/".into()));
        check(Key::Exchange("/".into(), String::new()));
        check(Key::Queue("a\0b".into(), "é".into()));
        check(Key::User("guest".into()));
        check(Key::Attempts(QueueId(7), MessageId(u64::MAX)));
        for of_queue in [false, true] {
            let key = SeenKey::first("/", of_queue, "q");
            check(Key::Seen(SeenKey { slot: 7, ..key }));
        }
        check(Key::Policy(Author::User, "/".into(), "p".into()));
        check(Key::Policy(Author::Operator, "/".into(), String::new()));
        check(Key::VHostLimits("/".into()));
        check(Key::UserLimits("guest".into()));
        check(Key::Parameter("shovel".into(), "/".into(), "s".into()));
        check(Key::GlobalParameter("cluster_name".into()));
        check(Key::Paused(QueueId(9)));
        check(Key::Damaged(QueueId(9)));
        let binding = BindingKey {
            vhost: "/".into(),
            source: "amq.topic".into(),
            to_queue: true,
            destination: "q".into(),
            routing_key: "#.ohio".into(),
            arguments: vec![1, 2, 3],
        };
        check(Key::Binding(BindingKey { to_queue: false, ..binding.clone() }));
        check(Key::Binding(binding));
    }

    #[test]
    fn what_is_cut_or_foreign_is_refused() {
        let key = Key::Queue("/".into(), "q".into()).encode();
        for end in 0..key.len() {
            assert_eq!(Key::decode(&key[..end]), None, "cut at {end}");
        }
        assert_eq!(Key::decode(b"z"), None);
        assert_eq!(decode_queue(&[2, 0, 0, 0, 0, 0, 0, 0, 0, 0]).map(|(id, _)| id), None);
    }

    #[test]
    fn values_read_back() {
        let arguments = FieldTable(vec![("x-message-ttl".into(), leveret_wire::FieldValue::I32(5))]);
        for internal in [false, true] {
            let arguments = arguments.clone();
            let queue = QueueSpec { durable: true, owner: None, auto_delete: true, internal, arguments };
            assert_eq!(decode_queue(&encode_queue(QueueId(7), &queue).unwrap()), Some((QueueId(7), queue)));
        }
        let noted = Noted { slot: 3, number: 9, expires_at_ms: 5, key: b"sk"[..].into() };
        assert_eq!(decode_seen(3, &encode_seen(&noted)), Some(noted));
        assert_eq!(decode_damage(&encode_damage("log/1 at 7")), Some("log/1 at 7".to_owned()));
        for delays in [false, true] {
            let kind = FieldValue::LongString(b"topic".to_vec());
            let exchange = ExchangeSpec {
                kind: ExchangeKind::Topic,
                delays,
                durable: true,
                auto_delete: false,
                internal: true,
                arguments: FieldTable(vec![("x-delayed-type".into(), kind)]),
            };
            assert_eq!(decode_exchange(&encode_exchange(&exchange).unwrap()), Some(exchange));
        }
    }
}
