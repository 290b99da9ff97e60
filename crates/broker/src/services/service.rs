//! What is known of one service: its counters, its rates and how long its answers took.

use std::sync::Arc;

use parking_lot::Mutex;

use super::histogram::Histogram;
use super::rate::{PerSecond, Rate};

/// A service: a queue that requests go to. It lives as long as its queue, and as its last request in flight.
#[derive(Debug)]
pub(crate) struct Service {
    vhost: Arc<str>,
    name: Arc<str>,
    record: Mutex<Record>,
    /// Held in order to be counted.
    _place: Option<Arc<()>>,
}

/// How often each thing happened to the requests of a service.
///
/// ```text
///   requests = replies + in_flight + unanswered + untracked
///   errors ⊂ replies          late, expired, orphaned ⊂ unanswered
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that reached the queue.
    pub requests: u64,
    /// Answered in time.
    pub replies: u64,
    /// Of the replies, those whose `rpc-status` is not `OK`.
    pub errors: u64,
    /// Waiting for their answer, in the queue or with a worker.
    pub in_flight: u64,
    /// Not answered in time (`expiration`, `rpc-deadline`; ten minutes where the caller says neither), or given up by the
    /// queue.
    pub unanswered: u64,
    /// Of the unanswered, those answered after all: too late, or with nobody there any more to hear it.
    pub late: u64,
    /// Of the unanswered, those that the queue gave up because their time was over.
    pub expired: u64,
    /// Of the unanswered, those that the queue gave up because their caller was gone.
    pub orphaned: u64,
    /// Forgotten because too many requests were in flight at a time.
    pub untracked: u64,
}

/// A service at one moment.
#[derive(Clone, Debug)]
pub struct ServiceSnapshot {
    /// Its virtual host.
    pub vhost: Arc<str>,
    /// Its queue.
    pub name: Arc<str>,
    /// What became of its requests since the counters began or were set back.
    pub counts: Counts,
    /// How many requests came lately.
    pub request_rate: PerSecond,
    /// How many replies came lately.
    pub reply_rate: PerSecond,
    /// From the request's arrival at the broker to that of its answer, late ones included.
    pub latency: Histogram,
}

/// How an answer came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) took_us: u64,
    /// Somebody still waited for it.
    pub(super) is_in_time: bool,
    /// The request was counted as unanswered already.
    pub(super) was_overdue: bool,
    pub(super) is_error: bool,
    /// For how many answers it counts.
    pub(super) weight: u64,
}

/// Why a queue gave a request up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// Its time was over.
    Expired,
    /// Its caller was gone.
    Orphaned,
    /// A worker or a limit of the queue refused it.
    Refused,
}

#[derive(Debug)]
struct Record {
    counts: Counts,
    latency: Histogram,
    requests: Rate,
    replies: Rate,
}

impl Record {
    fn new(now_us: u64) -> Self {
        let rate = Rate::new(seconds(now_us));
        Self {
            counts: Counts::default(),
            latency: Histogram::default(),
            requests: rate.clone(),
            replies: rate,
        }
    }
}

impl Service {
    pub(super) fn new(vhost: impl Into<Arc<str>>, name: impl Into<Arc<str>>, now_us: u64) -> Self {
        let record = Mutex::new(Record::new(now_us));
        Self { vhost: vhost.into(), name: name.into(), record, _place: None }
    }

    /// The same, holding one of the places for services.
    pub(super) fn counted(self, place: Arc<()>) -> Self {
        Self { _place: Some(place), ..self }
    }

    pub(super) fn asked(&self, weight: u64, now_us: u64) {
        let mut record = self.record.lock();
        record.counts.requests += weight;
        record.counts.in_flight += weight;
        record.requests.count(weight, seconds(now_us));
    }

    pub(super) fn answered(&self, answer: Answer, now_us: u64) {
        let mut record = self.record.lock();
        let counts = &mut record.counts;
        if !answer.was_overdue {
            let outcome = if answer.is_in_time { Counts::replies_mut } else { Counts::unanswered_mut };
            counts.leave(answer.weight, outcome);
        }
        counts.late += answer.weight * u64::from(!answer.is_in_time);
        counts.errors += answer.weight * u64::from(answer.is_in_time && answer.is_error);
        record.latency.record(answer.took_us);
        record.replies.count(answer.weight, seconds(now_us));
    }

    /// A request's time is over.
    pub(super) fn overdue(&self, weight: u64) {
        self.record.lock().counts.leave(weight, Counts::unanswered_mut);
    }

    /// A request in flight was forgotten.
    pub(super) fn lost(&self, weight: u64) {
        self.record.lock().counts.leave(weight, Counts::untracked_mut);
    }

    /// The queue gave a request up that `was_overdue` or in flight.
    pub(super) fn gave_up(&self, why: GivenUp, was_overdue: bool, weight: u64) {
        let mut record = self.record.lock();
        if !was_overdue {
            record.counts.leave(weight, Counts::unanswered_mut);
        }
        match why {
            GivenUp::Expired => record.counts.expired += weight,
            GivenUp::Orphaned => record.counts.orphaned += weight,
            GivenUp::Refused => {}
        }
    }

    pub(crate) fn snapshot(&self, now_us: u64) -> ServiceSnapshot {
        let mut record = self.record.lock();
        ServiceSnapshot {
            vhost: self.vhost.clone(),
            name: self.name.clone(),
            counts: record.counts,
            request_rate: record.requests.per_second(seconds(now_us)),
            reply_rate: record.replies.per_second(seconds(now_us)),
            latency: record.latency.clone(),
        }
    }

    /// Everything begins again, but for the requests in flight: their answers will count.
    pub(crate) fn reset(&self, now_us: u64) {
        let mut record = self.record.lock();
        let in_flight = record.counts.in_flight;
        *record = Record::new(now_us);
        record.counts = Counts { requests: in_flight, in_flight, ..Counts::default() };
    }
}

impl Counts {
    /// A request is in flight no longer and counted where it belongs.
    fn leave(&mut self, weight: u64, outcome: fn(&mut Self) -> &mut u64) {
        self.in_flight = self.in_flight.saturating_sub(weight);
        *outcome(self) += weight;
    }

    fn replies_mut(&mut self) -> &mut u64 {
        &mut self.replies
    }

    fn unanswered_mut(&mut self) -> &mut u64 {
        &mut self.unanswered
    }

    fn untracked_mut(&mut self) -> &mut u64 {
        &mut self.untracked
    }
}

fn seconds(us: u64) -> u64 {
    us / 1_000_000
}
