//! What consuming clients do: consumers, get, settlements, transactions, limits, and connections that do not read.

use leveret_broker::ops::consume::Consume;
use leveret_broker::ops::settle::Settlement;
use leveret_wire::{FieldTable, FieldValue};

use super::{End, Outcome, Program, channel_of, send};
use crate::broker_sim::consumers::ConsumerModel;
use crate::broker_sim::letter::Letter;
use crate::broker_sim::life::{CONSUMERS, Life};
use crate::broker_sim::model::{ChannelId, Fetched, Verdict};

impl Program {
    fn some_channel(&mut self, life: &Life) -> ChannelId {
        let client = CONSUMERS[self.random.below(CONSUMERS.len() as u64) as usize];
        let numbers: Vec<u16> = life.clients[client].channels.keys().copied().collect();
        (client, self.random.pick(&numbers).copied().unwrap_or(1))
    }

    /// Often several at the same queue, which then have to take turns.
    pub(super) fn start_consumers(&mut self, life: &mut Life) -> Outcome<()> {
        let Some(at) = self.some_queue() else { return Ok(()) };
        for _ in 0..1 + self.random.below(4) {
            self.start_consumer(life, at)?;
        }
        Ok(())
    }

    fn start_consumer(&mut self, life: &mut Life, at: usize) -> Outcome<()> {
        let id = self.some_channel(life);
        let tag = format!("c{}", life.next_consumer);
        life.next_consumer += 1;
        let consumer = ConsumerModel {
            channel: id,
            queue: at,
            no_ack: self.random.chance(1, 4),
            priority: self.random.below(4) as i64 - 1,
            prefetch: self.model.clients.channels[&id].prefetch,
            in_flight: 0,
        };
        self.note(|| format!("{tag} is {consumer:?}"));
        let mut arguments = FieldTable::default();
        if consumer.priority != 0 {
            arguments.push("x-priority", FieldValue::I64(consumer.priority));
        }
        let name = &self.makes[at].name;
        let consume =
            Consume { queue: name, consumer_tag: &tag, no_ack: consumer.no_ack, exclusive: false, arguments };
        let consuming = channel_of(life, id).consume(consume, self.model.now_ms);
        consuming.map_err(|refusal| refusal.to_string())?;
        self.model.add_consumer(&tag, consumer);
        let mut batch = self.batch();
        let started = channel_of(life, id).start_deliveries(&tag, &mut batch);
        life.broker.finish(&mut batch);
        self.after(life, started, |model, _| model.start(at))
    }

    pub(super) fn stop_consumer(&mut self, life: &mut Life) -> Outcome<()> {
        let tags: Vec<String> = self.model.clients.consumers.keys().cloned().collect();
        let Some(tag) = self.random.pick(&tags) else { return Ok(()) };
        self.note(|| format!("{tag} stops"));
        let id = self.model.clients.consumers[tag].channel;
        let mut batch = self.batch();
        channel_of(life, id).cancel(tag, &mut batch);
        life.broker.finish(&mut batch);
        self.after(life, Ok(()), |model, _| model.cancel(tag))
    }

    fn any_verdict(&mut self) -> Verdict {
        match self.random.below(5) {
            0 if self.random.chance(1, 3) => Verdict::Return,
            0 => Verdict::Requeue,
            1 => Verdict::Discard,
            _ => Verdict::Ack,
        }
    }

    /// Acknowledges, requeues or refuses one delivery or all up to one.
    pub(super) fn settle(&mut self, life: &mut Life) -> Outcome<()> {
        let id = self.some_channel(life);
        let tags: Vec<u64> = self.model.clients.channels[&id].outstanding.keys().copied().collect();
        let Some(&tag) = self.random.pick(&tags) else { return Ok(()) };
        let (multiple, verdict) = (self.random.chance(1, 4), self.any_verdict());
        self.note(|| format!("{verdict:?} {tag} of {id:?}, multiple {multiple}"));
        let mut batch = self.batch();
        let settled = channel_of(life, id).settle(tag, multiple, verdict.into(), &mut batch);
        life.broker.finish(&mut batch);
        self.after(life, settled, |model, _| {
            let held = model.clients.take(id, tag, multiple);
            model.settle(held, verdict)
        })
    }

    /// `basic.recover`.
    pub(super) fn recover(&mut self, life: &mut Life) -> Outcome<()> {
        let id = self.some_channel(life);
        self.note(|| format!("recover {id:?}"));
        let mut batch = self.batch();
        let recovered = channel_of(life, id).recover(true, &mut batch);
        life.broker.finish(&mut batch);
        self.after(life, recovered, |model, _| {
            let held = model.clients.take(id, 0, true);
            model.settle(held, Verdict::Return)
        })
    }

    pub(super) fn get(&mut self, life: &mut Life) -> Outcome<()> {
        let (id, Some(at)) = (self.some_channel(life), self.some_queue()) else { return Ok(()) };
        let no_ack = self.random.chance(1, 4);
        self.get_from(life, id, at, no_ack)
    }

