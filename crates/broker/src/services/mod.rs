//! Request/response as the broker sees it: statistics of services, from messages that pass by anyway.
//!
//! A request is a message with a reply-to and a correlation id that reaches a queue; the queue is the service. Its
//! answer is a message to that reply-to with the same id. No client has to know of this, no queue has to be told:
//!
//! ```text
//!   caller ── reply-to R, correlation-id c ──► queue S ──► worker
//!      │                │                                    │
//!      │                └─► in flight: hash(vhost, R, c) → S, time
//!      │                                  │
//!      └───────────────── key R, correlation-id c ◄──────────┘       S: one more reply, after so many µs
//! ```
//!
//! Of a message only a hash and a time are kept. Requests in flight are spread over shards by their hash, counters
//! belong to their queue, so that nothing global is locked. What carries no correlation id and no reply-to costs two looks
//! at the flags of its properties. Everything is bounded: [`IN_FLIGHT_MAX`], [`SERVICES_MAX`].

mod conversation;
mod histogram;
mod in_flight;
mod rate;
mod sampling;
mod service;

use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;

pub(crate) use conversation::deadline_ms;
pub use histogram::Histogram;
pub use rate::PerSecond;
pub use service::{Counts, ServiceSnapshot};
pub(crate) use service::{GivenUp, Service};

use conversation::{Outcome, due_us, expected_answer, expected_id, given_answer, outcome};
use in_flight::{InFlight, Request};
use sampling::Sampling;
use service::Answer;

use crate::message::MessageView;

/// Requests whose answers can be recognised; beyond that the oldest are forgotten (`untracked`).
pub const IN_FLIGHT_MAX: usize = 1 << 16;
/// Services with counters of their own; what comes later is counted together as [`OTHER_SERVICES`].
pub const SERVICES_MAX: usize = 10_000;
/// The name that services beyond [`SERVICES_MAX`] share. They have no virtual host.
pub const OTHER_SERVICES: &str = "other";

const SHARDS: usize = 16;
/// How long an answer is expected when the request does not say.
const PATIENCE_US: u64 = 600 * 1_000_000;
/// How long a late answer is recognised.
const LATE_WITHIN_US: u64 = 60 * 1_000_000;
const NEVER_US: u64 = u64::MAX;

/// Where a queue keeps its service, once a request has come.
pub(crate) type ServiceSlot = OnceLock<Arc<Service>>;

/// The statistics of all services.
#[derive(Debug)]
pub(crate) struct Services {
    is_on: bool,
    sampling: Sampling,
    hasher: DefaultHashBuilder,
    shards: [Mutex<InFlight>; SHARDS],
    /// Held once by each service with counters of its own.
    places: Arc<()>,
    other: ServiceSlot,
}

/// A queue that a request goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a Arc<str>,
    pub(crate) slot: &'a ServiceSlot,
}

