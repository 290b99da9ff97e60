//! One request on its way: published, and then whichever comes first.
//!
//! ```text
//!   publish ─┬─ answer ───────────────▶ Reply, or Remote / Expired as the worker says
//!            ├─ basic.return ─────────▶ NoRoute                 within one round trip
//!            ├─ basic.nack ───────────▶ Overloaded              (x-overflow: reject-publish)
//!            ├─ bounce: expired ──────▶ NoWorker, Busy or Expired { ran: No }
//!            │          maxlen ───────▶ Overloaded
//!            │          rejected ─────▶ Rejected
//!            ├─ connection lost ──────▶ ConnectionLost
//!            └─ deadline ─────────────▶ Expired { ran: Maybe }
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use leveret_client::{ChannelError, Confirm, Delivery, Flush, NotConfirmed, Publish};
use leveret_wire::{FieldTable, FieldValue, Properties};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::Client;
use super::call::{Question, Reply};
use super::pending::{Arrival, Bounce, Ticket};
use super::uplink::{Probed, Uplink};
use crate::content::DECOMPRESSED_MAX_BYTES;
use crate::dialect::{self, Dialect};
use crate::trace::TraceContext;
use crate::{CallError, Code, Failure, Payload, Ran, profile};

/// A bounce leaves its queue at the deadline and takes a moment: what it says is worth that moment.
const BOUNCE_GRACE: Duration = Duration::from_millis(100);
/// Whether anybody serves at all, which a bounce does not say, is asked for up to this long after the deadline.
const PROBE_GRACE: Duration = Duration::from_millis(500);
/// Between two questions for the consumers of a queue that did not answer.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// Why a broker refuses a message without a word: `x-overflow: reject-publish`, or, in a cluster, a quorum queue between
/// two leaders.
const NOT_TAKEN: &str = "its queue is full, or has no leader at the moment";
/// So many calls at once are better written together than each for itself.
const ALONE_MAX: usize = 2;

/// One attempt at a question.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) client: &'a Client,
    pub(super) question: &'a Question,
    pub(super) deadline: Instant,
    /// The span that the worker's will be a child of.
    pub(super) trace: Option<&'a TraceContext>,
    /// From 1.
    pub(super) number: u32,
}

pub(super) async fn attempt(this: Attempt<'_>) -> Result<Reply, CallError> {
    let uplink = this.client.uplink(this.deadline).await?;
    wait_until_unblocked(this, &uplink).await?;
    let (ticket, answer) = uplink.pending.expect_one().map_err(|closed| CallError::lost(&closed, false))?;
    let confirm = {
        let properties = this.properties(&uplink, &ticket.correlation_id());
        this.publish(&uplink, &properties).await?
    };
    let mut guard = CancelGuard { this, uplink: &uplink, ticket: &ticket, armed: true };
    let comes_back = uplink.takes_bounces && uplink.connection.server().capability("rpc_bounce");
    let outcome = if this.question.fail_fast && !comes_back {
        tokio::select! {
            outcome = wait(this, &uplink, confirm, answer) => outcome,
            error = Box::pin(no_worker(this, &uplink)) => Err(error),
        }
    } else {
        wait(this, &uplink, confirm, answer).await
    };
    guard.armed = false;
    outcome
}

