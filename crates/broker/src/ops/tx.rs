//! Transactions and the choice between them and confirms.
//!
//! Publishes and settlements wait in the channel until `tx.commit`, which logs all of them as one record:
//! after `commit-ok` none is lost and no acknowledged message comes back (P3). Across queues a commit is not
//! atomic to readers, as in RabbitMQ.

use std::ops::Range;
use std::sync::Arc;

use leveret_store::{MessageId, MetaChange, Place, QueueId, TxPublish};

use super::deduplicate::Gate;
use super::publish::{Arrival, Publish, Routed, Undone, durable_ids, in_order, is_persistent, ttl_ms};
use super::settle::Settlement;
use crate::channel::{Channel, Mode};
use crate::error::Refusal;
use crate::message::{Message, MessageView};
use crate::port::{Batch, Outstanding};
use crate::queue::Ended;
use crate::stamp::Stamp;
use crate::vhost::Queue;

/// What waits for a commit.
#[derive(Debug, Default)]
pub struct Transaction {
    publishes: Vec<Waiting>,
    settled: Vec<(Vec<Outstanding>, Settlement)>,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    mandatory: bool,
    immediate: bool,
}

impl Transaction {
    pub(crate) fn settle(&mut self, settled: Vec<Outstanding>, settlement: Settlement) {
        self.settled.push((settled, settlement));
    }

    /// The deliveries whose settlement nobody committed.
    pub(crate) fn into_settled(self) -> Vec<Outstanding> {
        self.settled.into_iter().flat_map(|(settled, _)| settled).collect()
    }
}

impl Channel {
    /// `confirm.select`.
    pub fn select_confirms(&mut self) -> Result<(), Refusal> {
        if let Mode::Tx(_) = self.mode {
            return Err(Refusal::precondition("cannot switch from tx to confirm mode"));
        }
        self.mode = Mode::Confirm;
        Ok(())
    }

    /// `tx.select`.
    pub fn select_tx(&mut self) -> Result<(), Refusal> {
        match self.mode {
            Mode::Confirm => Err(Refusal::precondition("cannot switch from confirm to tx mode")),
            Mode::Tx(_) => Ok(()),
            Mode::Plain => {
                self.mode = Mode::Tx(Transaction::default());
                Ok(())
            }
        }
    }

    /// `tx.rollback`: publishes are forgotten, settlements undone; nothing is requeued.
    pub fn rollback(&mut self) -> Result<(), Refusal> {
        let settled = self.take_transaction()?.into_settled();
        self.port.restore(settled);
        Ok(())
    }

    /// `tx.commit`. Answers the position in the log to wait for before `commit-ok` (0: none).
    pub fn commit(&mut self, batch: &mut Batch) -> Result<u64, Refusal> {
        let transaction = self.take_transaction()?;
        let (broker, vhost) = (self.connection.broker.clone(), self.connection.vhost.clone());
        let mut gate = Gate::of(&vhost, batch.now_ms);
        if !transaction.publishes.is_empty() {
            gate.enter(); // before the log is held: whoever is judged at the moment may wait for it
        }
        let _in_flight = broker.in_flight.read();
        match self.commit_publishes(&transaction, gate, batch) {
            Ok(position) => {
                self.commit_settlements(transaction.settled, batch)?;
                batch.urgent |= position > 0;
                Ok(position)
            }
            Err(refusal) => {
                // The channel will be closed, and what nobody has settled goes back.
                self.port.restore(transaction.into_settled());
                Err(refusal)
            }
        }
    }

    /// Logs the transaction and gives its messages to their queues.
    fn commit_publishes(
        &mut self,
        transaction: &Transaction,
        mut gate: Gate<'_>,
        batch: &mut Batch,
    ) -> Result<u64, Refusal> {
        let broker = self.connection.broker.clone();
        let mut routes = Vec::new();
        let routed = self.route_all(&transaction.publishes, &mut routes, &mut gate, batch)?;
        let _order = in_order(routed.iter().flat_map(|one| one.queues));
        let (ids, position) = self.log_transaction(&routed, &transaction.settled)?;
        let mut ids = ids.into_iter();
        for one in &routed {
            let logged = one.is_logged().then(|| ids.next()).flatten();
            let logged = logged.map(|id| (id, Place::Log { id, len: one.message.size_bytes() as u32 }));
            // A damaged queue cannot take its part; the others have theirs, as with any fan-out.
            let arrival = Arrival { stamp: one.stamp, logged, undo: &one.undo };
            match broker.offer(one.queues, &one.message, &arrival, batch) {
                Ok(()) => gate.kept(one.admitted.clone(), position),
                Err(Undone::NotTaken) => {}
                Err(Undone::Refused(refusal)) => return Err(refusal),
            }
        }
        Ok(position.max(gate.first_position()))
    }

