//! Dead letters: what a queue gives up goes to its dead-letter exchange, with its history in `x-death`.
//!
//! A request goes back to its caller although its queue has no dead-letter exchange, so that a queue which any client
//! declared explains its failures too:
//!
//! ```text
//!   request, header rpc-caller=R ─► queue ─► given up ─► exchange rpc.bounce ─► reply queue R
//!                                            (x-death: expired, rejected, maxlen; the key stays)
//! ```
//!
//! The caller declares `rpc.bounce` (headers, durable) and binds its reply queue there on `rpc-caller`. Without the
//! exchange nothing changes. On RabbitMQ the same takes `x-dead-letter-exchange: rpc.bounce` on the queue.
//!
//! The copy is logged before the end of the original, in the same log, so a crash between the two loses
//! nothing (it may duplicate). Runs when no lock is held; what the targets give up in turn joins the same batch.

use std::sync::Arc;

use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties};

use super::deduplicate::Gate;
use super::publish::{Copies, Undone};
use super::routed::Routed;
use super::settle::ignore_gone;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::message::MessageView;
use crate::port::Batch;
use crate::queue::{Courier, Dead, DeathReason, Pos};
use crate::settings::DeadLetters;
use crate::vhost::{Exchange, Queue, VHost};

/// The exchange that brings requests back to their callers.
const BOUNCE_EXCHANGE: &str = "rpc.bounce";
/// The header of a request that comes back although a worker had it: its caller must not take it for one that has
/// not run. RabbitMQ's quorum queues tell the same by `x-delivery-count`.
const DELIVERED_HEADER: &str = "rpc-delivered";
/// The header in which a request names the reply queue of its caller.
const CALLER_HEADER: &str = "rpc-caller";

impl Broker {
    /// Whether requests that a queue of this virtual host gives up go back to their callers.
    pub(crate) fn bounces(&self, vhost: &str) -> bool {
        self.vhost(vhost).is_some_and(|vhost| vhost.exchange(BOUNCE_EXCHANGE).is_some())
    }

    /// Sends everything on that queues have given up during the batch.
    pub(crate) fn bury_all(&self, batch: &mut Batch) {
        while let Some((queue, dead)) = batch.next_buried() {
            let letter = match &dead.message {
                Some(message) if dead.is_wanted => self.send_on(&queue, &dead, &message.view(), batch),
                _ => Letter::NotTaken,
            };
            self.count_buried(&queue, &dead, letter);
            // What has to be taken and was not is tried again.
            if self.limits.message_statistics && (dead.dying.is_none() || letter != Letter::NotTaken) {
                queue.counters.given_up(dead.reason, dead.dying.is_some());
            }
            let ended = match dead.dying {
                Some(pos) => self.buried(&queue, pos, letter != Letter::NotTaken, batch),
                None => self.log_ended(&queue, dead.ended.as_slice(), batch).map_err(Refusal::from),
            };
            if let Err(failed) = ended {
                tracing::error!(%failed, queue = %queue.name, "end of a message could not be logged");
            }
        }
    }

    fn buried(
        &self,
        queue: &Arc<Queue>,
        pos: Pos,
        was_taken: bool,
        batch: &mut Batch,
    ) -> Result<(), Refusal> {
        let buried = self.with_queue(queue, batch, |state, carrier, aftermath| {
            aftermath.ended.extend(state.buried(pos, was_taken, carrier.now_ms()));
            Ok(())
        });
        ignore_gone(buried)
    }