impl Attempt<'_> {
    /// What the message says about itself; see `docs/features/profile.md`.
    pub(super) fn properties(self, uplink: &Uplink, correlation_id: &str) -> Properties {
        let (question, client) = (self.question, self.client);
        let left = self.deadline.saturating_duration_since(Instant::now());
        let ttl_ms = if question.fail_fast { 0 } else { left.as_millis().max(1) };
        Properties {
            content_type: octets(&question.payload.content_type),
            content_encoding: octets(&question.payload.content_encoding),
            headers: Some(self.headers(uplink, left)),
            delivery_mode: Some(1),
            priority: question.priority,
            correlation_id: Some(correlation_id.as_bytes().to_vec()),
            reply_to: Some(uplink.reply_to.as_bytes().to_vec()),
            expiration: Some(ttl_ms.to_string().into_bytes()),
            message_id: octets(&question.message_id),
            kind: octets(&question.method),
            user_id: octets(&question.user_id),
            app_id: Some(client.shared.settings.app_id.as_bytes().to_vec()),
            ..Properties::default()
        }
    }

    fn headers(self, uplink: &Uplink, left: Duration) -> FieldTable {
        let mut headers = self.question.headers.clone();
        headers.insert(profile::DEADLINE, FieldValue::I64(unix_ms(left)));
        if uplink.takes_bounces {
            headers.insert(profile::CALLER, uplink.reply_to.as_str());
        }
        if self.number > 1 {
            headers.insert(profile::ATTEMPT, FieldValue::I64(self.number.into()));
        }
        if let Some(window) = self.question.window {
            headers.insert(profile::STREAM, FieldValue::I64(window.into()));
        }
        if let Some(trace) = self.trace {
            trace.write_to(&mut headers);
        }
        headers
    }

    pub(super) async fn publish(
        self,
        uplink: &Uplink,
        properties: &Properties,
    ) -> Result<Confirm, CallError> {
        let alone = uplink.pending.len() <= ALONE_MAX;
        let publish = Publish {
            exchange: &self.question.exchange,
            routing_key: &self.question.routing_key,
            mandatory: true,
            properties,
            body: &self.question.payload.body,
            flush: if alone { Flush::Now } else { Flush::Soon },
        };
        let room = timeout_at(self.deadline.into(), uplink.requests.publish(&publish)).await;
        match room {
            Ok(published) => published.map_err(unsendable),
            Err(_) => Err(self.overloaded("the connection takes no more octets")),
        }
    }

    fn overloaded(self, reason: &str) -> CallError {
        CallError::Overloaded { service: self.question.service.clone(), reason: reason.to_owned() }
    }

    pub(super) fn expired(self, ran: Ran) -> CallError {
        CallError::Expired { service: self.question.service.clone(), ran }
    }
}

/// A blocked broker reads nothing: the request would sit in a buffer and look sent.
pub(super) async fn wait_until_unblocked(this: Attempt<'_>, uplink: &Uplink) -> Result<(), CallError> {
    let mut blocked = uplink.connection.blocked();
    let reason = match &*blocked.borrow_and_update() {
        None => return Ok(()),
        Some(reason) => format!("the broker takes no messages: {reason}"),
    };
    match timeout_at(this.deadline.into(), blocked.wait_for(Option::is_none)).await {
        // An end of the connection is noticed by the publish that follows.
        Ok(_) => Ok(()),
        Err(_) => Err(this.overloaded(&reason)),
    }
}

async fn wait(
    this: Attempt<'_>,
    uplink: &Arc<Uplink>,
    confirm: Confirm,
    mut answer: oneshot::Receiver<Arrival>,
) -> Result<Reply, CallError> {
    let grace = if uplink.takes_bounces { BOUNCE_GRACE } else { Duration::ZERO };
    let settled = async {
        // An answer may be faster than the confirm.
        let confirmed = tokio::select! {
            biased;
            arrival = &mut answer => return Ok(arrival),
            confirmed = confirm => confirmed,
        };
        confirmed.map_err(|error| not_confirmed(this, error))?;
        Ok(answer.await)
    };
    match timeout_at((this.deadline + grace).into(), settled).await {
        Ok(arrival) => arrived(this, uplink, arrival?).await,
        Err(_) => Err(this.expired(Ran::Maybe)),
    }
}

pub(super) fn not_confirmed(this: Attempt<'_>, error: NotConfirmed) -> CallError {
    match error {
        NotConfirmed::Refused => this.overloaded(NOT_TAKEN),
        NotConfirmed::Returned(returned) if returned.code == 313 => {
            CallError::NoWorker { service: this.question.service.clone() }
        }
        NotConfirmed::Returned(_) => CallError::NoRoute { service: this.question.service.clone() },
        NotConfirmed::Lost { closed, sent } => CallError::lost(&closed, sent),
    }
}

async fn arrived(
    this: Attempt<'_>,
    uplink: &Uplink,
    arrival: Result<Arrival, oneshot::error::RecvError>,
) -> Result<Reply, CallError> {
    match arrival {
        Ok(Arrival::Answer(delivery)) => read_answer(&delivery).map_err(|failure| answered_no(this, failure)),
        Ok(Arrival::Bounced(bounce)) => Err(Box::pin(bounced(this, uplink, bounce)).await),
        Ok(Arrival::Lost(closed)) => Err(CallError::lost(&closed, true)),
        Err(_) => Err(CallError::Cancelled),
    }
}

