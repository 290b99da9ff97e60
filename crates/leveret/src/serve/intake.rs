//! Whether a request is worth beginning with, before a handler sees it.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use leveret_client::{Connection, Delivery, QueueDeclare};
use leveret_wire::{FieldValue, Properties};
use tokio::sync::Semaphore;

use super::dedup::{First, Seen};
use super::retry::{NotMoved, REDELIVERY_PAUSE, park, retry_later};
use super::shift::Shift;
use super::stats::count;
use super::worker::{Running, Work};
use super::{Handler, Options};
use crate::client::Inherited;
use crate::content::Format;
use crate::context::{Cancel, Context, Inner, ProgressTo};
use crate::dialect::{self, Envelope, ReplyAddress};
use crate::telemetry::{Taken, WorkSpan};
use crate::trace::TraceContext;
use crate::{Code, Failure, Request, profile};

/// Clocks of different machines differ. A request that the broker still delivered, but that is this much past its
/// deadline by our clock, comes from a machine with another time.
const SKEW_MIN: Duration = Duration::from_secs(1);
/// A request that waited this long may have lost its caller; that is worth a question to the broker.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// A request that is worth its work.
pub(super) struct Accepted {
    pub(super) envelope: Envelope,
    pub(super) request: Request,
    pub(super) deadline: Option<Instant>,
    pub(super) attempt: u32,
    pub(super) window: Option<u32>,
    pub(super) running: Running,
    pub(super) first: Option<First>,
    pub(super) span: WorkSpan,
}

/// What to do with a delivery.
pub(super) enum Verdict {
    Run(Box<Accepted>),
    /// Answer so (if anybody asked), then acknowledge.
    Answer(Box<Envelope>, Failure),
    /// It is running or was done: answer as the first one did.
    Repeat(Box<Envelope>, Arc<super::dedup::Slot>),
    /// Acknowledge and forget.
    Drop,
    /// Give it back as refused: to the dead-letter exchange, if there is one.
    Reject,
    /// A copy is where it belongs already; acknowledge.
    Moved,
    /// It could not be moved: leave it unacknowledged, the broker delivers it again.
    Leave,
}