    fn send_on(
        &self,
        queue: &Arc<Queue>,
        dead: &Dead,
        message: &MessageView<'_>,
        batch: &mut Batch,
    ) -> Letter {
        let Some(vhost) = self.vhost(&queue.vhost) else { return Letter::NotTaken };
        let settings = queue.settings();
        let own = settings.dead_letters.as_ref();
        // RabbitMQ: without the exchange the message is dropped, without an error.
        let Some(exchange) = dead_letter_exchange(&vhost, own, message) else { return Letter::NotTaken };
        let new_key = own.and_then(|own| own.routing_key.as_deref());
        let copies = match (new_key, Copies::of(message.properties)) {
            (None, Ok(Some(copies))) => Copies { cc: copies.cc, bcc: Vec::new() },
            _ => Copies::default(),
        };
        let death = Death {
            queue,
            reason: dead.reason,
            time_s: batch.now_ms / 1000,
            message,
            copies: &copies,
            tells_delivered: dead.redelivered && *exchange.name == *BOUNCE_EXCHANGE,
        };
        let Some(properties) = death.properties(new_key.is_some()) else { return Letter::NotTaken };
        let letter = MessageView {
            exchange: &exchange.name,
            routing_key: new_key.unwrap_or(message.routing_key),
            properties: RawProperties::from_validated(&properties),
            body: message.body,
        };
        let mut queues = vhost.route(&exchange, letter, &copies, &mut Gate::open());
        if queues.is_empty() {
            return Letter::NotTaken;
        }
        if dead.reason != DeathReason::Rejected {
            queues.retain(|target| !is_cycle(letter.properties, &target.name));
        }
        let routed = Routed::new(&vhost, queues, letter.properties);
        match self.enqueue(&routed, &letter, batch) {
            Ok(_) if *exchange.name == *BOUNCE_EXCHANGE => Letter::ToCaller,
            Ok(_) => Letter::Taken,
            Err(Undone::NotTaken) => Letter::NotTaken,
            Err(Undone::Refused(refusal)) => {
                tracing::error!(%refusal, queue = %queue.name, "dead letter could not be sent on");
                Letter::NotTaken
            }
        }
    }
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    /// Every queue it goes to has it, or it went in a circle and was dropped.
    Taken,
    /// The same, and it is a request on its way back to its caller.
    ToCaller,
    /// There is no such exchange, no queue, or one refused it.
    NotTaken,
}

/// The queue's own, or the one that brings requests back.
fn dead_letter_exchange(
    vhost: &VHost,
    own: Option<&DeadLetters>,
    message: &MessageView<'_>,
) -> Option<Arc<Exchange>> {
    match own {
        Some(own) => vhost.exchange(&own.exchange),
        None if is_request(message) => vhost.exchange(BOUNCE_EXCHANGE),
        None => None,
    }
}

/// Whether it names its caller. What has come back does not go back again: the caller has heard.
fn is_request(message: &MessageView<'_>) -> bool {
    let caller = || message.properties.headers()?.find(CALLER_HEADER);
    message.exchange != BOUNCE_EXCHANGE && caller().is_some_and(|caller| caller.as_str().is_some())
}

/// One death of a message.
struct Death<'a> {
    queue: &'a Queue,
    reason: DeathReason,
    time_s: u64,
    message: &'a MessageView<'a>,
    copies: &'a Copies,
    /// Its caller is told that a consumer had it.
    tells_delivered: bool,
}

