//! Messages on their way through the windows of exchanges and queues.
//!
//! ```text
//!   route ─► each exchange and queue that deduplicates is asked ─┬─► duplicate there: not that way
//!                                                                └─► new: remembered, tentatively
//!   log the message and what is remembered as one step ─► each queue ─┬─► taken: remembered
//!                                                                     └─► refused (nack): forgotten everywhere
//! ```
//!
//! Two promises decide the order. A message is never dropped because of another that was not kept: what nobody took is
//! forgotten, and the confirm of a duplicate waits for the log as the first one's does. And a durable window never knows
//! less than its queues after a crash: the note is in the same step of the log as the message. So a publisher that sends
//! again whatever was not confirmed makes no second copy.
//!
//! A virtual host judges one message at a time, from the first window that is asked until the queues have answered; only
//! messages that reach a window take part. What the broker moves by itself (dead letters, histories) is never judged:
//! a message that comes back to its queue after a delay is no duplicate of itself.

use std::ops::Range;
use std::sync::Arc;

use leveret_store::{MetaChange, Urgency};
use leveret_wire::RawProperties;
use parking_lot::{Mutex, MutexGuard};

use super::publish::{Undone, in_order, is_persistent};
use super::routed::Routed;
use crate::broker::Broker;
use crate::dedup::{Admission, Deduplicator, Verdict};
use crate::message::MessageView;
use crate::port::Batch;
use crate::vhost::{Exchange, Queue, VHost};

/// The windows of a virtual host, while they judge. Whatever was let in and not [kept](Self::kept) is forgotten when
/// the gate is dropped.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    /// `None`: everything passes.
    judging: Option<&'a Mutex<()>>,
    guard: Option<MutexGuard<'a, ()>>,
    now_ms: u64,
    admitted: Vec<Admitted>,
    /// Of the message that is judged at the moment something was dropped.
    found_duplicate: bool,
    /// Where the log must be durable for all duplicates to be safe.
    first_position: u64,
}

/// What a window has let in.
#[derive(Debug)]
struct Admitted {
    by: Arc<Deduplicator>,
    /// `None`: its fate is known.
    admission: Option<Admission>,
    /// The queue whose window it is; `None`: it is that of an exchange.
    queue: Option<Arc<Queue>>,
}

impl<'a> Gate<'a> {
    /// Everything passes.
    pub(crate) fn open() -> Self {
        Self::new(None, 0)
    }

    /// Asks the windows of a virtual host.
    pub(crate) fn of(vhost: &'a VHost, now_ms: u64) -> Self {
        Self::new(vhost.judging(), now_ms)
    }

    fn new(judging: Option<&'a Mutex<()>>, now_ms: u64) -> Self {
        let admitted = Vec::new();
        Self { judging, guard: None, now_ms, admitted, found_duplicate: false, first_position: 0 }
    }

    /// Waits for its turn now, not when a window is asked: the log must not be held meanwhile.
    pub(crate) fn enter(&mut self) {
        if self.guard.is_none() {
            self.guard = self.judging.map(Mutex::lock);
        }
    }

    /// Another message comes.
    pub(crate) fn next_message(&mut self) {
        self.found_duplicate = false;
    }

    /// Where what was let in so far ends.
    pub(crate) fn mark(&self) -> usize {
        self.admitted.len()
    }

    /// Whether something of this message was dropped: it is not unroutable then.
    pub(crate) fn found_duplicate(&self) -> bool {
        self.found_duplicate
    }

    /// The position in the log that those who sent duplicates have to wait for; 0: none.
    pub(crate) fn first_position(&self) -> u64 {
        self.first_position
    }

    /// Whether a message may go on through an exchange.
    pub(crate) fn passes(&mut self, exchange: &Exchange, properties: RawProperties<'_>) -> bool {
        self.judge(exchange.deduplicator.as_ref(), None, properties)
    }

    /// Whether a message may go to a queue.
    pub(crate) fn reaches(&mut self, queue: &Arc<Queue>, properties: RawProperties<'_>) -> bool {
        self.judge(queue.deduplicator.as_ref(), Some(queue), properties)
    }