impl Services {
    pub(crate) fn new(is_on: bool) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(InFlight::new(IN_FLIGHT_MAX / SHARDS)));
        Self {
            is_on,
            sampling: Sampling::default(),
            hasher: DefaultHashBuilder::default(),
            shards,
            places: Arc::default(),
            other: ServiceSlot::new(),
        }
    }

    /// A message that may be a request is on its way to queues. Comes before they get it: the answer must not be faster.
    pub(crate) fn asked<'a>(
        &self,
        vhost: &Arc<str>,
        message: &MessageView<'_>,
        queues: impl Iterator<Item = Asked<'a>>,
        now_us: u64,
    ) {
        if !self.is_on {
            return;
        }
        let Some(share) = expected_id(message.properties).and_then(|id| self.sampling.watches(id)) else {
            return;
        };
        let Some(answer) = expected_answer(message.properties) else { return };
        let weight = self.sampling.weight(share, now_us);
        let key = self.hasher.hash_one((vhost, answer));
        let due_us = due_us(message.properties, now_us).unwrap_or(NEVER_US);
        let mut shard = self.shard(key).lock();
        self.age(&mut shard, now_us);
        for queue in queues {
            let service = self.service(vhost, queue, now_us);
            service.asked(weight, now_us);
            let request = Request {
                key,
                service: service.clone(),
                started_us: now_us,
                due_us,
                weight,
                is_overdue: false,
            };
            if let Some(Request { service, weight, is_overdue: false, .. }) = shard.insert(request) {
                service.lost(weight);
            }
        }
    }

    /// A message that may be an answer is on its way to its caller, if that `is_there`.
    pub(crate) fn replied(&self, vhost: &Arc<str>, message: &MessageView<'_>, is_there: bool, now_us: u64) {
        if !self.is_on {
            return;
        }
        if !message.properties.correlation_id().is_some_and(|id| self.sampling.may_be_watched(id)) {
            return;
        }
        let Some(answer) = given_answer(message.routing_key, message.properties) else { return };
        let key = self.hasher.hash_one((vhost, answer));
        let mut shard = self.shard(key).lock();
        if !shard.contains(key) {
            return;
        }
        let is_error = match outcome(message.properties) {
            Outcome::InProgress => return,
            outcome => outcome == Outcome::Error,
        };
        let Some(request) = shard.take(key) else { return };
        drop(shard);
        let answer = Answer {
            took_us: now_us.saturating_sub(request.started_us),
            is_in_time: is_there && !request.is_overdue && now_us <= request.due_us,
            was_overdue: request.is_overdue,
            is_error,
            weight: request.weight,
        };
        request.service.answered(answer, now_us);
    }

    /// A queue gave up a message that goes nowhere else. If it is a request, nobody will answer it.
    pub(crate) fn gave_up(
        &self,
        vhost: &Arc<str>,
        message: &MessageView<'_>,
        why: GivenUp,
        slot: &ServiceSlot,
    ) {
        if !self.is_on {
            return;
        }
        let Some(answer) = expected_answer(message.properties) else { return };
        if !self.sampling.may_be_watched(answer.1) {
            return;
        }
        let key = self.hasher.hash_one((vhost, answer));
        let request = self.shard(key).lock().take(key);
        match (request, slot.get()) {
            (Some(request), _) => request.service.gave_up(why, request.is_overdue, request.weight),
            (None, Some(service)) => service.gave_up(why, true, 1),
            (None, None) => {}
        }
    }

    /// Counts what has become overdue, so that a snapshot tells the present.
    pub(crate) fn sweep(&self, now_us: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.age(&mut shard, now_us);
            for request in shard.iter_mut().filter(|request| !request.is_overdue && request.due_us < now_us) {
                request.is_overdue = true;
                match self.sampling.has_given_up(request.weight) {
                    true => request.service.lost(request.weight),
                    false => request.service.overdue(request.weight),
                }
            }
        }
    }

    /// What services without counters of their own have in common, if there are any.
    pub(crate) fn other(&self, now_us: u64) -> Option<ServiceSnapshot> {
        self.other.get().map(|service| service.snapshot(now_us))
    }

    /// Takes out requests that nobody expects an answer to any more, the oldest first. One with a distant deadline keeps
    /// those behind it, which the capacity of the table bounds.
    fn age(&self, shard: &mut InFlight, now_us: u64) {
        while shard.oldest().is_some_and(|oldest| forgotten_at_us(oldest) < now_us) {
            let Some(Request { service, weight, is_overdue: false, .. }) = shard.take_oldest() else {
                continue;
            };
            match self.sampling.has_given_up(weight) {
                true => service.lost(weight),
                false => service.overdue(weight),
            }
        }
    }

    fn shard(&self, key: u64) -> &Mutex<InFlight> {
        // The table of a shard uses the low bits, and the highest ones as tags.
        &self.shards[(key >> 32) as usize % SHARDS]
    }

    fn service<'a>(&'a self, vhost: &Arc<str>, queue: Asked<'a>, now_us: u64) -> &'a Arc<Service> {
        queue.slot.get_or_init(|| {
            if Arc::strong_count(&self.places) > SERVICES_MAX {
                let other = || Arc::new(Service::new("", OTHER_SERVICES, now_us));
                return self.other.get_or_init(other).clone();
            }
            let service = Service::new(vhost.clone(), queue.name.clone(), now_us);
            Arc::new(service.counted(self.places.clone()))
        })
    }
}

fn forgotten_at_us(request: &Request) -> u64 {
    match request.due_us {
        NEVER_US => request.started_us.saturating_add(PATIENCE_US),
        due_us => due_us.saturating_add(LATE_WITHIN_US),
    }
}

#[cfg(test)]
mod tests;
