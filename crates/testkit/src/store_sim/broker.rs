//! A very small broker: just enough to use the store as the real one does.

use std::collections::BTreeMap;

use leveret_store::{
    CommitError, LogSpan, MessageId, MetaChange, Place, Position, QueueId, ReadError, Recovery, Segments,
    Store, StoreFailed, TxPublish, Urgency,
};

use super::check::{attributes_of, checked, message_number};
use super::model::{Effect, Model, queue_key};
use super::{End, Expected, Simulation};

/// Never declared: its messages are transient.
const TRANSIENT_QUEUE: QueueId = QueueId(1 << 40);
const QUEUES_MAX: usize = 5;

/// One running store with its queues.
pub(super) struct Broker {
    pub(super) store: Store,
    queues: BTreeMap<QueueId, Queue>,
    /// Spilled messages and where they went.
    transient: Queue,
    next_pos: u64,
}

/// Messages in the broker's hands by their place in the queue, and the settled ones.
struct Queue {
    id: QueueId,
    memory: BTreeMap<u64, Entry>,
    segments: Segments,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    message: u64,
    id: MessageId,
    place: Place,
}

/// Why an action did not end well.
enum Trouble {
    /// The process is over, or the disk is full for now.
    Store(CommitError),
    Violation(String),
}

impl From<StoreFailed> for Trouble {
    fn from(failed: StoreFailed) -> Self {
        Self::Store(CommitError::Failed(failed))
    }
}

impl From<CommitError> for Trouble {
    fn from(error: CommitError) -> Self {
        Self::Store(error)
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Violation(format!("a sound message cannot be read: {error}"))
    }
}

impl From<String> for Trouble {
    fn from(what: String) -> Self {
        Self::Violation(what)
    }
}

impl Queue {
    fn new(id: QueueId, transient: bool) -> Self {
        Self { id, memory: BTreeMap::new(), segments: Segments::new(id, transient) }
    }
}

impl Broker {
    pub(super) fn new(store: Store, recovery: Recovery, model: &Model) -> Self {
        let mut broker = Self {
            store,
            queues: BTreeMap::new(),
            transient: Queue::new(TRANSIENT_QUEUE, true),
            next_pos: 1,
        };
        for recovered in recovery.queues {
            broker.next_pos = broker.next_pos.max(recovered.last_pos + 1);
            let mut queue = Queue { id: recovered.id, memory: BTreeMap::new(), segments: recovered.segments };
            for message in recovered.log {
                let entry = Entry {
                    message: message_number(&message.attributes),
                    id: message.id,
                    place: message.place,
                };
                queue.memory.insert(broker.next_pos, entry);
                broker.next_pos += 1;
            }
            broker.queues.insert(recovered.id, queue);
        }
        for queue in model.latest.meta.keys().filter_map(|key| parse_queue_key(key)) {
            broker.queues.entry(queue).or_insert_with(|| Queue::new(queue, false));
        }
        // A queue that nobody declared, or whose delete was cut short, is only known to the store.
        let unknown = |queue: &QueueId| !model.latest.meta.contains_key(&queue_key(*queue));
        let dropped: Vec<_> = broker.queues.keys().copied().filter(unknown).collect();
        for queue in dropped {
            broker.queues.remove(&queue);
            let _ = broker.store.drop_queue(queue, false);
        }
        broker
    }

    fn ids(&self) -> Vec<QueueId> {
        self.queues.keys().copied().collect()
    }
}

fn parse_queue_key(key: &[u8]) -> Option<QueueId> {
    std::str::from_utf8(key).ok()?.strip_prefix("queue/")?.parse().ok().map(QueueId)
}