/// Takes an answer apart: a body, or the failure that its headers tell of.
pub(super) fn read_answer(delivery: &Delivery) -> Result<Reply, Failure> {
    let properties = delivery.properties().to_properties();
    let payload = dialect::read_answer(Dialect::Profile, &properties, delivery.body.clone())?;
    let payload = match payload.content_encoding {
        None => payload,
        Some(_) => decompress(payload)?,
    };
    Ok(Reply { payload, properties, routing_key: delivery.routing_key.clone() })
}

fn decompress(payload: Payload) -> Result<Payload, Failure> {
    payload
        .decompress(DECOMPRESSED_MAX_BYTES)
        .map_err(|error| Failure::new(Code::DataLoss, format!("the answer does not decompress: {error}")))
}

/// A worker that ran out of time says what the broker would have said.
pub(super) fn answered_no(this: Attempt<'_>, failure: Failure) -> CallError {
    if failure.code != Code::DeadlineExceeded {
        return CallError::Remote(failure);
    }
    let ran = failure.details.as_ref().and_then(|details| details.get("ran")?.as_bool());
    this.expired(if ran == Some(false) { Ran::No } else { Ran::Maybe })
}

pub(super) async fn bounced(this: Attempt<'_>, uplink: &Uplink, bounce: Bounce) -> CallError {
    let service = this.question.service.clone();
    match bounce.reason.as_str() {
        // A worker died with it or gave it back: why nobody else took it does not matter as much.
        "expired" | "maxlen" if bounce.delivered => this.expired(Ran::Maybe),
        "maxlen" => this.overloaded(&format!("the queue `{}` is full", bounce.queue)),
        "expired" => {
            let by = this.deadline.max(Instant::now()) + PROBE_GRACE;
            match timeout_at(by.into(), uplink.probe(&bounce.queue)).await {
                Ok(Ok(Probed::Consumers(0) | Probed::Missing)) => CallError::NoWorker { service },
                _ if this.question.fail_fast => CallError::Busy { service },
                _ => this.expired(Ran::No),
            }
        }
        _ => CallError::Rejected { service, reason: bounce.reason },
    }
}

/// A queue without bounces drops what nobody takes at once. That nobody is there can still be seen.
async fn no_worker(this: Attempt<'_>, uplink: &Uplink) -> CallError {
    let direct = this.question.exchange.is_empty();
    loop {
        match uplink.probe(&this.question.routing_key).await {
            Ok(Probed::Consumers(0)) if direct => {
                return CallError::NoWorker { service: this.question.service.clone() };
            }
            Ok(Probed::Unknown) => tokio::time::sleep(PROBE_PAUSE).await,
            // Missing queues are told apart by the return of the message, which is on its way.
            _ => std::future::pending().await,
        }
    }
}

pub(super) fn unsendable(error: ChannelError) -> CallError {
    match error {
        ChannelError::Closed(closed) => CallError::lost(&closed, false),
        error => CallError::Unsendable(error.to_string()),
    }
}

fn unix_ms(from_now: Duration) -> i64 {
    let at = UNIX_EPOCH.elapsed().unwrap_or_default() + from_now;
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn octets(text: &Option<String>) -> Option<Vec<u8>> {
    text.as_ref().map(|text| text.as_bytes().to_vec())
}

/// Tells the workers of a service to stop if the caller stops waiting.
struct CancelGuard<'a> {
    this: Attempt<'a>,
    uplink: &'a Uplink,
    ticket: &'a Ticket,
    armed: bool,
}

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            cancel(self.uplink, &self.this.question.service, &self.ticket.correlation_id());
        }
    }
}

/// Says that nobody waits for an answer any more. Best effort: a worker that does not hear it works in vain.
pub(super) fn cancel(uplink: &Uplink, service: &str, correlation_id: &str) {
    let properties = Properties {
        correlation_id: Some(correlation_id.as_bytes().to_vec()),
        reply_to: Some(uplink.reply_to.as_bytes().to_vec()),
        delivery_mode: Some(1),
        ..Properties::default()
    };
    let routing_key = format!("cancel.{service}");
    let publish = Publish {
        exchange: profile::CONTROL_EXCHANGE,
        routing_key: &routing_key,
        mandatory: false,
        properties: &properties,
        body: &[],
        flush: Flush::Now,
    };
    if uplink.takes_bounces
        && let Err(error) = uplink.requests.try_publish(&publish)
    {
        tracing::debug!(%error, service, "nobody was told of a cancelled call");
    }
}
