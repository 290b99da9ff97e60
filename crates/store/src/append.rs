//! Appends: everything that becomes a record of the log. Any thread, one short lock, one copy.

use std::sync::atomic::Ordering;

use crate::error::StoreFailed;
use crate::meta::{self, MetaChange};
use crate::place::{Attributes, MessageId, Position, QueueId};
use crate::record::{Kind, PreparedRecord, encode_ids, encode_notes};
use crate::store::{Store, Urgency};

/// A durable message inside a [`Store::transaction`].
#[derive(Debug, Clone, Copy)]
pub struct TxPublish<'a> {
    /// Where it goes; not empty.
    pub queues: &'a [QueueId],
    /// The caller's bytes.
    pub attributes: &'a Attributes,
    /// Together the payload.
    pub parts: &'a [&'a [u8]],
}

impl Store {
    /// Appends a message once for all its queues and returns at once; durable when `durable() > id`.
    ///
    /// `parts` together are the payload. A `transient` message is forgotten at the next open; it is here only
    /// to free memory.
    ///
    /// # Errors
    /// When the store has stopped, or the limits of [`StoreFailed`] are exceeded.
    pub fn publish(
        &self,
        queues: &[QueueId],
        transient: bool,
        attributes: &Attributes,
        parts: &[&[u8]],
    ) -> Result<MessageId, StoreFailed> {
        let record = PreparedRecord::publish(self.seed, queues, transient, attributes, parts);
        let urgency = if transient { Urgency::Soon } else { Urgency::Now };
        self.append(&record, urgency).map(MessageId)
    }

