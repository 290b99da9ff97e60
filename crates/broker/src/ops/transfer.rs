//! Moving waiting messages elsewhere: to a queue, to an exchange, or back to where they died.
//!
//! ```text
//!   taken away ─► logged for its new queues ─► taken there ─► over here
//!       └──────── no such place, nobody takes it ───────────► back at its place
//! ```
//!
//! Each message is logged at its destination before its end is, in the same log: a crash in between duplicates a message and never
//! loses one. What cannot be moved stays where it is, and those behind it are moved all the same.

use std::sync::Arc;

use leveret_wire::{FieldTable, FieldValue, RawProperties};

use super::deduplicate::Gate;
use super::publish::{Copies, Undone};
use super::routed::Routed;
use crate::channel::Channel;
use crate::connection::Resource;
use crate::error::Refusal;
use crate::message::{Message, MessageView};
use crate::port::Batch;
use crate::queue::{Fetched, Pos};
use crate::users::Operation;
use crate::vhost::Queue;

/// So many messages are looked at in one go.
pub const MOVED_MAX: u64 = 10_000;

/// Where messages are moved.
#[derive(Clone, Copy, Debug)]
pub enum MoveTo<'a> {
    /// Into this queue. Their exchange and routing key become the default exchange's.
    Queue(&'a str),
    /// Published to this exchange.
    Exchange {
        /// Its name.
        name: &'a str,
        /// Instead of their own.
        routing_key: Option<&'a str>,
    },
    /// Into the queue where each of them died first, with the exchange and routing key that it had there (`x-death`).
    WhereTheyDied,
}

/// What became of a move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// So many were moved.
    pub moved: u64,
    /// So many stayed.
    pub stayed: u64,
    /// Why the first one stayed.
    pub why: Option<Stay>,
    /// The position in the log at which all of it is durable; 0: nothing was logged.
    pub position: u64,
}

/// Why a message stayed where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stay {
    /// No queue gets it there.
    Unroutable,
    /// A queue refused it, because it is full or out of service.
    NotTaken,
    /// It does not say where it died.
    NoHistory,
    /// The queue where it died is no longer there.
    NoQueue(String),
    /// The queue where it died is the one it is in.
    DiedHere,
}

impl std::fmt::Display for Stay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unroutable => f.write_str("no queue gets it there"),
            Self::NotTaken => f.write_str("a queue refused it: it is full or out of service"),
            Self::NoHistory => f.write_str("it does not say where it died"),
            Self::NoQueue(name) => write!(f, "the queue '{name}' where it died is no longer there"),
            Self::DiedHere => f.write_str("it died in this very queue"),
        }
    }
}

/// Where one message goes.
struct Address {
    exchange: String,
    routing_key: String,
    routed: Routed,
}

/// Why a message is not moved: it stays, or nothing more is moved.
enum Unmoved {
    Stays(Stay),
    Refused(Refusal),
}

impl From<Refusal> for Unmoved {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Channel {
    /// Moves at most `count` of the messages that wait in a queue now, the first ones first, also from a paused one.
    ///
    /// # Errors
    /// 403 without the right to read here and to write there, 404, 405, 540 for a stream, 406 where a queue would be moved into
    /// itself. What was moved before stays moved.
    pub fn move_messages(
        &self,
        queue: &str,
        to: MoveTo<'_>,
        count: u64,
        batch: &mut Batch,
    ) -> Result<Moved, Refusal> {
        let source = self.work_queue(queue, Operation::Read, "moving messages")?;
        if matches!(to, MoveTo::Queue(name) if *name == *source.name) {
            return Err(Refusal::precondition(format!("{} cannot be moved into itself", source.described())));
        }
        let waiting = source.lock().alive(&source)?.ready_len();
        let mut stayed = Vec::new();
        let moved = self.move_some(&source, to, count.min(waiting).min(MOVED_MAX), &mut stayed, batch);
        self.put_back(&source, stayed, batch)?;
        moved
    }

    fn move_some(
        &self,
        source: &Arc<Queue>,
        to: MoveTo<'_>,
        count: u64,
        stayed: &mut Vec<Pos>,
        batch: &mut Batch,
    ) -> Result<Moved, Refusal> {
        let mut outcome = Moved::default();
        for _ in 0..count {
            let Some(Fetched { pos, message, .. }) = self.take_away(source, batch)? else { break };
            match self.move_one(source, &message, to, batch) {
                Ok(position) => {
                    self.end_here(source, pos, batch)?;
                    outcome.moved += 1;
                    outcome.position = outcome.position.max(position);
                }
                Err(Unmoved::Stays(why)) => {
                    stayed.push(pos);
                    outcome.stayed += 1;
                    outcome.why.get_or_insert(why);
                }
                Err(Unmoved::Refused(refusal)) => {
                    stayed.push(pos);
                    return Err(refusal);
                }
            }
        }
        Ok(outcome)
    }