impl<S: Handler> Work<S> {
    pub(super) async fn judge(&self, shift: &Shift, delivery: &Delivery, came: Instant) -> Verdict {
        let properties = delivery.properties().to_properties();
        if is_answer(&properties) {
            count(&self.counters.refused);
            return Verdict::Reject;
        }
        let envelope = dialect::read(
            &self.options.dialects,
            &delivery.exchange,
            &delivery.routing_key,
            &properties,
            &delivery.body,
        );
        if answers_go_to(&envelope, &shift.queue, &self.options) {
            tracing::warn!(
                service = self.options.service,
                "a request wants its answer in a queue of this service"
            );
            count(&self.counters.refused);
            return Verdict::Reject;
        }
        let deadline = deadline_of(&properties, came);
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            count(&self.counters.expired);
            let may_have_run = delivery.redelivered || attempt_of(&properties) > 1;
            return Verdict::Answer(Box::new(envelope), past_deadline(may_have_run));
        }
        if envelope.correlation_id.as_ref().is_some_and(|id| self.called_off.knows(id)) {
            count(&self.counters.cancelled);
            return Verdict::Drop;
        }
        if self.caller_is_gone(shift, &envelope, &properties, deadline).await {
            count(&self.counters.orphaned);
            return Verdict::Drop;
        }
        let attempt = attempt_of(&properties);
        if delivery.redelivered {
            let stopped = Box::pin(self.stop_poison(shift, delivery, &envelope, &properties, attempt));
            if let Some(verdict) = stopped.await {
                return verdict;
            }
        }
        let id = properties.message_id.as_deref().and_then(|id| std::str::from_utf8(id).ok());
        let first = match id.map(|id| self.dedup.enter(id)) {
            Some(Seen::Again(slot)) => {
                count(&self.counters.repeated);
                return Verdict::Repeat(Box::new(envelope), slot);
            }
            Some(Seen::First(first)) => Some(first),
            None => None,
        };
        Verdict::Run(Box::new(self.accept(shift, delivery, properties, envelope, deadline, attempt, first)))
    }

    #[allow(clippy::too_many_arguments)] // what judging has found out, once
    fn accept(
        &self,
        shift: &Shift,
        delivery: &Delivery,
        properties: Properties,
        envelope: Envelope,
        deadline: Option<Instant>,
        attempt: u32,
        first: Option<First>,
    ) -> Accepted {
        let headers = properties.headers.as_ref();
        let parent = headers.and_then(TraceContext::from_headers);
        let span = WorkSpan::begin(self.taken(shift, &properties, &envelope), parent.as_ref());
        let trace = span.trace().cloned();
        let window = headers.and_then(|headers| headers.get(profile::STREAM)?.as_i64());
        let window = window.map(|window| window.clamp(1, u16::MAX.into()) as u32);
        let cancel = Arc::<Cancel>::default();
        let credit = Arc::new(Semaphore::new(window.unwrap_or(0) as usize));
        let progress = window.and(envelope.reply.clone()).filter(ReplyAddress::is_plain_queue);
        let progress = progress.map(|address| ProgressTo {
            channel: shift.channel.clone(),
            address,
            correlation_id: envelope.correlation_id.clone(),
        });
        let inherited = Inherited { deadline, trace: trace.clone() };
        let cx = Context::new(Inner {
            client: self.client.within(inherited),
            format: format_of(&properties, &envelope),
            properties,
            routing_key: delivery.routing_key.clone(),
            redelivered: delivery.redelivered,
            attempt,
            deadline,
            trace,
            cancel: cancel.clone(),
            progress,
        });
        let request = Request { cx, method: envelope.method.clone(), payload: envelope.payload.clone() };
        let running = Running { cancel, credit };
        Accepted { envelope, request, deadline, attempt, window, running, first, span }
    }

    fn taken<'a>(
        &'a self,
        shift: &'a Shift,
        properties: &'a Properties,
        envelope: &'a Envelope,
    ) -> Taken<'a> {
        let message_id = properties.message_id.as_deref();
        Taken {
            service: &self.options.service,
            queue: &shift.queue,
            method: envelope.method.as_deref(),
            message_id: message_id.and_then(|id| std::str::from_utf8(id).ok()),
            correlation_id: envelope.reply.as_ref().and(envelope.correlation_id.as_deref()),
            body_bytes: envelope.payload.body.len(),
        }
    }

    /// Whether nobody would read the answer.
    async fn caller_is_gone(
        &self,
        shift: &Shift,
        envelope: &Envelope,
        properties: &Properties,
        deadline: Option<Instant>,
    ) -> bool {
        let Some(reply) = envelope.reply.as_ref().filter(|reply| reply.exchange.is_empty()) else {
            return false;
        };
        if self.callers_gone.knows(reply.routing_key.as_bytes()) {
            return true;
        }
        if !waited_long(properties, deadline) || reply.is_direct() {
            return false;
        }
        let gone = Box::pin(is_missing(&shift.connection, &reply.routing_key)).await;
        if gone {
            self.callers_gone.note(reply.routing_key.as_bytes());
        }
        gone
    }

    /// What to do with a request that was delivered before: one that kills its workers is delivered again and again.
    /// Quorum queues count deliveries; for all others the count is written into the message.
    async fn stop_poison(
        &self,
        shift: &Shift,
        delivery: &Delivery,
        envelope: &Envelope,
        properties: &Properties,
        attempt: u32,
    ) -> Option<Verdict> {
        let headers = properties.headers.as_ref();
        let counted = headers.and_then(|headers| headers.get("x-delivery-count")?.as_i64());
        let attempt = match counted {
            Some(count) => attempt.saturating_add(u32::try_from(count).unwrap_or(u32::MAX)),
            None => attempt.saturating_add(1),
        };
        let queue = &shift.queue;
        if attempt > self.options.delivery_limit {
            let reason = format!("delivery_limit: {} deliveries without an end", attempt - 1);
            return Some(self.give_up(shift, delivery, envelope, attempt, &reason).await);
        }
        if counted.is_some() {
            return None;
        }
        match retry_later(&shift.steward, delivery, queue, attempt, REDELIVERY_PAUSE).await {
            Ok(()) => Some(Verdict::Moved),
            Err(error @ NotMoved::HeadersTooLarge) => {
                let reason = format!("deliveries cannot be counted: {error}");
                Some(self.give_up(shift, delivery, envelope, attempt, &reason).await)
            }
            Err(error) => {
                tracing::warn!(%error, "a redelivered message cannot be counted");
                None
            }
        }
    }

    async fn give_up(
        &self,
        shift: &Shift,
        delivery: &Delivery,
        envelope: &Envelope,
        attempt: u32,
        reason: &str,
    ) -> Verdict {
        let service = &self.options.service;
        let parked = park(&shift.steward, delivery, service, &shift.queue, attempt, reason).await;
        if let Err(error) = parked {
            tracing::error!(%error, "a poison message cannot be parked");
            return Verdict::Leave;
        }
        count(&self.counters.parked);
        let failure = Failure::new(Code::Aborted, "the request was given up: its workers died of it");
        Verdict::Answer(Box::new(envelope.clone()), failure)
    }
}

/// 404: no such queue; 405: somebody's exclusive queue, so somebody is there.
async fn is_missing(connection: &Connection, queue: &str) -> bool {
    let Ok(channel) = connection.channel().await else { return false };
    let asked = channel.declare_queue(&QueueDeclare::passive(queue)).await;
    asked.is_err_and(|error| error.reply_code() == Some(404))
}

/// Answers carry a status; a request never does. Working on one would answer an answer.
fn is_answer(properties: &Properties) -> bool {
    properties.headers.as_ref().is_some_and(|headers| headers.get(profile::STATUS).is_some())
}

/// Whether the answer would become a request of this very service.
fn answers_go_to(envelope: &Envelope, queue: &str, options: &Options) -> bool {
    envelope.reply.as_ref().is_some_and(|reply| {
        let direct =
            reply.exchange.is_empty() && (reply.routing_key == queue || reply.routing_key == options.service);
        let bound = options.queue.bindings.iter();
        direct
            || bound
                .into_iter()
                .any(|(exchange, key)| *exchange == reply.exchange && *key == reply.routing_key)
    })
}

