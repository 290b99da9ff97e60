//! One life of a broker: its clients, what they wait for, and how it is opened and looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_broker::ops::bind::Bind;
use leveret_broker::ops::exchange::DeclareExchange;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::{Broker, Limits, OpenFailed, Opened, Outlet, Verdict};
use leveret_store::{Disk, Options};
use leveret_wire::FieldTable;

use super::client::{Client, Event, Sequence};
use super::ledger::Ledger;
use super::make::Make;
use super::model::{Model, Published};
use crate::faulty_disk::FaultyDisk;

/// The connection that publishes.
pub(super) const PUBLISHER: usize = 0;
/// Connections that consume.
pub(super) const CONSUMERS: [usize; 2] = [1, 2];
/// How many channels each of them has.
pub(super) const CHANNELS: u16 = 2;

/// A running broker with its clients.
pub(super) struct Life {
    pub(super) broker: Arc<Broker>,
    pub(super) clients: Vec<Client>,
    pub(super) next_channel: u16,
    pub(super) next_consumer: u64,
    next_confirm: u64,
    /// Publishes that no verdict has come for, by their numbers.
    pending: BTreeMap<u64, Published>,
    verdicts: Vec<(u64, bool, Verdict)>,
    /// Numbers of messages that came back.
    pub(super) returned: Vec<u64>,
}

impl Life {
    pub(super) fn new(broker: Arc<Broker>) -> Result<Self, String> {
        let connections = CONSUMERS.len() + 1;
        let sequence = Sequence::default();
        let clients = (0..connections).map(|number| Client::connect(&broker, number, &sequence));
        Ok(Self {
            clients: clients.collect::<Result<_, _>>()?,
            broker,
            next_channel: CHANNELS + 1,
            next_consumer: 1,
            next_confirm: 1,
            pending: BTreeMap::new(),
            verdicts: Vec::new(),
            returned: Vec::new(),
        })
    }

    /// Which connections take more, before they are read.
    pub(super) fn rooms(&self) -> Vec<bool> {
        self.clients.iter().map(|client| client.inbox.has_room()).collect()
    }

    /// Reads what clients have heard; deliveries are for the model.
    pub(super) fn collect(&mut self, model: &mut Model) -> Result<u64, String> {
        let mut deliveries = 0;
        let mut events: Vec<_> = self.clients.iter().flat_map(|client| client.inbox.take()).collect();
        events.sort_unstable_by_key(|(number, _)| *number);
        for (_, event) in events {
            match event {
                Event::Delivered(delivered) => {
                    deliveries += 1;
                    model.hear(delivered)?;
                }
                Event::Confirmed { tag, multiple, verdict } => self.verdicts.push((tag, multiple, verdict)),
                Event::Returned(body) => {
                    let number = body.first_chunk().ok_or("P7: short body")?;
                    self.returned.push(u64::from_le_bytes(*number));
                }
                Event::Cancelled(_) if model.lenient => {}
                Event::Cancelled(tag) => return Err(format!("{tag} was cancelled")),
            }
        }
        Ok(deliveries)
    }

    /// A publish waits for its verdict.
    pub(super) fn awaits(&mut self, published: Published) {
        self.pending.insert(self.next_confirm, published);
        self.next_confirm += 1;
    }

    /// Compares the verdicts that came with what they should be, and looks for one that should have come. Answers
    /// how many publishes were confirmed and how many refused.
    pub(super) fn judge(&mut self, ledger: &Ledger) -> Result<(u64, u64), String> {
        let (mut confirmed, mut refused) = (0, 0);
        for (tag, multiple, verdict) in std::mem::take(&mut self.verdicts) {
            let first = if multiple { 0 } else { tag };
            let tags: Vec<u64> = self.pending.range(first..=tag).map(|(tag, _)| *tag).collect();
            if tags.last() != Some(&tag) {
                return Err(format!("a second verdict on publish {tag}"));
            }
            for published in tags.iter().filter_map(|tag| self.pending.remove(tag)) {
                let is_safe = published.copies.iter().all(|copy| ledger.is_safe(*copy));
                match verdict {
                    Verdict::Ack if published.refused => {
                        return Err(format!("publish {tag} was confirmed, although a queue was full"));
                    }
                    Verdict::Ack if !is_safe => {
                        return Err(format!("P1: publish {tag} was confirmed too early"));
                    }
                    Verdict::Nack if !published.refused => {
                        return Err(format!("publish {tag} was refused without a reason"));
                    }
                    Verdict::Ack => confirmed += 1,
                    Verdict::Nack => refused += 1,
                }
            }
        }
        if let Some((tag, _)) = self.pending.iter().find(|(_, published)| published.refused) {
            return Err(format!("publish {tag} was refused and nobody said so"));
        }
        let first = self.pending.first_key_value();
        match first.filter(|(_, published)| published.copies.iter().all(|copy| ledger.is_safe(*copy))) {
            Some((tag, _)) => Err(format!("publish {tag} is safe and was not confirmed")),
            None => Ok((confirmed, refused)),
        }
    }
}

/// Tiny files and next to no memory, so that everything wanders between memory, log and segments.
pub(super) fn open(disk: &FaultyDisk) -> Result<Arc<Broker>, OpenFailed> {
    let options = Options { log_file_bytes: 16 << 10, segment_bytes: 8 << 10, ..Options::default() };
    let limits = Limits { resident_bytes: 2000, ..Limits::default() };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let Opened { broker, .. } = Broker::open(disk, options, limits)?;
    Ok(broker)
}

/// The declaration of a queue.
pub(super) fn declare(make: &Make) -> DeclareQueue<'_> {
    DeclareQueue {
        name: &make.name,
        passive: false,
        durable: make.durable,
        exclusive: false,
        auto_delete: false,
        arguments: make.arguments(),
    }
}

/// The declaration of an exchange.
pub(super) fn exchange<'a>(name: &'a str, kind: &'a str) -> DeclareExchange<'a> {
    DeclareExchange {
        name,
        kind,
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
    }
}

/// A binding.
pub(super) fn bind<'a>(source: &'a str, routing_key: &'a str, destination: &'a str) -> Bind<'a> {
    Bind { source, destination, routing_key, arguments: FieldTable::default() }
}
