//! What the store keeps of the topology, as keys and values.
//!
//! ```text
//!   key                                         value
//!   v ␀ vhost                                   (empty)
//!   x ␀ vhost ␀ exchange                        type, flags, arguments
//!   q ␀ vhost ␀ queue                           id, flags, arguments
//!   b | e ␀ vhost ␀ source ␀ destination ␀ routing key ␀ arguments      (empty); b to a queue, e to an exchange
//!   u ␀ user                                    see `users`
//!   a ␀ queue id ␀ message id                   how often its delivery came to nothing, see `queue::Attempts`
//! ```
//!
//! Names are length-prefixed, so no name can imitate a separator. Arguments are AMQP field tables by nature
//! and are kept as such. Every value starts with a version octet; an unknown one is refused, never guessed.

use leveret_store::{MessageId, QueueId};
use leveret_wire::{EncodeError, FieldTable, RawTable};

use crate::exchange::ExchangeKind;
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
    let kind = spec.kind.name().as_bytes();
    let mut value = vec![VERSION, flags, kind.len() as u8];
    value.extend_from_slice(kind);
    value.extend_from_slice(&spec.arguments.raw_bytes()?);
    Ok(value)
}

/// Reads the value of an exchange.
pub(crate) fn decode_exchange(value: &[u8]) -> Option<ExchangeSpec> {
    let ([VERSION, flags, kind_len], rest) = value.split_first_chunk::<3>()? else { return None };
    let (kind, arguments) = rest.split_at_checked(*kind_len as usize)?;
    Some(ExchangeSpec {
        kind: ExchangeKind::parse(std::str::from_utf8(kind).ok()?)?,
        durable: flags & DURABLE != 0,
        auto_delete: flags & AUTO_DELETE != 0,
        internal: flags & INTERNAL != 0,
        arguments: decode_arguments(arguments)?,
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

/// Reads arguments.
pub(crate) fn decode_arguments(bytes: &[u8]) -> Option<FieldTable> {
    Some(RawTable::parse(bytes).ok()?.to_table())
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let check = |key: Key| assert_eq!(Key::decode(&key.encode()), Some(key));
        check(Key::VHost("/".into()));
        check(Key::Exchange("/".into(), String::new()));
        check(Key::Queue("a\0b".into(), "é".into()));
        check(Key::User("guest".into()));
        check(Key::Attempts(QueueId(7), MessageId(u64::MAX)));
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
        let exchange = ExchangeSpec {
            kind: ExchangeKind::Topic,
            durable: true,
            auto_delete: false,
            internal: true,
            arguments,
        };
        assert_eq!(decode_exchange(&encode_exchange(&exchange).unwrap()), Some(exchange));
    }
}