    /// These messages of a queue are no longer alive.
    ///
    /// # Errors
    /// As for [`Store::publish`].
    pub fn ack<'a>(
        &self,
        queue: QueueId,
        ids: impl IntoIterator<Item = &'a MessageId>,
    ) -> Result<Position, StoreFailed> {
        let payload = encode_ids(ids);
        let parts: [&[u8]; 1] = [&payload];
        self.append(&PreparedRecord::control(self.seed, Kind::Ack, &[queue], &parts), Urgency::Soon)
    }

    /// Everything of a queue with `id <= up_to` is gone, except `keep` (those in consumers' hands).
    ///
    /// `up_to` must not reach ids that another thread has appended and not yet brought to the queue.
    ///
    /// # Errors
    /// As for [`Store::publish`].
    pub fn purge(
        &self,
        queue: QueueId,
        up_to: MessageId,
        keep: &[MessageId],
    ) -> Result<Position, StoreFailed> {
        let payload = encode_ids(std::iter::once(&up_to).chain(keep));
        let parts: [&[u8]; 1] = [&payload];
        self.append(&PreparedRecord::control(self.seed, Kind::Purge, &[queue], &parts), Urgency::Soon)
    }

    /// Changes the key/value map: all of them or, after a crash before they are durable, none.
    ///
    /// # Errors
    /// As for [`Store::publish`]; the map is unchanged then.
    pub fn meta(&self, changes: &[MetaChange]) -> Result<Position, StoreFailed> {
        self.change_map(changes, Urgency::Now)
    }

    /// The same for what is only noted beside messages: nobody waits for it, so the committer need not hurry.
    ///
    /// # Errors
    /// As for [`Store::meta`].
    pub fn note(&self, changes: &[MetaChange]) -> Result<Position, StoreFailed> {
        self.change_map(changes, Urgency::Soon)
    }

    /// Removes the keys that begin with `prefix`, except those that `keep` wants.
    ///
    /// # Errors
    /// As for [`Store::meta`].
    pub fn forget_notes(&self, prefix: &[u8], keep: impl Fn(&[u8]) -> bool) -> Result<(), StoreFailed> {
        let found: Vec<MetaChange> = {
            let map = self.meta.lock();
            let with_prefix = map.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            with_prefix
                .filter(|(key, _)| !keep(key))
                .map(|(key, _)| MetaChange::Delete(key.clone()))
                .collect()
        };
        match found.is_empty() {
            true => Ok(()),
            false => self.note(&found).map(drop),
        }
    }

    fn change_map(&self, changes: &[MetaChange], urgency: Urgency) -> Result<Position, StoreFailed> {
        let payload = meta::encode_changes(changes);
        let parts: [&[u8]; 1] = [&payload];
        let record = PreparedRecord::control(self.seed, Kind::Meta, &[], &parts);
        // Held across the append, so that the map changes in the order of the log.
        let mut map = self.meta.lock();
        let (position, wake_up) = self.append_silently(std::slice::from_ref(&record), urgency)?;
        meta::apply(&mut map, changes.iter().cloned());
        drop(map);
        self.wake_committer(wake_up);
        Ok(position)
    }

    /// Publishes, acks and changes of the key/value map that are durable together: after a crash all of them happened
    /// or none.
    ///
    /// The returned position is that of the last record; durable when `durable()` is greater. `urgency` says whether
    /// somebody waits for that.
    ///
    /// # Errors
    /// As for [`Store::publish`]; nothing was appended then.
    pub fn transaction(
        &self,
        publishes: &[TxPublish<'_>],
        acks: &[(QueueId, Vec<MessageId>)],
        changes: &[MetaChange],
        urgency: Urgency,
    ) -> Result<(Vec<MessageId>, Position), StoreFailed> {
        let change_payload = meta::encode_changes(changes);
        let change_parts: [&[u8]; 1] = [&change_payload];
        let payloads: Vec<_> = acks.iter().map(|(_, ids)| encode_ids(ids)).collect();
        let ack_parts: Vec<[&[u8]; 1]> = payloads.iter().map(|payload| [payload.as_slice()]).collect();
        let mut records: Vec<_> = publishes
            .iter()
            .map(|tx| PreparedRecord::publish(self.seed, tx.queues, false, tx.attributes, tx.parts))
            .collect();
        records.extend(
            acks.iter()
                .zip(&ack_parts)
                .map(|((queue, _), parts)| PreparedRecord::control(self.seed, Kind::Ack, &[*queue], parts)),
        );
        if !changes.is_empty() {
            records.push(PreparedRecord::control(self.seed, Kind::Meta, &[], &change_parts));
        }
        if records.is_empty() {
            return Ok((Vec::new(), self.durable().saturating_sub(1)));
        }
        // As in `meta`: the map changes in the order of the log.
        let mut map = (!changes.is_empty()).then(|| self.meta.lock());
        let (first, wake_up) = self.append_silently(&records, urgency)?;
        if let Some(map) = &mut map {
            meta::apply(map, changes.iter().cloned());
        }
        drop(map);
        self.wake_committer(wake_up);
        Ok(positions_from(first, &records, publishes.len()))
    }

    /// A queue's files are about to be removed.
    pub(crate) fn append_drop(&self, queue: QueueId) -> Result<Position, StoreFailed> {
        self.append(&PreparedRecord::control(self.seed, Kind::Drop, &[queue], &[]), Urgency::Now)
    }

    /// The end of a clean stop.
    pub(crate) fn append_clean(&self, notes: &[(QueueId, Vec<u8>)]) -> Result<Position, StoreFailed> {
        let payload = encode_notes(notes);
        let parts: [&[u8]; 1] = [&payload];
        self.append(&PreparedRecord::control(self.seed, Kind::Clean, &[], &parts), Urgency::Now)
    }

    fn append(&self, record: &PreparedRecord<'_>, urgency: Urgency) -> Result<Position, StoreFailed> {
        let (position, wake_up) = self.append_silently(std::slice::from_ref(record), urgency)?;
        self.wake_committer(wake_up);
        Ok(position)
    }

    /// Appends under one lock and returns the position of the first record and the wake-up that is due.
    ///
    /// Records appended together are in one batch, and a batch is recovered whole or not at all.
    fn append_silently(
        &self,
        records: &[PreparedRecord<'_>],
        urgency: Urgency,
    ) -> Result<(Position, Option<Urgency>), StoreFailed> {
        self.guard.check()?;
        let mut gather = self.gather.lock();
        gather.check_room(records.iter().map(PreparedRecord::len).sum())?;
        let first = gather.next_position();
        for record in records {
            gather.append(record);
        }
        self.appended.store(gather.next_position(), Ordering::Release);
        Ok((first, gather.wake_up(urgency, self.options.gather_bytes)))
    }

    fn wake_committer(&self, urgency: Option<Urgency>) {
        if let (Some(urgency), Some(wake)) = (urgency, self.wake.get()) {
            wake(urgency);
        }
    }
}

/// Ids of the first `publish_count` records and the position of the last one, as they lie one after another.
fn positions_from(
    first: Position,
    records: &[PreparedRecord<'_>],
    publish_count: usize,
) -> (Vec<MessageId>, Position) {
    let mut positions = Vec::with_capacity(records.len());
    let mut next = first;
    for record in records {
        positions.push(next);
        next += record.len() as u64;
    }
    let last = positions.last().copied().unwrap_or(first);
    (positions.into_iter().take(publish_count).map(MessageId).collect(), last)
}
