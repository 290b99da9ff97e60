//! One question, one answer.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::{Duration, Instant};

use leveret_wire::{FieldTable, FieldValue, Properties};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::Client;
use super::attempt::{Attempt, attempt};
use super::portable::{is_portable, not_portable};
use crate::content::{self, Compression, ContentError};
use crate::ids::{message_id, random_u64};
use crate::telemetry::{AskSpan, Asked};
use crate::trace::TraceContext;
use crate::{CallError, Payload, Ran};

/// The pause before the first retry; it doubles, and is shortened at random.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A question to be asked; awaiting it asks. Made by [`Client::call`].
///
/// Dropping the future tells the worker to stop.
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<R> {
    pub(super) client: Client,
    pub(super) question: Result<Question, CallError>,
    answer: PhantomData<fn() -> R>,
}

/// Everything about a question but who waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) service: String,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) method: Option<String>,
    pub(crate) payload: Payload,
    pub(crate) headers: FieldTable,
    pub(crate) timeout: Option<Duration>,
    pub(crate) fail_fast: bool,
    pub(crate) retries: u32,
    pub(crate) hedge: Option<Duration>,
    pub(crate) priority: Option<u8>,
    pub(crate) message_id: Option<String>,
    pub(crate) user_id: Option<String>,
    /// How many answers of a stream may be on their way.
    pub(crate) window: Option<u32>,
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The body, decompressed.
    pub payload: Payload,
    /// Everything else about it.
    pub properties: Properties,
    /// Where it was published to, which tells gathered answers apart.
    pub routing_key: String,
}

impl Reply {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&FieldValue> {
        self.properties.headers.as_ref()?.get(name)
    }

    /// The body as a value, by its content type.
    ///
    /// # Errors
    /// It is not of that type, or of a content type nobody here understands.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ContentError> {
        content::decode(&self.payload)
    }
}

/// What an answer can become: any type that deserializes, or [`Reply`] for the octets.
pub trait Decode: Sized + Send + 'static {
    /// Reads an answer.
    ///
    /// # Errors
    /// It is something else.
    fn decode(reply: Reply) -> Result<Self, ContentError>;
}

impl<T: DeserializeOwned + Send + 'static> Decode for T {
    fn decode(reply: Reply) -> Result<Self, ContentError> {
        content::decode(&reply.payload)
    }
}

impl Decode for Reply {
    fn decode(reply: Reply) -> Result<Self, ContentError> {
        Ok(reply)
    }
}

impl<R> Call<R> {
    pub(super) fn new(client: Client, service: &str, payload: Result<Payload, ContentError>) -> Call<R> {
        let question =
            payload.map_err(|error| CallError::Unsendable(error.to_string())).map(|payload| Question {
                service: service.to_owned(),
                exchange: String::new(),
                routing_key: service.to_owned(),
                method: None,
                payload,
                headers: FieldTable::new(),
                timeout: None,
                fail_fast: false,
                retries: 0,
                hedge: None,
                priority: None,
                message_id: None,
                user_id: None,
                window: None,
            });
        Call { client, question, answer: PhantomData }
    }

    fn with(mut self, set: impl FnOnce(&mut Question)) -> Self {
        if let Ok(question) = &mut self.question {
            set(question);
        }
        self
    }

    /// The deadline, counted from the moment the call is awaited. It travels with the request: the broker drops
    /// the request when it has passed, the worker stops, and calls that the worker makes on the way inherit
    /// what is left.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|question| question.timeout = Some(timeout))
    }

    /// Which of a service's methods is meant.
    pub fn method(self, method: impl Into<String>) -> Self {
        self.with(|question| question.method = Some(method.into()))
    }

    /// A header for the handler.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        let (name, value) = (name.into(), value.into());
        if !is_portable(&value) {
            self.question = Err(CallError::Unsendable(not_portable(&name)));
        }
        self.with(|question| question.headers.insert(name, value))
    }

    /// Compresses the body.
    pub fn compress(mut self, compression: Compression) -> Self {
        self.question = self.question.and_then(|question| {
            let payload = question.payload.clone().compress(compression);
            let payload = payload.map_err(|error| CallError::Unsendable(error.to_string()))?;
            Ok(Question { payload, ..question })
        });
        self
    }

    /// Does not wait for a worker to become free: [`CallError::Busy`] or [`CallError::NoWorker`] at once instead.
    pub fn fail_fast(self) -> Self {
        self.with(|question| question.fail_fast = true)
    }

    /// Asks up to this many times more if an error says that asking again may help
    /// ([`CallError::is_retryable`]), within the same deadline and with the same message id, by which a worker
    /// recognises a request it has already done.
    pub fn retries(self, retries: u32) -> Self {
        self.with(|question| question.retries = retries)
    }

    /// Asks a second time if there is no answer after this time, and takes whichever answer comes first: for
    /// questions that may be answered twice, where a slow worker must not be the caller's problem.
    pub fn hedge(self, after: Duration) -> Self {
        self.with(|question| question.hedge = Some(after))
    }

    /// 0 (lowest) to 9, for queues that have priorities.
    pub fn priority(self, priority: u8) -> Self {
        self.with(|question| question.priority = Some(priority))
    }

    /// What identifies the request if it is sent more than once. Default: a new id.
    pub fn message_id(self, id: impl Into<String>) -> Self {
        self.with(|question| question.message_id = Some(id.into()))
    }

    /// Says as whom the client logged in; the broker vouches for it. For services that demand to know.
    pub fn user_id(self, user: impl Into<String>) -> Self {
        self.with(|question| question.user_id = Some(user.into()))
    }

    /// Asks through an exchange instead of the queue named like the service.
    pub fn exchange(self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        self.with(|question| {
            question.exchange = exchange.into();
            question.routing_key = routing_key.into();
        })
    }
}

