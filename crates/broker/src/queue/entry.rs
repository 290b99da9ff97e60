//! One message in one queue.

use std::sync::Arc;

use leveret_store::{MessageId, Place};

use super::attempts::Attempts;
use super::levels::Level;
use crate::message::{Message, MessageView};
use crate::stamp::Stamp;

/// Place in the order of one queue. Given out by the queue, growing on each [`Level`], kept over a requeue.
pub type Pos = u64;

/// A message that a queue holds, ready or unacknowledged.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the queue's order.
    pub pos: Pos,
    /// Where its content is.
    pub content: Content,
    /// Octets of its serial form.
    pub size_bytes: u32,
    /// When it is no longer worth delivering, ms since 1970; [`NEVER_MS`](crate::stamp::NEVER_MS): never.
    pub expires_at_ms: u64,
    /// It was handed to somebody before (P4: may be a false positive, never a false negative).
    pub redelivered: bool,
    /// It has headers, which may name its caller. True without having looked, once it was read back from disk.
    pub may_name_caller: bool,
}

/// Where the content of an [`Entry`] is.
#[derive(Clone, Debug)]
pub enum Content {
    /// Only in memory: it does not outlive the process.
    Memory(Arc<Message>),
    /// On disk, perhaps in memory too.
    Stored(Stored),
}

/// A message that the store can read back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Names it in the log's acknowledgements.
    pub id: MessageId,
    /// Where the store finds it.
    pub place: Place,
    /// It must outlive the process: its end is logged. Otherwise it was only put aside to save memory.
    pub durable: bool,
    /// A copy in memory, while there is room.
    pub cached: Option<Arc<Message>>,
}

impl Entry {
    /// The copy in memory, if there is one.
    pub fn cached(&self) -> Option<&Arc<Message>> {
        match &self.content {
            Content::Memory(message) => Some(message),
            Content::Stored(stored) => stored.cached.as_ref(),
        }
    }

    /// The stored form, if there is one.
    pub fn stored(&self) -> Option<&Stored> {
        match &self.content {
            Content::Memory(_) => None,
            Content::Stored(stored) => Some(stored),
        }
    }
}

/// A message that a queue gives up.
#[derive(Clone, Debug)]
pub struct Dead {
    /// What it says. `None` when it goes nowhere and is not in memory either.
    pub message: Option<Arc<Message>>,
    /// There may be somewhere to send it on to.
    pub is_wanted: bool,
    /// What the log must be told.
    pub ended: Option<Ended>,
    /// Why.
    pub reason: DeathReason,
    /// A consumer had it and gave it back, or died with it.
    pub redelivered: bool,
    /// It is not over before somebody has taken its dead letter; its name in the queue.
    pub dying: Option<Pos>,
}

/// Why a queue gives a message up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathReason {
    /// A consumer refused it.
    Rejected,
    /// It waited too long.
    Expired,
    /// The queue was full.
    MaxLen,
    /// Its delivery failed too often.
    DeliveryLimit,
    /// It is a request whose caller is gone. RabbitMQ has no such reason.
    Orphaned,
}

impl DeathReason {
    /// Each of them, in the order of their declaration.
    pub const ALL: [Self; 5] =
        [Self::Rejected, Self::Expired, Self::MaxLen, Self::DeliveryLimit, Self::Orphaned];

    /// RabbitMQ's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLen => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
            Self::Orphaned => "orphaned",
        }
    }
}

/// A durable message whose life ended: the log must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Names it in the log.
    pub id: MessageId,
    /// Where it waited.
    pub level: Level,
    /// Its failed deliveries were noted, which is over too.
    pub noted: bool,
}

/// What is to be noted of a durable message, so that a restart does not forget it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Names it in the log.
    pub id: MessageId,
    /// Where it waits.
    pub level: Level,
    /// How often its delivery came to nothing; `None`: no longer of interest.
    pub attempts: Option<Attempts>,
}

impl Ended {
    /// What is no longer to be noted.
    pub fn note(&self) -> Option<Note> {
        self.noted.then_some(Note { id: self.id, level: self.level, attempts: None })
    }
}

/// How lives ended while a queue worked: what the log and other queues must be told.
#[derive(Debug, Default)]
pub struct Aftermath {
    /// Durable messages that are over.
    pub ended: Vec<Ended>,
    /// Messages given up.
    pub dead: Vec<Dead>,
    /// What is to be noted of others.
    pub notes: Vec<Note>,
}

impl Aftermath {
    /// Whether nothing has to be done.
    pub fn is_nothing(&self) -> bool {
        self.ended.is_empty() && self.dead.is_empty() && self.notes.is_empty()
    }
}

/// A message that arrives at a queue: borrowed, and copied at most once however many queues keep it.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// What it says.
    pub view: MessageView<'a>,
    /// When it was published and when its publisher gives it up.
    pub stamp: Stamp,
    /// Its priority in this queue.
    pub level: Level,
    /// Its id and place in the log, when it must outlive the process.
    pub logged: Option<(MessageId, Place)>,
    /// The copy that the queues share, once one of them needed it.
    pub shared: Option<Arc<Message>>,
}

impl Incoming<'_> {
    /// What the log must be told when it ends at once.
    pub fn ended(&self) -> Option<Ended> {
        self.logged.map(|(id, _)| Ended { id, level: self.level, noted: false })
    }
}
