//! Transactions and the choice between them and confirms.
//!
//! Publishes and settlements wait in the channel until `tx.commit`, which logs all of them as one record:
//! after `commit-ok` none is lost and no acknowledged message comes back (P3). Across queues a commit is not
//! atomic to readers, as in RabbitMQ.

use std::ops::Range;
use std::sync::Arc;

use leveret_store::{MessageId, MetaChange, QueueId, Urgency};

use super::deduplicate::Gate;
use super::publish::{Publish, Undone, in_order};
use super::routed::Routed;
use super::settle::Settlement;
use super::together::Outgoing;
use crate::channel::{Channel, Mode};
use crate::deliveries::Outstanding;
use crate::error::Refusal;
use crate::message::Message;
use crate::port::Batch;
use crate::queue::Ended;
use crate::roster::ChannelMode;

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

    /// How many publishes and settled deliveries wait.
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.publishes.len(), self.settled.iter().map(|(settled, _)| settled.len()).sum())
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
        self.port.facts.set_mode(ChannelMode::Confirm);
        Ok(())
    }

    /// `tx.select`.
    pub fn select_tx(&mut self) -> Result<(), Refusal> {
        match self.mode {
            Mode::Confirm => Err(Refusal::precondition("cannot switch from confirm to tx mode")),
            Mode::Tx(_) => Ok(()),
            Mode::Plain => {
                self.mode = Mode::Tx(Transaction::default());
                self.port.facts.set_mode(ChannelMode::Transactional);
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
        let leaving = self.route_all(&transaction.publishes, &mut routes, &mut gate, batch)?;
        let outgoing = || leaving.iter().flat_map(|one| &one.outgoing);
        let _order = in_order(outgoing().flat_map(|one| one.queues));
        let notes: Vec<_> = leaving.iter().flat_map(Leaving::logged_notes).cloned().collect();
        let acknowledged = acknowledged(&transaction.settled);
        let mut logged = broker.log_together(outgoing(), &acknowledged, &notes, Urgency::Now)?;
        for one in &leaving {
            // A damaged queue cannot take its part; the others have theirs, as with any fan-out.
            match broker.offer_logged(&one.outgoing, &mut logged, &one.undo, batch) {
                Ok(()) => gate.kept(one.admitted.clone(), logged.position),
                Err(Undone::NotTaken) => {}
                Err(Undone::Refused(refusal)) => return Err(refusal),
            }
        }
        Ok(logged.position.max(gate.first_position()))
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
            self.port.facts.set_uncommitted(transaction.len());
        }
        Ok(())
    }

    fn take_transaction(&mut self) -> Result<Transaction, Refusal> {
        match &mut self.mode {
            Mode::Tx(transaction) => {
                self.port.facts.set_uncommitted((0, 0));
                Ok(std::mem::take(transaction))
            }
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
            if routed.is_empty() {
                gate.forget(admitted.clone());
            }
            routes.push((routed, admitted));
        }
        let now_ms = batch.now_ms;
        let leaving = |(waiting, (routed, admitted)): (&'a Waiting, &'a (Routed, Range<usize>))| {
            let message = waiting.message.view();
            let (notes, undo) = gate.notes(admitted.clone(), message.properties);
            let outgoing = routed.outgoing(message, now_ms).collect();
            Leaving { outgoing, admitted: admitted.clone(), notes, undo }
        };
        Ok(publishes.iter().zip(routes.iter()).map(leaving).collect())
    }
}

/// A message of a transaction on its way to its queues.
struct Leaving<'a> {
    outgoing: Vec<Outgoing<'a>>,
    /// What windows have let in of it.
    admitted: Range<usize>,
    notes: Vec<MetaChange>,
    undo: Vec<MetaChange>,
}

impl Leaving<'_> {
    /// What the log has to know together with it, if it is logged.
    fn logged_notes(&self) -> impl Iterator<Item = &MetaChange> {
        let is_logged = self.outgoing.iter().any(Outgoing::is_logged);
        self.notes.iter().filter(move |_| is_logged)
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