    fn commit_settlements(
        &mut self,
        settled: Vec<(Vec<Outstanding>, Settlement)>,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        for (settled, settlement) in settled {
            match settlement {
                Settlement::Requeue { failed } => self.requeue(settled, failed, batch),
                Settlement::Ack => self.finish(&settled, batch, false)?,
                // A dead letter leaves before its original is over, so its end is logged with it.
                Settlement::Discard => self.apply(settled, Settlement::Discard, batch)?,
            }
        }
        Ok(())
    }

    pub(crate) fn publish_in_tx(&mut self, publish: &Publish<'_>) -> Result<(), Refusal> {
        let message = Message::copy_of(&publish.message, &self.connection.broker.resident);
        if let Mode::Tx(transaction) = &mut self.mode {
            let Publish { mandatory, immediate, .. } = *publish;
            transaction.publishes.push(Waiting { message, mandatory, immediate });
        }
        Ok(())
    }

    fn take_transaction(&mut self) -> Result<Transaction, Refusal> {
        match &mut self.mode {
            Mode::Tx(transaction) => Ok(std::mem::take(transaction)),
            Mode::Plain | Mode::Confirm => Err(Refusal::precondition("channel is not transactional")),
        }
    }

    fn route_all<'a>(
        &mut self,
        publishes: &'a [Waiting],
        routes: &'a mut Vec<(Routed, Range<usize>)>,
        gate: &mut Gate<'_>,
        batch: &mut Batch,
    ) -> Result<Vec<Leaving<'a>>, Refusal> {
        for Waiting { message, mandatory, immediate } in publishes {
            let (mandatory, immediate) = (*mandatory, *immediate);
            let publish = Publish { message: message.view(), mandatory, immediate };
            let first = gate.mark();
            let routed = self.route_or_return(&publish, gate, batch)?;
            let admitted = first..gate.mark();
            if routed.queues.is_empty() {
                gate.forget(admitted.clone());
            }
            routes.push((routed, admitted));
        }
        let now_ms = batch.now_ms;
        let leaving = |(waiting, (routed, admitted)): (&'a Waiting, &'a (Routed, Range<usize>))| {
            let message = routed.visible(&waiting.message.view());
            let stamp = Stamp::new(now_ms, ttl_ms(waiting.message.view().properties));
            let (notes, undo) = gate.notes(admitted.clone(), message.properties);
            Leaving { message, queues: &routed.queues, stamp, admitted: admitted.clone(), notes, undo }
        };
        Ok(publishes.iter().zip(routes.iter()).map(leaving).collect())
    }

    fn log_transaction(
        &self,
        leaving: &[Leaving<'_>],
        settled: &[(Vec<Outstanding>, Settlement)],
    ) -> Result<(Vec<MessageId>, u64), Refusal> {
        let acks = acknowledged(settled);
        let logged: Vec<_> = leaving.iter().filter(|one| one.is_logged()).collect();
        if logged.is_empty() && acks.is_empty() {
            return Ok((Vec::new(), 0));
        }
        let queues: Vec<Vec<QueueId>> =
            logged.iter().map(|one| durable_ids(one.queues, one.message.properties)).collect();
        let payloads: Vec<Vec<u8>> = logged.iter().map(|one| one.message.to_payload()).collect();
        let stamps: Vec<_> = logged.iter().map(|one| one.stamp.encode()).collect();
        let parts: Vec<[&[u8]; 1]> = payloads.iter().map(|payload| [payload.as_slice()]).collect();
        let publishes: Vec<TxPublish<'_>> = queues
            .iter()
            .zip(&stamps)
            .zip(&parts)
            .map(|((queues, attributes), parts)| TxPublish { queues, attributes, parts })
            .collect();
        let notes: Vec<MetaChange> = logged.iter().flat_map(|one| one.notes.iter().cloned()).collect();
        Ok(self.connection.broker.store.transaction(&publishes, &acks, &notes)?)
    }
}

/// A message of a transaction on its way to its queues.
struct Leaving<'a> {
    message: MessageView<'a>,
    queues: &'a [Arc<Queue>],
    stamp: Stamp,
    /// What windows have let in of it.
    admitted: Range<usize>,
    notes: Vec<MetaChange>,
    undo: Vec<MetaChange>,
}

impl Leaving<'_> {
    fn is_logged(&self) -> bool {
        let persistent = is_persistent(self.message.properties);
        self.queues.iter().any(|queue| queue.logs(persistent))
    }
}

/// What the log must forget, by queue.
fn acknowledged(settled: &[(Vec<Outstanding>, Settlement)]) -> Vec<(QueueId, Vec<MessageId>)> {
    let over = settled.iter().filter(|(_, settlement)| *settlement == Settlement::Ack);
    let mut acks = Vec::new();
    for run in over.flat_map(|(settled, _)| settled.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue))) {
        let mut life = run[0].queue.lock();
        let Some(state) = life.rule() else { continue };
        let ended: Vec<Ended> = run.iter().filter_map(|one| state.would_end(one.pos)).collect();
        for level in ended.chunk_by(|a, b| a.level == b.level) {
            let ids = level.iter().map(|ended| ended.id).collect();
            acks.push((run[0].queue.store_id(level[0].level), ids));
        }
    }
    acks
}