impl<R: Decode> IntoFuture for Call<R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let question = self.question?;
            let span = question.span(&self.client, true);
            let reply = ask(&self.client, question, span.trace()).await;
            let answer = reply.and_then(|reply| R::decode(reply).map_err(CallError::Undecodable));
            span.end(answer.as_ref().err().map(|error| (error.kind(), error.to_string())));
            answer
        })
    }
}

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("question", &self.question).finish_non_exhaustive()
    }
}

impl Question {
    /// The span of asking this question.
    pub(super) fn span(&self, client: &Client, is_call: bool) -> AskSpan {
        let asked = Asked {
            service: &self.service,
            method: self.method.as_deref(),
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            is_call,
            body_bytes: self.payload.body.len(),
        };
        AskSpan::begin(asked, client.inherited.trace.as_ref())
    }
}

/// When the question must be answered: its own timeout, and not later than whoever asked us wants to know.
pub(super) fn deadline(client: &Client, question: &Question) -> Instant {
    let own = Instant::now() + question.timeout.unwrap_or(client.shared.settings.timeout);
    client.inherited.deadline.map_or(own, |inherited| own.min(inherited))
}

async fn ask(
    client: &Client,
    mut question: Question,
    trace: Option<&TraceContext>,
) -> Result<Reply, CallError> {
    let deadline = deadline(client, &question);
    question.message_id.get_or_insert_with(message_id);
    let mut number = 1;
    let mut unsure = None;
    loop {
        let this = Attempt { client, question: &question, deadline, trace, number };
        let answer = match question.hedge {
            None => attempt(this).await,
            Some(after) => Box::pin(hedged(this, after)).await,
        };
        let error = match answer {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        let pause = pause_before_retry(number, &error);
        let again = has_surely_not_run(&error) || (number <= question.retries && error.is_retryable());
        if !again || Instant::now() + pause >= deadline {
            return Err(of_all_attempts(unsure.as_ref(), error));
        }
        sleep(pause).await;
        number += 1;
        if !error.has_not_run() {
            unsure = Some(error);
        }
    }
}

/// What the last attempt's error means for the whole call: it says nothing about an earlier attempt, whose
/// request may have run.
fn of_all_attempts(earlier: Option<&CallError>, last: CallError) -> CallError {
    let Some(earlier) = earlier.filter(|_| last.has_not_run()) else { return last };
    match last {
        CallError::Expired { service, .. } => CallError::Expired { service, ran: Ran::Maybe },
        CallError::ConnectionLost { reason, .. } => CallError::ConnectionLost { may_have_run: true, reason },
        _ => earlier.clone(),
    }
}

/// A request that never left is sent on the next connection, whatever the caller said about retries.
fn has_surely_not_run(error: &CallError) -> bool {
    matches!(error, CallError::ConnectionLost { may_have_run: false, .. })
}

/// Doubles from attempt to attempt, with full jitter, unless the service said how long to wait.
fn pause_before_retry(number: u32, error: &CallError) -> Duration {
    if let Some(after) = error.remote().and_then(|failure| failure.retry_after) {
        return after;
    }
    let most = RETRY_FIRST.saturating_mul(1 << number.min(16)).min(RETRY_MAX);
    most.mul_f64((random_u64() >> 11) as f64 / (1_u64 << 53) as f64)
}

async fn hedged(first: Attempt<'_>, after: Duration) -> Result<Reply, CallError> {
    let mut one = std::pin::pin!(attempt(first));
    tokio::select! {
        answer = &mut one => return answer,
        () = sleep(after) => {}
    }
    // The same message id would make a worker wait for the slow one.
    let again = Question { message_id: Some(message_id()), ..first.question.clone() };
    let mut other = std::pin::pin!(attempt(Attempt { question: &again, ..first }));
    tokio::select! {
        answer = &mut one => answer_of_two(answer, other).await,
        answer = &mut other => answer_of_two(answer, one).await,
    }
}

async fn answer_of_two(
    first: Result<Reply, CallError>,
    second: impl Future<Output = Result<Reply, CallError>>,
) -> Result<Reply, CallError> {
    let Err(error) = first else { return first };
    let unsure = Some(&error).filter(|error| !error.has_not_run());
    second.await.map_err(|last| of_all_attempts(unsure, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let error = CallError::Busy { service: "s".into() };
        for number in 1..200 {
            assert!(pause_before_retry(number, &error) <= RETRY_MAX);
        }
    }

    #[test]
    fn a_retry_that_has_not_run_does_not_speak_for_the_attempt_before() {
        let service = || "s".to_owned();
        let lost = |may_have_run| CallError::ConnectionLost { may_have_run, reason: "gone".into() };
        let lasts = [
            lost(false),
            CallError::Expired { service: service(), ran: Ran::No },
            CallError::NoWorker { service: service() },
            CallError::Busy { service: service() },
            CallError::NoRoute { service: service() },
            CallError::Overloaded { service: service(), reason: "full".into() },
        ];
        for last in lasts {
            assert!(last.has_not_run(), "{last:?}");
            assert!(of_all_attempts(None, last.clone()).has_not_run(), "{last:?}");
            assert!(!of_all_attempts(Some(&lost(true)), last.clone()).has_not_run(), "{last:?}");
        }
        let refused = CallError::Remote(Failure::not_found("no such city"));
        assert!(of_all_attempts(Some(&lost(true)), refused).remote().is_some());
    }

    #[test]
    fn a_service_that_says_when_is_believed() {
        let failure = Failure::unavailable("later").retry_after(Duration::from_secs(7));
        assert_eq!(pause_before_retry(1, &CallError::Remote(failure)), Duration::from_secs(7));
    }
}
