//! One question, many answers in order.
//!
//! The answers come to a queue of their own, which is consumed with acknowledgements and a prefetch of the window, so
//! that a caller that reads slowly holds up nobody and nothing grows in its memory. A worker that knows the
//! profile also waits for credit:
//!
//! ```text
//!   caller ── request, rpc-stream: 32 ──────────────────────────▶ worker
//!          ◀── rpc-seq: 0, rpc-credit-to: control queue ────────
//!          ◀── rpc-seq: 1 … 31 ─────────────────────────────────  (waits)
//!          ── rpc-credit: 16 ────────────────────────────────────▶
//!          ◀── rpc-seq: 32 … ; the last one with rpc-end ────────
//! ```

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use leveret_client::{Channel, Consume, Consumer, Delivery, Flush, Publish, QueueDeclare};
use leveret_wire::{FieldTable, FieldValue, Properties};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::Client;
use super::attempt::{
    Attempt, answered_no, bounced, cancel, not_confirmed, read_answer, unsendable, wait_until_unblocked,
};
use super::call::{Call, Decode, Question, Reply, deadline};
use super::pending::{Arrival, Ticket};
use super::uplink::Uplink;
use crate::ids::{message_id, random_id};
use crate::telemetry::AskSpan;
use crate::{CallError, Code, Failure, Ran, profile};

const DEFAULT_WINDOW: u32 = 32;
const WINDOW_MAX: u32 = u16::MAX as u32;

type Progress = Box<dyn FnMut(&str) + Send>;

/// A question with many answers; awaiting it asks. Made by [`Client::stream`].
#[must_use = "a question does nothing until it is awaited"]
pub struct StreamCall<R> {
    call: Call<Reply>,
    window: u32,
    stall: Option<Duration>,
    progress: Option<Progress>,
    answer: PhantomData<fn() -> R>,
}

/// The answers, in order. Dropping it tells the worker to stop.
pub struct Replies<R> {
    answers: mpsc::Receiver<Result<Reply, CallError>>,
    pump: tokio::task::AbortHandle,
    answer: PhantomData<fn() -> R>,
}

impl<R> StreamCall<R> {
    pub(super) fn new(call: Call<Reply>) -> StreamCall<R> {
        StreamCall { call, window: DEFAULT_WINDOW, stall: None, progress: None, answer: PhantomData }
    }

    /// How many answers may be on their way; at most 65,535. Default: 32.
    pub fn window(mut self, window: u32) -> Self {
        self.window = window.clamp(1, WINDOW_MAX);
        self
    }

    /// The longest time for all of it. Default: as for [`Call::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.call = self.call.timeout(timeout);
        self
    }

    /// The longest silence between two answers, or signs of progress.
    pub fn stall(mut self, stall: Duration) -> Self {
        self.stall = Some(stall);
        self
    }

    /// Is told of progress; see [`Context::progress`](crate::Context::progress).
    pub fn on_progress(mut self, progress: impl FnMut(&str) + Send + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Which method is meant.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.call = self.call.method(method);
        self
    }

    /// A header for the handler.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        self.call = self.call.header(name, value);
        self
    }

    /// What identifies the request if it is sent more than once. Default: a new id.
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.call = self.call.message_id(id);
        self
    }

    /// Asks through an exchange instead of the queue named like the service.
    pub fn exchange(mut self, exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        self.call = self.call.exchange(exchange, routing_key);
        self
    }
}

impl<R: Decode> IntoFuture for StreamCall<R> {
    type Output = Result<Replies<R>, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Call { client, question, .. } = self.call;
            let mut question = Question { window: Some(self.window), ..question? };
            question.message_id.get_or_insert_with(message_id);
            let span = question.span(&client, true);
            let pump = Pump::start(client, question, span, self.window, self.stall, self.progress).await?;
            let (sender, answers) = mpsc::channel(1);
            let pump = tokio::spawn(pump.run(sender)).abort_handle();
            Ok(Replies { answers, pump, answer: PhantomData })
        })
    }
}

impl<R: Decode> Replies<R> {
    /// The next answer; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<R, CallError>> {
        let reply = self.answers.recv().await?;
        Some(reply.and_then(|reply| R::decode(reply).map_err(CallError::Undecodable)))
    }
}