impl Simulation {
    /// Acts at random until the process ends one way or the other.
    pub(super) fn live(&mut self, broker: &mut Broker) -> Result<End, String> {
        self.plan_faults();
        let actions = self.random.below(250);
        for _ in 0..actions {
            match self.act(broker) {
                Ok(()) => {}
                Err(Trouble::Violation(_)) if self.disk.is_down() => return Ok(End::Crashed),
                Err(Trouble::Violation(what)) => return Err(what),
                Err(Trouble::Store(CommitError::DiskFull)) => {
                    self.coverage.disk_full += 1;
                    self.say(|| "disk full".to_owned());
                }
                Err(Trouble::Store(CommitError::Failed(failed))) => return self.stopped(broker, &failed),
            }
            self.check_counts(broker)?;
        }
        if self.random.chance(2, 3) { Ok(End::Crashed) } else { self.close(broker) }
    }

    fn plan_faults(&mut self) {
        if self.random.chance(2, 3) {
            self.disk.crash_after(1 + self.random.below(150));
        }
        if self.random.chance(1, 6) {
            self.disk.fail_sync_after(1 + self.random.below(60));
        }
    }

    /// A store that has failed once must refuse everything.
    fn stopped(&mut self, broker: &Broker, failed: &StoreFailed) -> Result<End, String> {
        self.say(|| format!("stopped: {failed}"));
        if !self.disk.is_down() {
            self.coverage.latched += 1;
        }
        let store = &broker.store;
        let refused = store.commit().is_err() && store.publish(&[QueueId(1)], false, &[0; 16], &[]).is_err();
        if refused { Ok(End::Crashed) } else { Err("a failed store goes on".to_owned()) }
    }

    fn close(&mut self, broker: &Broker) -> Result<End, String> {
        self.disk.set_capacity(None);
        let notes: Vec<_> = broker.ids().into_iter().map(|queue| (queue, vec![queue.0 as u8])).collect();
        self.say(|| "close".to_owned());
        match broker.store.close(&notes) {
            Ok(()) => Ok(End::Closed(notes)),
            Err(_) => {
                self.expected = Expected::Either;
                Ok(End::Crashed)
            }
        }
    }

    /// What the model knows, the segments count and the broker holds must agree.
    fn check_counts(&self, broker: &Broker) -> Result<(), String> {
        for queue in broker.queues.values() {
            let counted = queue.memory.len() + queue.segments.ready_len() as usize;
            let expected = self.model.latest.messages(queue.id);
            if counted != expected {
                return Err(format!("queue {}: {counted} counted, {expected} alive", queue.id.0));
            }
        }
        Ok(())
    }

    fn act(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        match self.random.below(100) {
            0..35 => self.publish(broker),
            35..55 => self.ack(broker),
            55..65 => self.take(broker),
            65..69 => self.read_back(broker),
            69..82 => self.commit(broker),
            82..86 => self.declare(broker),
            86..90 => self.transaction(broker),
            90..95 => self.settle(broker),
            95 => self.purge(broker),
            96 => self.delete(broker),
            97 => {
                self.say(|| "rotate".to_owned());
                broker.store.rotate();
                Ok(broker.store.prepare_next_file()?)
            }
            98 => self.spill(broker),
            _ => {
                let room = self.disk.used_bytes() + self.random.below(3000);
                let capacity = self.random.chance(1, 2).then_some(room);
                self.say(|| format!("capacity {capacity:?}"));
                self.disk.set_capacity(capacity);
                Ok(())
            }
        }
    }

    fn some_queues(&mut self, broker: &Broker) -> Vec<QueueId> {
        self.random.some_of(broker.ids())
    }

    fn next_message(&mut self) -> (u64, Vec<u8>) {
        let message = self.next_message;
        self.next_message += 1;
        (message, Self::body(message))
    }

    /// Ids only ever grow.
    fn note_id(&mut self, id: MessageId) -> Result<(), String> {
        if id <= self.highest_id {
            return Err(format!("{id:?} after {:?}", self.highest_id));
        }
        self.highest_id = id;
        Ok(())
    }

