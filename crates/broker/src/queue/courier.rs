//! What a queue needs from outside while it works: the way to its consumers, the store, the time.

use leveret_store::{Place, ReadError, Store};

use super::consumers::{Consumer, ConsumerKey};
use super::entry::{Content, Incoming, Pos, Stored};
use super::levels::Level;
use crate::message::{MessageView, ResidentBytes};

/// What happened when a message was handed to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// It took it and can take more.
    Taken,
    /// It took it and has no room for another; it will be resumed.
    TakenLast,
    /// It had no room, nothing was handed over; it will be resumed.
    NoRoom,
}

/// What a queue needs from outside while it works.
pub trait Courier<P> {
    /// Hands a message to a consumer. `pos` names it in a later settlement.
    fn deliver(
        &mut self,
        consumer: &Consumer<P>,
        key: ConsumerKey,
        pos: Pos,
        redelivered: bool,
        message: MessageView<'_>,
    ) -> Handed;

    /// Decides where a message is kept that `waits` for a consumer, or is with one and unacknowledged.
    fn keep(&mut self, incoming: &mut Incoming<'_>, waits: bool) -> Content;

    /// Keeps a message that need not outlive the process on disk, to save memory. `None`: the store has stopped.
    fn put_aside(&mut self, incoming: &Incoming<'_>) -> Option<Stored>;

    /// Reads a stored message of this queue.
    fn read(&self, level: Level, place: Place) -> Result<Vec<u8>, ReadError>;

    /// Where segments are read.
    fn store(&self) -> &Store;

    /// Whether a message that names its caller goes back to it when this queue gives it up.
    fn bounces(&self) -> bool;

    /// Whether a request's caller is gone.
    fn is_orphan(&self, message: &MessageView<'_>) -> bool;

    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// The count of octets in memory.
    fn resident(&self) -> &ResidentBytes;
}
