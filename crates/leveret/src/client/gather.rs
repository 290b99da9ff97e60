//! One question to many: everybody who listens answers, and the answers are gathered.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::timeout_at;

use super::Client;
use super::attempt::{Attempt, answered_no, not_confirmed, read_answer, wait_until_unblocked};
use super::call::{Call, Decode, Question, Reply, deadline};
use super::pending::Arrival;
use crate::ids::message_id;
use crate::trace::TraceContext;
use crate::{CallError, profile};
use leveret_client::NotConfirmed;
use leveret_wire::FieldValue;

/// A question to everybody who listens; awaiting it asks. Made by [`Client::gather`].
///
/// It ends when enough have answered ([`count`](Gather::count)), when nobody answered for a while
/// ([`silence`](Gather::silence)), when an answer says that it is the last one (header `rpc-end`), or at the
/// timeout: whatever comes first. What was gathered until then is the result; only a question that reached nobody
/// is an error.
#[must_use = "a question does nothing until it is awaited"]
pub struct Gather<R> {
    call: Call<Reply>,
    until: Until,
    answer: PhantomData<fn() -> R>,
}

/// When to stop gathering, besides the timeout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Until {
    /// So many answers are enough.
    pub count: Option<usize>,
    /// Nobody answered for this long, counted from the first answer on.
    pub silence: Option<Duration>,
}

/// One of the gathered answers.
#[derive(Clone, Debug)]
pub struct Gathered<R> {
    /// Who answered, if it says so: `service/instance`.
    pub from: Option<String>,
    /// The answer, or the error that this one reported.
    pub answer: Result<R, CallError>,
    /// From the question to this answer.
    pub after: Duration,
}

impl<R> Gather<R> {
    pub(super) fn new(call: Call<Reply>) -> Gather<R> {
        Gather { call, until: Until::default(), answer: PhantomData }
    }

    /// So many answers are enough.
    pub fn count(mut self, count: usize) -> Self {
        self.until.count = Some(count);
        self
    }

    /// Ends when nobody has answered for this long after the last answer.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.until.silence = Some(silence);
        self
    }

    /// The longest time for all of it. Default: as for [`Call::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.call = self.call.timeout(timeout);
        self
    }

    /// Which method is meant.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.call = self.call.method(method);
        self
    }

    /// A header for the handlers.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<FieldValue>) -> Self {
        self.call = self.call.header(name, value);
        self
    }
}

impl<R: Decode> IntoFuture for Gather<R> {
    type Output = Result<Vec<Gathered<R>>, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Call { client, question, .. } = self.call;
            let question = question?;
            let span = question.span(&client, true);
            let gathered = gather(&client, &question, span.trace(), self.until).await;
            span.end(gathered.as_ref().err().map(|error| (error.kind(), error.to_string())));
            gathered
        })
    }
}

async fn gather<R: Decode>(
    client: &Client,
    question: &Question,
    trace: Option<&TraceContext>,
    until: Until,
) -> Result<Vec<Gathered<R>>, CallError> {
    let question = Question { message_id: Some(message_id()), ..question.clone() };
    let deadline = deadline(client, &question);
    let this = Attempt { client, question: &question, deadline, trace, number: 1 };
    let uplink = client.uplink(this.deadline).await?;
    wait_until_unblocked(this, &uplink).await?;
    let (ticket, arrivals) =
        uplink.pending.expect_many().map_err(|closed| CallError::lost(&closed, false))?;
    let properties = this.properties(&uplink, &ticket.correlation_id());
    let asked = Instant::now();
    let confirm = this.publish(&uplink, &properties).await?;
    match timeout_at(this.deadline.into(), confirm).await {
        // One of many queues was full: the others have it.
        Ok(Ok(()) | Err(NotConfirmed::Refused)) | Err(_) => {}
        Ok(Err(error)) => return Err(not_confirmed(this, error)),
    }
    Ok(collect(this, asked, until, arrivals).await)
}

async fn collect<R: Decode>(
    this: Attempt<'_>,
    asked: Instant,
    until: Until,
    mut arrivals: mpsc::Receiver<Arrival>,
) -> Vec<Gathered<R>> {
    let mut gathered = Vec::new();
    let enough = until.count.unwrap_or(usize::MAX);
    let mut quiet_at = this.deadline;
    while gathered.len() < enough {
        let Ok(Some(arrival)) = timeout_at(quiet_at.min(this.deadline).into(), arrivals.recv()).await else {
            break;
        };
        let delivery = match arrival {
            Arrival::Answer(delivery) => delivery,
            // One of those asked did not take it; the others may still answer.
            Arrival::Bounced(_) => continue,
            Arrival::Lost(_) => break,
        };
        let reply = read_answer(&delivery).map_err(|failure| answered_no(this, failure));
        let headers = delivery.properties().headers();
        let last = headers.and_then(|headers| headers.find(profile::END)?.as_bool()).unwrap_or(false);
        let from = headers.and_then(|headers| headers.find(profile::WORKER)?.as_str().map(str::to_owned));
        let answer = reply.and_then(|reply| R::decode(reply).map_err(CallError::Undecodable));
        gathered.push(Gathered { from, answer, after: asked.elapsed() });
        if last {
            break;
        }
        if let Some(silence) = until.silence {
            quiet_at = Instant::now() + silence;
        }
    }
    gathered
}