impl<R: Decode> Stream for Replies<R> {
    type Item = Result<R, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let reply = std::task::ready!(self.answers.poll_recv(cx));
        Poll::Ready(reply.map(|reply| reply.and_then(|r| R::decode(r).map_err(CallError::Undecodable))))
    }
}

impl<R> Drop for Replies<R> {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

/// Moves answers from the stream's queue to whoever reads them.
struct Pump {
    client: Client,
    question: Question,
    /// Until the last answer.
    span: Option<AskSpan>,
    deadline: Instant,
    stall: Option<Duration>,
    progress: Option<Progress>,
    answers: Answers,
    consumer: Consumer,
    bounce: oneshot::Receiver<Arrival>,
}

/// The asking side of a stream: what is expected next, and what the worker may still send.
struct Answers {
    uplink: Arc<Uplink>,
    ticket: Ticket,
    channel: Channel,
    queue: String,
    service: String,
    window: u32,
    next: i64,
    credit_to: Option<String>,
    taken: u32,
    ended: bool,
}

/// What one message of a stream is.
enum Step {
    Answer(Box<Result<Reply, CallError>>),
    Progress(String),
    /// A repetition, or the empty end.
    Nothing,
}

impl Pump {
    async fn start(
        client: Client,
        question: Question,
        span: AskSpan,
        window: u32,
        stall: Option<Duration>,
        progress: Option<Progress>,
    ) -> Result<Pump, CallError> {
        let deadline = deadline(&client, &question);
        let trace = span.trace();
        let this = Attempt { client: &client, question: &question, deadline, trace, number: 1 };
        let uplink = client.uplink(deadline).await?;
        wait_until_unblocked(this, &uplink).await?;
        let (ticket, bounce) =
            uplink.pending.expect_one().map_err(|closed| CallError::lost(&closed, false))?;
        let channel = uplink.connection.channel().await.map_err(unsendable)?;
        let queue = format!("rpc.stream.{}", random_id());
        channel.declare_queue(&QueueDeclare::exclusive(&queue)).await.map_err(unsendable)?;
        channel.prefetch(u16::try_from(window).unwrap_or(u16::MAX)).await.map_err(unsendable)?;
        let consumer = channel.consume(&Consume::queue(&queue)).await.map_err(unsendable)?;
        let mut properties = this.properties(&uplink, &ticket.correlation_id());
        properties.reply_to = Some(queue.clone().into_bytes());
        publish(this, &uplink, &properties).await?;
        let answers = Answers {
            uplink,
            ticket,
            channel,
            queue,
            service: question.service.clone(),
            window,
            next: 0,
            credit_to: None,
            taken: 0,
            ended: false,
        };
        Ok(Pump { client, question, span: Some(span), deadline, stall, progress, answers, consumer, bounce })
    }

    async fn run(mut self, sender: mpsc::Sender<Result<Reply, CallError>>) {
        while !self.answers.ended {
            let step = self.step().await;
            match step {
                Step::Nothing => {}
                Step::Progress(text) => {
                    if let Some(progress) = &mut self.progress {
                        progress(&text);
                    }
                }
                Step::Answer(answer) => {
                    if let Err(error) = &*answer {
                        self.end_span(Some((error.kind(), error.to_string())));
                    }
                    if sender.send(*answer).await.is_err() {
                        break;
                    }
                }
            }
        }
        self.end_span(None);
    }

