//! How often the delivery of a message came to nothing, and what waits because of that.
//!
//! Only queues that count keep this, and only for messages that came back. What is counted is also noted in the
//! store, so a message that kills its consumers does not start anew because the broker was restarted.
//!
//! ```text
//!   unacked ─► came back ─► failed + 1, acquired + 1 ─► over the limit: given up
//!                 │                                └──► waits until it is due ─► ready, at its old position
//!                 └─ returned unprocessed (basic.nack): acquired + 1 only
//! ```

use std::collections::BTreeMap;

use hashbrown::HashMap;
use leveret_store::MessageId;
use leveret_wire::{FieldTable, FieldValue};

use super::entry::{Entry, Pos};
use crate::message::{Message, MessageView, ResidentBytes};

/// How often a message was handed out in vain. RabbitMQ 4.3 tells both numbers apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Its consumer rejected it or died with it (`x-delivery-count`).
    pub failed: u32,
    /// It came back, for whatever reason (`x-acquired-count`).
    pub acquired: u32,
    /// Not to be delivered again before, ms since 1970; 0: at once.
    pub due_ms: u64,
}

const ENCODED_BYTES: usize = 17;
const VERSION: u8 = 1;

impl Attempts {
    /// The form in the store.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ENCODED_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.failed.to_le_bytes());
        bytes.extend_from_slice(&self.acquired.to_le_bytes());
        bytes.extend_from_slice(&self.due_ms.to_le_bytes());
        bytes
    }

    /// Reads the form in the store.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let ([VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (failed, rest) = rest.split_first_chunk()?;
        let (acquired, due_ms) = rest.split_first_chunk()?;
        Some(Self {
            failed: u32::from_le_bytes(*failed),
            acquired: u32::from_le_bytes(*acquired),
            due_ms: u64::from_le_bytes(due_ms.try_into().ok()?),
        })
    }

    /// The message as its next consumer sees it, when it was handed out before.
    pub(super) fn told(&self, message: &MessageView<'_>, resident: &ResidentBytes) -> Option<Message> {
        if self.acquired == 0 {
            return None;
        }
        let mut properties = message.properties.to_properties();
        let headers = properties.headers.get_or_insert_with(FieldTable::default);
        headers.insert("x-acquired-count", FieldValue::I64(self.acquired.into()));
        if self.failed > 0 {
            headers.insert("x-delivery-count", FieldValue::I64(self.failed.into()));
        }
        let properties = properties.encode().ok()?;
        let properties = leveret_wire::RawProperties::from_validated(&properties);
        Some(Message::copy_of(&MessageView { properties, ..*message }, resident))
    }
}

/// The messages of one queue that came back.
#[derive(Debug, Default)]
pub(super) struct Returned {
    counts: HashMap<Pos, Attempts>,
    /// Noted in an earlier life of the process; their positions are not known yet.
    recovered: HashMap<MessageId, Attempts>,
    /// Not to be delivered yet.
    waiting: BTreeMap<(u64, Pos), Entry>,
}

impl Returned {
    /// What a restart found.
    pub(super) fn recovered(recovered: HashMap<MessageId, Attempts>) -> Self {
        Self { recovered, ..Self::default() }
    }

    /// How often a message was handed out in vain.
    pub(super) fn attempts(&mut self, entry: &Entry) -> Attempts {
        if self.counts.is_empty() && self.recovered.is_empty() {
            return Attempts::default();
        }
        if let Some(attempts) = self.counts.get(&entry.pos) {
            return *attempts;
        }
        let noted = entry.stored().and_then(|stored| self.recovered.remove(&stored.id));
        if let Some(attempts) = noted {
            self.counts.insert(entry.pos, attempts);
        }
        noted.unwrap_or_default()
    }

    /// A message came back.
    pub(super) fn count(&mut self, entry: &Entry, failed: bool) -> &mut Attempts {
        let mut attempts = self.attempts(entry);
        attempts.acquired = attempts.acquired.saturating_add(1);
        attempts.failed = attempts.failed.saturating_add(failed.into());
        attempts.due_ms = 0;
        let counted = self.counts.entry(entry.pos).or_default();
        *counted = attempts;
        counted
    }

    /// A message is over. Answers whether anything was noted of it.
    pub(super) fn forget(&mut self, entry: &Entry) -> bool {
        if self.counts.is_empty() && self.recovered.is_empty() {
            return false;
        }
        let noted = entry.stored().and_then(|stored| self.recovered.remove(&stored.id));
        self.counts.remove(&entry.pos).is_some() || noted.is_some()
    }

    /// Only what `keep` wants is left: everything else was purged.
    pub(super) fn retain(&mut self, keep: impl Fn(Pos) -> bool) {
        self.counts.retain(|pos, _| keep(*pos));
        self.recovered.clear();
    }

    /// A message waits.
    pub(super) fn wait_until(&mut self, due_ms: u64, entry: Entry) {
        self.waiting.insert((due_ms, entry.pos), entry);
    }

    /// Takes one out whose time has come.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<Entry> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now_ms).then(|| first.remove())
    }

    /// When the next one is due.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((due_ms, _), _)| *due_ms)
    }

    /// Takes all out that wait.
    pub(super) fn drain(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }

    /// What waits.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.waiting.values()
    }

    /// What waits, to be told its new place.
    pub(super) fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.waiting.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_read_back() {
        let attempts = Attempts { failed: 3, acquired: 7, due_ms: 1 << 41 };
        assert_eq!(Attempts::decode(&attempts.encode()), Some(attempts));
        for end in 0..ENCODED_BYTES {
            assert_eq!(Attempts::decode(&attempts.encode()[..end]), None, "cut at {end}");
        }
        assert_eq!(Attempts::decode(&[2; ENCODED_BYTES]), None);
    }
}