    fn publish(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let queues = self.some_queues(broker);
        if queues.is_empty() {
            return Ok(());
        }
        let (message, body) = self.next_message();
        let (head, tail) = body.split_at(self.random.below(body.len() as u64 + 1) as usize);
        let id = broker.store.publish(&queues, false, &attributes_of(message), &[head, tail])?;
        self.say(|| format!("publish {message} to {queues:?}: {id:?}, {} bytes", body.len()));
        self.note_id(id)?;
        self.model.append(id.0, queues.iter().map(|queue| Effect::Add(*queue, message)).collect());
        broker.enqueue(&queues, message, id, body.len());
        Ok(())
    }

    fn ack(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let Some(queue) = self.random.pick(&broker.ids()).copied() else { return Ok(()) };
        let positions: Vec<_> = broker.queues[&queue].memory.keys().copied().collect();
        let positions = self.random.some_of(positions);
        if positions.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = positions.iter().map(|pos| broker.queues[&queue].memory[pos]).collect();
        let ids: Vec<_> = entries.iter().map(|entry| entry.id).collect();
        let position = broker.store.ack(queue, &ids)?;
        let messages: Vec<_> = entries.iter().map(|entry| entry.message).collect();
        self.say(|| format!("ack {messages:?} of {queue:?}: {position}"));
        self.acked(position, queue, &messages);
        broker.forget(queue, &positions);
        Ok(())
    }

    fn acked(&mut self, position: Position, queue: QueueId, messages: &[u64]) {
        let effects = messages.iter().map(|message| Effect::Remove(queue, *message)).collect();
        self.model.append(position, effects);
    }

    /// Takes the next settled message into the broker's hands.
    fn take(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let Some(queue) = self.random.pick(&broker.ids()).copied() else { return Ok(()) };
        let Some(state) = broker.queues.get_mut(&queue) else { return Ok(()) };
        let Some((head, body)) = state.segments.next(&broker.store)? else { return Ok(()) };
        let message = checked(message_number(&head.attributes), &body)?;
        self.say(|| format!("take {message} of {queue:?} at {:?}", head.place));
        state.memory.insert(head.pos, Entry { message, id: head.id, place: head.place });
        Ok(())
    }

    fn read_back(&mut self, broker: &Broker) -> Result<(), Trouble> {
        let Some(queue) = self.random.pick(&broker.ids()).copied() else { return Ok(()) };
        let entries: Vec<_> = broker.queues[&queue].memory.values().collect();
        let Some(entry) = self.random.pick(&entries) else { return Ok(()) };
        checked(entry.message, &broker.store.read(entry.place, queue)?)?;
        Ok(())
    }

    fn commit(&mut self, broker: &Broker) -> Result<(), Trouble> {
        let durable = broker.store.commit();
        self.say(|| format!("commit: {durable:?}"));
        self.model.advance(durable?);
        Ok(())
    }

    /// Declares a queue, and changes another key with it.
    fn declare(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let other = vec![self.random.below(4) as u8];
        let value = vec![self.random.next() as u8; self.random.below(40) as usize];
        let mut changes = vec![MetaChange::Put(other.clone(), value.clone())];
        let mut effects = vec![Effect::Put(other, value)];
        let declared = (broker.queues.len() < QUEUES_MAX).then_some(QueueId(self.next_queue));
        if let Some(queue) = declared {
            self.next_queue += 1;
            changes.push(MetaChange::Put(queue_key(queue), Vec::new()));
            effects.push(Effect::Put(queue_key(queue), Vec::new()));
        }
        let position = broker.store.meta(&changes)?;
        self.say(|| format!("declare {declared:?}: {position}"));
        self.model.append(position, effects);
        if let Some(queue) = declared {
            broker.queues.insert(queue, Queue::new(queue, false));
        }
        Ok(())
    }