    fn end_span(&mut self, error: Option<(&'static str, String)>) {
        if let Some(span) = self.span.take() {
            span.end(error);
        }
    }

    async fn step(&mut self) -> Step {
        let stalled_at = self.stall.map_or(self.deadline, |stall| self.deadline.min(Instant::now() + stall));
        let this = Attempt {
            client: &self.client,
            question: &self.question,
            deadline: self.deadline,
            trace: None,
            number: 1,
        };
        let uplink = self.answers.uplink.clone();
        let next = async {
            tokio::select! {
                delivery = self.consumer.next() => Ok(delivery),
                arrival = &mut self.bounce => Err(arrival),
            }
        };
        let error = match timeout_at(stalled_at.into(), next).await {
            Ok(Ok(Some(delivery))) => return self.answers.take(&delivery, this),
            Ok(Ok(None)) => CallError::ConnectionLost {
                may_have_run: true,
                reason: "the queue of the answers was lost".to_owned(),
            },
            Ok(Err(Ok(Arrival::Answer(delivery)))) => return self.answers.take(&delivery, this),
            Ok(Err(Ok(Arrival::Bounced(bounce)))) => bounced(this, &uplink, bounce).await,
            Ok(Err(Ok(Arrival::Lost(closed)))) => CallError::lost(&closed, true),
            Ok(Err(Err(_))) => CallError::Cancelled,
            Err(_) => this.expired(Ran::Maybe),
        };
        if matches!(error, CallError::Expired { .. }) {
            cancel(&uplink, &self.question.service, &self.answers.ticket.correlation_id());
        }
        self.answers.ended = true;
        Step::Answer(Box::new(Err(error)))
    }
}

/// Nobody can answer before the broker has it; what keeps it from that is known here and now.
async fn publish(this: Attempt<'_>, uplink: &Uplink, properties: &Properties) -> Result<(), CallError> {
    let confirm = this.publish(uplink, properties).await?;
    match timeout_at(this.deadline.into(), confirm).await {
        Ok(confirmed) => confirmed.map_err(|error| not_confirmed(this, error)),
        Err(_) => Err(this.expired(Ran::Maybe)),
    }
}

impl Answers {
    fn take(&mut self, delivery: &Delivery, this: Attempt<'_>) -> Step {
        delivery.ack();
        if delivery.properties().correlation_id() != Some(self.ticket.correlation_id().as_bytes()) {
            return Step::Nothing;
        }
        let headers = delivery.properties().headers().map(|headers| headers.to_table()).unwrap_or_default();
        let number = |name: &str| headers.get(name).and_then(FieldValue::as_i64);
        let status = headers.get(profile::STATUS).and_then(FieldValue::as_str);
        if status == Some(profile::IN_PROGRESS) {
            return Step::Progress(String::from_utf8_lossy(&delivery.body).into_owned());
        }
        if let Some(queue) = headers.get(profile::CREDIT_TO).and_then(FieldValue::as_str) {
            self.credit_to = Some(queue.to_owned());
        }
        // A worker that does not know streams answers once.
        let sequence = number(profile::SEQUENCE);
        let last = headers.get(profile::END).and_then(FieldValue::as_bool).unwrap_or(false);
        let failed = status.is_some_and(|status| status != profile::OK);
        if sequence.is_some_and(|sequence| sequence < self.next) {
            return Step::Nothing; // sent again after a reconnect of the worker
        }
        let gap = sequence.is_some_and(|sequence| sequence > self.next);
        self.ended = sequence.is_none() || last || failed || gap;
        self.next += 1;
        if gap {
            let failure = Failure::new(Code::DataLoss, "an answer of the stream is missing");
            return Step::Answer(Box::new(Err(CallError::Remote(failure))));
        }
        if last && delivery.body.is_empty() && !failed {
            return Step::Nothing;
        }
        self.give_credit();
        Step::Answer(Box::new(read_answer(delivery).map_err(|failure| answered_no(this, failure))))
    }

    /// Half a window at a time, so that the worker never waits for a caller that keeps up.
    fn give_credit(&mut self) {
        self.taken += 1;
        let Some(queue) = self.credit_to.as_deref().filter(|_| self.taken >= self.window.div_ceil(2)) else {
            return;
        };
        let mut headers = FieldTable::new();
        headers.insert(profile::CREDIT, FieldValue::I64(self.taken.into()));
        let properties = Properties {
            correlation_id: Some(self.ticket.correlation_id().into_bytes()),
            headers: Some(headers),
            ..Properties::default()
        };
        let publish = Publish {
            exchange: "",
            routing_key: queue,
            mandatory: false,
            properties: &properties,
            body: &[],
            flush: Flush::Soon,
        };
        match self.uplink.requests.try_publish(&publish) {
            // Not awaited: a lost credit is a lost connection, which ends the stream.
            Ok(_confirm) => self.taken = 0,
            Err(error) => tracing::debug!(%error, "no credit could be sent"),
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if !self.ended {
            cancel(&self.uplink, &self.service, &self.ticket.correlation_id());
        }
        // The queue is exclusive and would stay until the connection ends.
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { channel.delete_queue(&queue).await });
        }
    }
}