    fn move_one(
        &self,
        source: &Arc<Queue>,
        message: &Arc<Message>,
        to: MoveTo<'_>,
        batch: &mut Batch,
    ) -> Result<u64, Unmoved> {
        let message = message.view();
        let Address { exchange, routing_key, routed } = match to {
            MoveTo::Queue(name) => self.address_of_queue(name, "", name)?,
            MoveTo::Exchange { name, routing_key } => {
                self.address_of_exchange(name, routing_key.unwrap_or(message.routing_key), &message)?
            }
            MoveTo::WhereTheyDied => self.address_of_death(source, message.properties)?,
        };
        if routed.is_empty() {
            return Err(Unmoved::Stays(Stay::Unroutable));
        }
        let moved = MessageView { exchange: &exchange, routing_key: &routing_key, ..message };
        match self.connection.broker.enqueue(&routed, &moved, batch) {
            Ok(position) => Ok(position),
            Err(Undone::NotTaken) => Err(Unmoved::Stays(Stay::NotTaken)),
            Err(Undone::Refused(refusal)) => Err(Unmoved::Refused(refusal)),
        }
    }

    fn address_of_queue(&self, name: &str, exchange: &str, routing_key: &str) -> Result<Address, Refusal> {
        self.connection.authorize(Operation::Write, Resource::Queue(name))?;
        let queue = self.usable_queue(name)?;
        queue.check_not_internal()?;
        Ok(Address {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            routed: Routed::to(Arc::new([queue])),
        })
    }

    fn address_of_exchange(
        &self,
        name: &str,
        routing_key: &str,
        message: &MessageView<'_>,
    ) -> Result<Address, Refusal> {
        let message = MessageView { exchange: name, routing_key, ..*message };
        let copies = Copies::default();
        let exchange = self.target(&message, &copies)?;
        let vhost = &self.connection.vhost;
        let queues = vhost.route(&exchange, message, &copies, &mut Gate::open());
        let routed = Routed::new(vhost, queues, message.properties);
        Ok(Address { exchange: name.to_owned(), routing_key: routing_key.to_owned(), routed })
    }

    fn address_of_death(&self, source: &Queue, properties: RawProperties<'_>) -> Result<Address, Unmoved> {
        let death = first_death(properties).ok_or(Unmoved::Stays(Stay::NoHistory))?;
        if *death.queue == *source.name {
            return Err(Unmoved::Stays(Stay::DiedHere));
        }
        if self.connection.vhost.queue(&death.queue).is_none() {
            return Err(Unmoved::Stays(Stay::NoQueue(death.queue)));
        }
        Ok(self.address_of_queue(&death.queue, &death.exchange, &death.routing_key)?)
    }

    fn take_away(&self, source: &Arc<Queue>, batch: &mut Batch) -> Result<Option<Fetched>, Refusal> {
        self.connection.broker.with_queue(source, batch, |state, carrier, aftermath| match state.work() {
            Some(work) => work.take_away(carrier, aftermath),
            None => Ok(None),
        })
    }

    fn end_here(&self, source: &Arc<Queue>, pos: Pos, batch: &mut Batch) -> Result<(), Refusal> {
        self.connection.broker.with_queue(source, batch, |state, _, aftermath| {
            aftermath.ended.extend(state.ack(pos));
            Ok(())
        })
    }

    fn put_back(&self, source: &Arc<Queue>, stayed: Vec<Pos>, batch: &mut Batch) -> Result<(), Refusal> {
        if stayed.is_empty() {
            return Ok(());
        }
        self.connection.broker.with_queue(source, batch, |state, _, _| {
            if let Some(work) = state.work() {
                stayed.into_iter().for_each(|pos| work.put_back(pos));
            }
            Ok(())
        })
    }
}

/// Where a message died first.
struct FirstDeath {
    queue: String,
    exchange: String,
    routing_key: String,
}

/// What the headers say of it: `x-first-death-queue`, and the entry of that queue in `x-death`, of which the oldest is the last.
fn first_death(properties: RawProperties<'_>) -> Option<FirstDeath> {
    let headers = properties.headers()?;
    let Some(FieldValue::Array(deaths)) = headers.find("x-death") else { return None };
    let named = headers.find("x-first-death-queue");
    let named = named.as_ref().and_then(FieldValue::as_str);
    let of_named = |death: &&FieldTable| named.is_none_or(|named| text(death, "queue") == Some(named));
    let death = deaths.iter().rev().filter_map(FieldValue::as_table).find(of_named)?;
    let routing_key = match death.get("routing-keys") {
        Some(FieldValue::Array(keys)) => keys.first().and_then(FieldValue::as_str).unwrap_or_default(),
        _ => "",
    };
    let short = |text: &str| text.len() <= usize::from(u8::MAX);
    let (queue, exchange) = (text(death, "queue")?, text(death, "exchange").unwrap_or_default());
    // Anybody can write such headers.
    (short(exchange) && short(routing_key)).then(|| FirstDeath {
        queue: queue.to_owned(),
        exchange: exchange.to_owned(),
        routing_key: routing_key.to_owned(),
    })
}

fn text<'a>(death: &'a FieldTable, key: &str) -> Option<&'a str> {
    death.get(key).and_then(FieldValue::as_str)
}
