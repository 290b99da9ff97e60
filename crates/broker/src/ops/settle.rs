//! Settling deliveries: ack, nack, reject, recover.

use std::sync::Arc;

use crate::channel::{Channel, Mode};
use crate::deliveries::Outstanding;
use crate::error::Refusal;
use crate::port::Batch;
use crate::queue::Courier;

/// What becomes of a delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with.
    Ack,
    /// It goes back to its old position; `failed` unless it is just returned unprocessed (RabbitMQ 4.3:
    /// `basic.nack` returns, `basic.reject` and the loss of a consumer count as failures).
    Requeue {
        /// Whether that counts as a failed delivery.
        failed: bool,
    },
    /// It is refused for good.
    Discard,
}

impl Channel {
    /// Settles one delivery, or all up to a tag (0 = all).
    pub fn settle(
        &mut self,
        delivery_tag: u64,
        multiple: bool,
        settlement: Settlement,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let settled = self.port.settle(delivery_tag, multiple).ok_or_else(|| unknown(delivery_tag))?;
        match &mut self.mode {
            Mode::Tx(transaction) => {
                transaction.settle(settled, settlement);
                self.port.facts.set_uncommitted(transaction.len());
            }
            Mode::Plain | Mode::Confirm => self.apply(settled, settlement, batch)?,
        }
        Ok(())
    }

    /// `basic.recover`: everything unacknowledged goes back. With `requeue` false RabbitMQ refuses (540).
    pub fn recover(&mut self, requeue: bool, batch: &mut Batch) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::not_implemented("requeue=false"));
        }
        let unsettled = self.port.settle_all();
        self.requeue(unsettled, false, batch);
        Ok(())
    }

    pub(crate) fn apply(
        &self,
        settled: Vec<Outstanding>,
        settlement: Settlement,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        match settlement {
            Settlement::Requeue { failed } => self.requeue(settled, failed, batch),
            Settlement::Ack => self.finish(&settled, batch, true)?,
            Settlement::Discard => self.discard(&settled, batch)?,
        }
        Ok(())
    }

    /// Ends messages; those of one queue under one lock. `log` is false when a transaction has logged it.
    pub(crate) fn finish(
        &self,
        settled: &[Outstanding],
        batch: &mut Batch,
        log: bool,
    ) -> Result<(), Refusal> {
        if let Some(counting) = self.port.counting() {
            counting.acknowledged(settled.len(), batch.now_ms);
        }
        for run in settled.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue)) {
            let broker = &self.connection.broker;
            let finished = broker.with_queue(&run[0].queue, batch, |state, carrier, aftermath| {
                if let Some(counters) = carrier.counters() {
                    counters.acknowledged(run.len(), carrier.now_ms());
                }
                let over = run.iter().filter_map(|one| state.ack(one.pos));
                match log {
                    true => aftermath.ended.extend(over),
                    false => aftermath.notes.extend(over.filter_map(|ended| ended.note())),
                }
                Ok(())
            });
            ignore_gone(finished)?;
        }
        self.resume(batch);
        Ok(())
    }

    /// Refuses messages for good: they are dead letters.
    fn discard(&self, settled: &[Outstanding], batch: &mut Batch) -> Result<(), Refusal> {
        for run in settled.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue)) {
            let broker = &self.connection.broker;
            let discarded = broker.with_queue(&run[0].queue, batch, |state, carrier, aftermath| {
                run.iter().try_for_each(|one| state.reject(one.pos, carrier, aftermath))
            });
            ignore_gone(discarded)?;
        }
        self.resume(batch);
        Ok(())
    }

    pub(crate) fn requeue(&self, mut unsettled: Vec<Outstanding>, failed: bool, batch: &mut Batch) {
        unsettled.sort_by_key(|one| (one.queue.id, one.pos));
        for run in unsettled.chunk_by(|a, b| Arc::ptr_eq(&a.queue, &b.queue)) {
            let broker = &self.connection.broker;
            let requeued = broker.with_queue(&run[0].queue, batch, |state, carrier, aftermath| {
                run.iter().try_for_each(|one| state.requeue(one.pos, failed, carrier, aftermath))
            });
            if let Err(refusal) = ignore_gone(requeued) {
                tracing::error!(%refusal, "messages could not be requeued");
            }
        }
        self.resume(batch);
    }

    /// Consumers that the channel's prefetch held back may go on.
    fn resume(&self, batch: &mut Batch) {
        let starved = self.port.take_starved();
        self.connection.broker.resume(starved, batch);
    }
}

/// A message of a queue that was deleted needs no settling.
pub(crate) fn ignore_gone(settled: Result<(), Refusal>) -> Result<(), Refusal> {
    match settled {
        Err(refusal) if refusal.code == leveret_wire::ReplyCode::NOT_FOUND => Ok(()),
        other => other,
    }
}

fn unknown(delivery_tag: u64) -> Refusal {
    Refusal::precondition(format!("unknown delivery tag {delivery_tag}"))
}