/// A worker that got the request before us, and died, may have begun.
fn past_deadline(may_have_run: bool) -> Failure {
    let failure = Failure::new(Code::DeadlineExceeded, "the deadline had passed before the work began");
    match may_have_run {
        true => failure,
        false => failure.with_details(&serde_json::json!({ "ran": false })),
    }
}

/// When the caller stops waiting, by our clock: the nearer of its absolute deadline and the time to live that its
/// message has left.
fn deadline_of(properties: &Properties, came: Instant) -> Option<Instant> {
    let headers = properties.headers.as_ref();
    let absolute_ms = headers.and_then(|headers| headers.get(profile::DEADLINE)?.as_i64());
    let ttl = expiration(properties).filter(|ttl| !ttl.is_zero()).map(|ttl| came + ttl);
    let Some(absolute_ms) = absolute_ms.and_then(|ms| u64::try_from(ms).ok()) else {
        return ttl;
    };
    let now = UNIX_EPOCH.elapsed().unwrap_or_default();
    let absolute = Duration::from_millis(absolute_ms);
    match absolute.checked_sub(now) {
        Some(left) => {
            let by_clock = Instant::now().checked_add(left)?;
            Some(ttl.map_or(by_clock, |ttl| ttl.min(by_clock)))
        }
        // Delivered, so its time to live has not passed: if it is long over by the clock, the clock is wrong.
        None if ttl.is_some() && now - absolute > SKEW_MIN => ttl,
        None => Some(came),
    }
}

fn expiration(properties: &Properties) -> Option<Duration> {
    let digits = std::str::from_utf8(properties.expiration.as_deref()?).ok()?;
    Some(Duration::from_millis(digits.parse::<u32>().ok()?.into()))
}

fn waited_long(properties: &Properties, deadline: Option<Instant>) -> bool {
    let (Some(budget), Some(deadline)) = (expiration(properties), deadline) else { return false };
    budget.saturating_sub(deadline.saturating_duration_since(Instant::now())) >= LONG_WAIT
}

fn attempt_of(properties: &Properties) -> u32 {
    let headers = properties.headers.as_ref();
    let attempt = headers.and_then(|headers| headers.get(profile::ATTEMPT)?.as_i64());
    attempt.and_then(|attempt| u32::try_from(attempt).ok()).unwrap_or(1).max(1)
}

fn format_of(properties: &Properties, envelope: &Envelope) -> Format {
    let accept = properties.headers.as_ref().and_then(|headers| headers.get(profile::ACCEPT));
    let accept = accept.and_then(FieldValue::as_str);
    let accepted = accept.and_then(|types| types.split(',').find_map(|name| Format::of(name.trim())));
    let own = envelope.payload.content_type.as_deref().and_then(Format::of);
    accepted.or(own).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::FieldTable;

    fn request(deadline_ms_from_now: Option<i64>, expiration: Option<&str>) -> Properties {
        let now = UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
        let headers = deadline_ms_from_now
            .map(|ms| FieldTable(vec![(profile::DEADLINE.to_owned(), FieldValue::I64(now + ms))]));
        Properties {
            headers,
            expiration: expiration.map(|digits| digits.as_bytes().to_vec()),
            ..Properties::default()
        }
    }

    fn check(properties: &Properties, expected_ms: Option<u64>) {
        let came = Instant::now();
        let left = deadline_of(properties, came).map(|at| at.saturating_duration_since(came).as_millis());
        match (left, expected_ms) {
            (None, None) => {}
            (Some(left), Some(expected)) => {
                assert!(
                    left.abs_diff(expected.into()) <= 20,
                    "{left} ms, expected {expected}: {properties:?}"
                );
            }
            other => panic!("{other:?}: {properties:?}"),
        }
    }

    #[test]
    fn the_deadline_is_the_nearer_of_two_unless_a_clock_is_wrong() {
        check(&request(None, None), None);
        check(&request(None, Some("500")), Some(500));
        check(&request(Some(300), Some("500")), Some(300));
        check(&request(Some(900), Some("500")), Some(500)); // our clock is behind
        check(&request(Some(-10), Some("500")), Some(0));
        check(&request(Some(-60_000), Some("500")), Some(500)); // our clock is ahead
        check(&request(Some(-60_000), None), Some(0));
        check(&request(Some(300), Some("0")), Some(300)); // fail-fast says nothing about the time
    }

    #[test]
    fn headers_of_the_wrong_type_are_as_good_as_absent() {
        for value in [FieldValue::LongString(b"soon".to_vec()), FieldValue::Bool(true), FieldValue::I64(-5)] {
            let mut properties = request(None, Some("500"));
            let entries =
                [profile::DEADLINE, profile::ATTEMPT].map(|name| (name.to_owned(), value.clone())).to_vec();
            properties.headers = Some(FieldTable(entries));
            check(&properties, Some(500));
            assert_eq!(attempt_of(&properties), 1);
        }
        check(&request(None, Some("forever")), None);
    }
}