    /// Deletes a queue: first the map, durably, then its files.
    fn delete(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let Some(queue) = self.random.pick(&broker.ids()).copied() else { return Ok(()) };
        let position = broker.store.meta(&[MetaChange::Delete(queue_key(queue))])?;
        self.say(|| format!("delete {queue:?}: {position}"));
        self.model.append(position, vec![Effect::Delete(queue_key(queue))]);
        broker.queues.remove(&queue);
        self.commit(broker)?;
        Ok(broker.store.drop_queue(queue, false)?)
    }

    /// Publishes to two queues, acks in a third and notes it in the map, all or nothing.
    fn transaction(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let (first, second) = (self.some_queues(broker), self.some_queues(broker));
        let Some(acked) = self.random.pick(&broker.ids()).copied() else { return Ok(()) };
        if first.is_empty() || second.is_empty() {
            return Ok(());
        }
        let positions: Vec<_> = broker.queues[&acked].memory.keys().copied().take(2).collect();
        let entries: Vec<_> = positions.iter().map(|pos| broker.queues[&acked].memory[pos]).collect();
        let (one, one_body) = self.next_message();
        let (two, two_body) = self.next_message();
        let (one_attributes, two_attributes) = (attributes_of(one), attributes_of(two));
        let publishes = [
            TxPublish { queues: &first, attributes: &one_attributes, parts: &[&one_body] },
            TxPublish { queues: &second, attributes: &two_attributes, parts: &[&two_body] },
        ];
        let ids = entries.iter().map(|entry| entry.id).collect();
        let (note, value) = (vec![self.random.below(4) as u8], one.to_le_bytes().to_vec());
        let changes = [MetaChange::Put(note.clone(), value.clone())];
        let (published, position) =
            broker.store.transaction(&publishes, &[(acked, ids)], &changes, Urgency::Now)?;
        let gone: Vec<_> = entries.iter().map(|entry| entry.message).collect();
        self.say(|| format!("tx publish {one} to {first:?}, {two} to {second:?}, ack {gone:?} of {acked:?}"));
        let added = first.iter().map(|queue| Effect::Add(*queue, one));
        let added = added.chain(second.iter().map(|queue| Effect::Add(*queue, two)));
        let removed = gone.iter().map(|message| Effect::Remove(acked, *message));
        let effects = added.chain(removed).chain([Effect::Put(note, value)]).collect();
        self.model.append(position, effects);
        self.note_id(published[0])?;
        self.note_id(published[1])?;
        broker.forget(acked, &positions);
        broker.enqueue(&first, one, published[0], one_body.len());
        broker.enqueue(&second, two, published[1], two_body.len());
        Ok(())
    }

    /// Everything that is not in the broker's hands goes.
    fn purge(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let Some(queue) = self.random.pick(&broker.ids()).copied() else { return Ok(()) };
        let Some(state) = broker.queues.get_mut(&queue) else { return Ok(()) };
        let keep: Vec<_> = state.memory.values().map(|entry| entry.id).collect();
        let position = broker.store.purge(queue, self.highest_id, &keep)?;
        let kept: Vec<_> = state.memory.values().map(|entry| entry.message).collect();
        let alive = self.model.latest.queues.get(&queue).cloned().unwrap_or_default();
        let gone: Vec<_> = alive.into_iter().filter(|message| !kept.contains(message)).collect();
        self.say(|| format!("purge {queue:?}: {gone:?} at {position}"));
        if state.segments.purge_ready() as usize != gone.len() {
            return Err(Trouble::Violation("purge counted wrong".to_owned()));
        }
        self.acked(position, queue, &gone);
        Ok(())
    }

    /// Spills a transient message.
    fn spill(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let (message, body) = self.next_message();
        let id = broker.store.publish(&[TRANSIENT_QUEUE], true, &attributes_of(message), &[&body])?;
        self.note_id(id)?;
        let place = Place::Log { id, len: body.len() as u32 };
        broker.transient.memory.insert(broker.next_pos, Entry { message, id, place });
        broker.next_pos += 1;
        Ok(())
    }