impl Death<'_> {
    /// The properties of the dead letter.
    fn properties(&self, drop_cc: bool) -> Option<Vec<u8>> {
        let mut properties = self.message.properties.to_properties();
        let expiration = properties.expiration.take();
        let headers = properties.headers.get_or_insert_with(FieldTable::default);
        headers.remove("BCC");
        if drop_cc {
            headers.remove("CC");
        }
        if self.tells_delivered {
            headers.insert(DELIVERED_HEADER, FieldValue::Bool(true));
        }
        self.record(headers, expiration);
        self.name_first_and_last(headers);
        Properties::encode(&properties).ok()
    }

    /// Newest first, one entry for each queue and reason; a repeated death only counts.
    fn record(&self, headers: &mut FieldTable, expiration: Option<Vec<u8>>) {
        let mut deaths = match headers.remove("x-death") {
            Some(FieldValue::Array(deaths)) => deaths,
            _ => Vec::new(),
        };
        let again = deaths.iter().position(|death| is_death(death, &self.queue.name, self.reason));
        let entry = match again.map(|at| deaths.remove(at)) {
            Some(FieldValue::Table(mut entry)) => {
                let count = entry.get("count").and_then(FieldValue::as_i64).unwrap_or(0) + 1;
                for (key, value) in &mut entry.0 {
                    if key == "count" {
                        *value = FieldValue::I64(count);
                    }
                }
                entry
            }
            _ => self.entry(expiration),
        };
        deaths.insert(0, FieldValue::Table(entry)); // mutation: x-death
        headers.push("x-death", FieldValue::Array(deaths));
    }

    fn entry(&self, expiration: Option<Vec<u8>>) -> FieldTable {
        let keys = std::iter::once(self.message.routing_key).chain(self.copies.cc.iter().map(String::as_str));
        let mut entry = FieldTable::default();
        if let Some(expiration) = expiration {
            entry.push("original-expiration", FieldValue::LongString(expiration));
        }
        entry.push("count", FieldValue::I64(1));
        entry.push("reason", text(self.reason.name()));
        entry.push("queue", text(&self.queue.name));
        entry.push("time", FieldValue::Timestamp(self.time_s));
        entry.push("exchange", text(self.message.exchange));
        entry.push("routing-keys", FieldValue::Array(keys.map(text).collect()));
        entry
    }

    fn name_first_and_last(&self, headers: &mut FieldTable) {
        let facts = [
            ("reason", text(self.reason.name())),
            ("queue", text(&self.queue.name)),
            ("exchange", text(self.message.exchange)),
        ];
        let is_first = headers.get("x-first-death-reason").is_none();
        for (name, value) in facts {
            if is_first {
                headers.push(format!("x-first-death-{name}"), value.clone());
            }
            let last = format!("x-last-death-{name}");
            headers.remove(&last);
            headers.push(last, value);
        }
    }
}

fn text(text: &str) -> FieldValue {
    FieldValue::LongString(text.as_bytes().to_vec())
}

fn is_death(death: &FieldValue, queue: &str, reason: DeathReason) -> bool {
    let FieldValue::Table(death) = death else { return false };
    let says = |key, expected| death.get(key).and_then(FieldValue::as_str) == Some(expected);
    says("queue", queue) && says("reason", reason.name())
}

/// RabbitMQ's rule: a letter is dropped that would come to a queue again without anybody having rejected it on
/// the way.
fn is_cycle(properties: RawProperties<'_>, target: &str) -> bool {
    let Some(FieldValue::Array(deaths)) = properties.headers().and_then(|headers| headers.find("x-death"))
    else {
        return false;
    };
    let reason = |death: &FieldValue, key: &str| {
        death.as_table().and_then(|table| table.get(key)?.as_str().map(str::to_owned))
    };
    let Some(at) = deaths.iter().position(|death| reason(death, "queue").as_deref() == Some(target)) else {
        return false;
    };
    !deaths[..=at].iter().any(|death| reason(death, "reason").as_deref() == Some("rejected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_caller_and_has_not_come_back() {
        let check = |exchange: &str, header: Option<(&str, FieldValue)>, expected: bool| {
            let headers = header.map(|(name, value)| FieldTable(vec![(name.to_owned(), value)]));
            let properties = Properties { headers, ..Default::default() }.encode().unwrap();
            let properties = RawProperties::parse(&properties).unwrap();
            let message = MessageView { exchange, routing_key: "q", properties, body: b"" };
            assert_eq!(is_request(&message), expected, "{exchange} {message:?}");
        };
        check("", Some(("rpc-caller", text("r"))), true);
        check("rpc", Some(("rpc-caller", text("r"))), true);
        check("rpc.bounce", Some(("rpc-caller", text("r"))), false);
        check("", Some(("rpc-caller", FieldValue::I64(1))), false);
        check("", Some(("caller", text("r"))), false);
        check("", None, false);
    }
}