    fn get_from(&mut self, life: &mut Life, id: ChannelId, at: usize, no_ack: bool) -> Outcome<()> {
        let mut batch = self.batch();
        let got = channel_of(life, id).get(&self.makes[at].name, no_ack, &mut batch);
        life.broker.finish(&mut batch);
        let got = got.map(|got| {
            got.map(|got| {
                let message = got.message.view();
                let properties = message.properties.as_bytes();
                let letter = Letter::read(message.exchange, message.routing_key, properties, message.body)?;
                let (redelivered, tag, remaining) = (got.redelivered, got.delivery_tag, got.remaining);
                Ok::<_, String>(Fetched { letter, redelivered, tag, remaining })
            })
        });
        self.note(|| format!("get on {id:?} from q{at}, no_ack {no_ack}: {got:?}"));
        self.after(life, got, |model, got| model.get((id, at), no_ack, got.flatten().transpose()?))
    }

    /// A transaction on a channel of its own: gets, settlements and publishes, committed or rolled back.
    pub(super) fn transaction(&mut self, life: &mut Life) -> Outcome<()> {
        let client = CONSUMERS[0];
        let number = life.next_channel;
        life.next_channel += 1;
        self.open_channel(life, client, number);
        let id = (client, number);
        channel_of(life, id).select_tx().map_err(|refusal| refusal.to_string())?;
        for _ in 0..self.random.below(4) {
            if let Some(at) = self.some_queue() {
                self.get_from(life, id, at, false)?;
            }
        }
        let tags: Vec<u64> = self.model.clients.channels[&id].outstanding.keys().copied().collect();
        let mut batch = self.batch();
        let mut settled = Vec::new();
        for tag in tags {
            if self.random.chance(2, 3) {
                let verdict = self.any_verdict();
                let done = channel_of(life, id).settle(tag, false, verdict.into(), &mut batch);
                done.map_err(|refusal| refusal.to_string())?;
                settled.push((tag, verdict));
            }
        }
        let letters: Vec<Letter> = (0..self.random.below(4)).map(|_| self.new_letter()).collect();
        for letter in &letters {
            let sent = send(channel_of(life, id), letter, false, &mut batch);
            sent.map_err(|refusal| refusal.to_string())?;
        }
        if self.random.chance(1, 4) {
            self.note(|| format!("tx rollback of {id:?}"));
            channel_of(life, id).rollback().map_err(|refusal| refusal.to_string())?;
        } else {
            self.commit_transaction(life, id, (&letters, &settled))?;
        }
        self.close_channel(life, id)
    }

    fn commit_transaction(
        &mut self,
        life: &mut Life,
        id: ChannelId,
        (letters, settled): (&[Letter], &[(u64, Verdict)]),
    ) -> Outcome<()> {
        self.note(|| format!("tx commit of {id:?}: {settled:?} {letters:?}"));
        let mut batch = self.batch();
        let committed = channel_of(life, id).commit(&mut batch);
        life.broker.finish(&mut batch);
        let mut position = 0;
        self.after(life, committed, |model, answer| {
            position = answer.unwrap_or_default();
            let settled =
                settled.iter().map(|(tag, verdict)| (model.clients.take(id, *tag, false), *verdict));
            let settled = settled.collect();
            model.commit(letters, settled)
        })?;
        self.coverage.transactions += 1;
        if self.random.chance(1, 2) {
            self.commit(life)?;
            if !life.broker.is_durable(position) {
                return Err(End::Broken("P3: a transaction is not durable after a commit".into()));
            }
        }
        Ok(())
    }

    /// A consuming connection stops reading, or goes on.
    pub(super) fn pause(&mut self, life: &mut Life) -> Outcome<()> {
        let client = CONSUMERS[self.random.below(CONSUMERS.len() as u64) as usize];
        let inbox = &life.clients[client].inbox;
        inbox.pause(!inbox.is_paused());
        self.note(|| format!("connection {client} paused: {}", inbox.is_paused()));
        self.resume(life)
    }

    /// `basic.qos`.
    pub(super) fn limit(&mut self, life: &mut Life) -> Outcome<()> {
        let id = self.some_channel(life);
        let (count, global) = (self.random.below(6), self.random.chance(1, 3));
        self.note(|| format!("qos {count} for {id:?}, global {global}"));
        let mut batch = self.batch();
        let limited = channel_of(life, id).limit_prefetch(0, count as u16, global, &mut batch);
        life.broker.finish(&mut batch);
        self.after(life, limited, |model, _| model.limit(id, count, global))
    }

    pub(super) fn reopen_channel(&mut self, life: &mut Life) -> Outcome<()> {
        let id = self.some_channel(life);
        self.note(|| format!("close {id:?}"));
        self.close_channel(life, id)?;
        let number = life.next_channel;
        life.next_channel += 1;
        self.open_channel(life, id.0, number);
        Ok(())
    }

    pub(super) fn close_channel(&mut self, life: &mut Life, id: ChannelId) -> Outcome<()> {
        let mut batch = self.batch();
        if let Some(channel) = life.clients[id.0].channels.remove(&id.1) {
            channel.close(&mut batch);
        }
        life.broker.finish(&mut batch);
        self.after(life, Ok(()), |model, _| model.close_channel(id))
    }
}

impl From<Verdict> for Settlement {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Ack => Self::Ack,
            Verdict::Requeue => Self::Requeue { failed: true },
            Verdict::Return => Self::Requeue { failed: false },
            Verdict::Discard => Self::Discard,
        }
    }
}