    /// Settles the oldest full log file.
    fn settle(&mut self, broker: &mut Broker) -> Result<(), Trouble> {
        let Some(span) = broker.store.file_to_settle() else { return Ok(()) };
        self.say(|| format!("settle {span:?}"));
        for queue in broker.ids() {
            self.settle_queue(broker, queue, &span)?;
        }
        self.settle_transient(broker, &span)?;
        // Other queues have acks to flush although nothing of them lies in this file.
        for queue in broker.queues.values_mut().filter(|queue| queue.segments.needs_flush()) {
            queue.segments.flush_acks(&broker.store, span.number)?;
        }
        broker.store.retire(span.number)?;
        self.model.advance(broker.store.durable());
        self.coverage.retired_files += 1;
        Ok(())
    }

    fn settle_queue(&mut self, broker: &mut Broker, queue: QueueId, span: &LogSpan) -> Result<(), Trouble> {
        let moved = broker.copy_out(queue, false, span)?;
        // Between copying and taking over, consumers go on.
        if let Some((pos, entry, _)) = self.random.pick(&moved).copied().filter(|_| self.random.chance(1, 8))
        {
            let position = broker.store.ack(queue, &[entry.id])?;
            self.say(|| format!("ack {} of {queue:?} while it is settled: {position}", entry.message));
            self.acked(position, queue, &[entry.message]);
            broker.forget(queue, &[pos]);
        }
        let hold = self.random.chance(1, 2);
        let Some(state) = broker.queues.get_mut(&queue) else { return Ok(()) };
        for (pos, _, place) in moved {
            match state.memory.get_mut(&pos) {
                None => state.segments.ack(place),
                Some(entry) if hold => {
                    entry.place = place;
                    state.segments.hold(place);
                }
                Some(_) => drop(state.memory.remove(&pos)),
            }
        }
        Ok(())
    }

    fn settle_transient(&mut self, broker: &mut Broker, span: &LogSpan) -> Result<(), Trouble> {
        let moved = broker.copy_out(TRANSIENT_QUEUE, true, span)?;
        for (pos, entry, place) in moved {
            checked(entry.message, &broker.store.read(place, TRANSIENT_QUEUE)?)?;
            broker.transient.memory.remove(&pos);
            if self.random.chance(1, 2) {
                broker.transient.segments.ack(place);
            }
        }
        Ok(broker.transient.segments.flush_acks(&broker.store, span.number)?)
    }
}

impl Broker {
    fn enqueue(&mut self, queues: &[QueueId], message: u64, id: MessageId, len: usize) {
        let place = Place::Log { id, len: len as u32 };
        for queue in queues {
            if let Some(queue) = self.queues.get_mut(queue) {
                queue.memory.insert(self.next_pos, Entry { message, id, place });
                self.next_pos += 1;
            }
        }
    }

    fn forget(&mut self, queue: QueueId, positions: &[u64]) {
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        for pos in positions {
            if let Some(entry) = queue.memory.remove(pos) {
                queue.segments.ack(entry.place);
            }
        }
    }

    /// Copies what one queue has in a log file into blocks and adds them.
    fn copy_out(
        &mut self,
        queue: QueueId,
        transient: bool,
        span: &LogSpan,
    ) -> Result<Vec<(u64, Entry, Place)>, Trouble> {
        let state = if transient { Some(&mut self.transient) } else { self.queues.get_mut(&queue) };
        let Some(state) = state else { return Ok(Vec::new()) };
        let mut writer = self.store.block_writer(queue, transient, span.number, &state.segments.tail());
        let mut moved = Vec::new();
        for (pos, entry) in &state.memory {
            if !matches!(entry.place, Place::Log { id, .. } if id < span.end) {
                continue;
            }
            let body = self.store.read(entry.place, queue)?;
            checked(entry.message, &body)?;
            let place = writer.push(*pos, entry.id, &attributes_of(entry.message), &body);
            moved.push((*pos, *entry, place));
        }
        state.segments.add(writer.finish()?);
        Ok(moved)
    }
}