    fn judge(
        &mut self,
        by: Option<&Arc<Deduplicator>>,
        queue: Option<&Arc<Queue>>,
        properties: RawProperties<'_>,
    ) -> bool {
        let (Some(by), Some(_)) = (by, self.judging) else { return true };
        let Some((key, expires_at_ms)) = by.key_of(properties, self.now_ms) else { return true };
        self.enter();
        match by.judge(&key, expires_at_ms, self.now_ms) {
            Verdict::New(admission) => {
                self.admitted.push(Admitted {
                    by: by.clone(),
                    admission: Some(admission),
                    queue: queue.cloned(),
                });
                true
            }
            Verdict::Duplicate(position) => {
                self.found_duplicate = true;
                self.first_position = self.first_position.max(position);
                false
            }
        }
    }

    /// What the log has to know together with a message of which this was let in, and how it is taken back.
    pub(crate) fn notes(
        &self,
        range: Range<usize>,
        properties: RawProperties<'_>,
    ) -> (Vec<MetaChange>, Vec<MetaChange>) {
        let persistent = is_persistent(properties);
        let logged = |one: &&Admitted| one.queue.as_ref().is_none_or(|queue| queue.logs(persistent));
        let admitted = self.admitted.get(range).unwrap_or_default().iter().filter(logged);
        admitted.filter_map(|one| one.by.note(one.admission.as_ref()?)).unzip()
    }

    /// A message has been taken; its record in the log is at `position` (0: it is in no log).
    pub(crate) fn kept(&mut self, range: Range<usize>, position: u64) {
        for one in self.admitted.get_mut(range).unwrap_or_default() {
            if let Some(admission) = one.admission.take() {
                one.by.kept(&admission, position);
            }
        }
    }

    /// Of the queues that a message was to go to only these are left.
    pub(crate) fn forget_all_but(&mut self, queues: &[Arc<Queue>]) {
        for one in &mut self.admitted {
            let is_left = |queue: &Arc<Queue>| queues.iter().any(|left| Arc::ptr_eq(left, queue));
            if !one.queue.as_ref().is_none_or(is_left)
                && let Some(admission) = one.admission.take()
            {
                one.by.forget(&admission);
            }
        }
    }

    /// Nobody took a message: the next one with its key is no duplicate.
    pub(crate) fn forget(&mut self, range: Range<usize>) {
        for one in self.admitted.get_mut(range).unwrap_or_default() {
            if let Some(admission) = one.admission.take() {
                one.by.forget(&admission);
            }
        }
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.forget(0..self.mark());
    }
}

impl Broker {
    /// [`Broker::enqueue`] for a message that windows have judged. Answers the position in the log that a confirm has to
    /// wait for; 0: none.
    pub(crate) fn enqueue_once(
        &self,
        routed: &Routed,
        message: &MessageView<'_>,
        mut gate: Gate<'_>,
        batch: &mut Batch,
    ) -> Result<u64, Undone> {
        if routed.is_empty() {
            return Ok(gate.first_position());
        }
        let admitted = 0..gate.mark();
        let position = match admitted.is_empty() {
            true => self.enqueue(routed, message, batch)?,
            false => self.enqueue_noted(routed, message, &gate, batch)?,
        };
        gate.kept(admitted, position);
        Ok(position.max(gate.first_position()))
    }

    fn enqueue_noted(
        &self,
        routed: &Routed,
        message: &MessageView<'_>,
        gate: &Gate<'_>,
        batch: &mut Batch,
    ) -> Result<u64, Undone> {
        let outgoing: Vec<_> = routed.outgoing(*message, batch.now_ms).collect();
        let _in_flight = self.in_flight.read();
        let _order = in_order(outgoing.iter().flat_map(|one| one.queues));
        let (notes, undo) = gate.notes(0..gate.mark(), message.properties);
        let mut logged = self.log_together(outgoing.iter(), &[], &notes, Urgency::Now)?;
        self.offer_logged(&outgoing, &mut logged, &undo, batch)?;
        Ok(logged.position)
    }
}
