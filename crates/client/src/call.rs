//! Waiting for the answer to a method, and what becomes of an answer nobody waits for any more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::channel::Channel;
use crate::error::Closed;
use crate::session::Answer;

/// Waits for one answer.
pub(crate) struct Waiter(Option<(oneshot::Sender<Result<Answer, Closed>>, Undo)>);

/// What an answer that comes too late is undone with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undo {
    /// It does no harm.
    Nothing,
    /// A message goes back into its queue.
    Requeue,
    /// A consumer is cancelled.
    Cancel,
}

/// The other end: a future of the answer. Dropping it is fine at any time.
pub(crate) struct Pending<'c> {
    channel: &'c Channel,
    answer: oneshot::Receiver<Result<Answer, Closed>>,
    undo: Undo,
}

impl Waiter {
    /// Someone who asked, and wants to know.
    pub(crate) fn new(channel: &Channel, undo: Undo) -> (Waiter, Pending<'_>) {
        let (sender, answer) = oneshot::channel();
        (Waiter(Some((sender, undo))), Pending { channel, answer, undo })
    }

    /// Someone who does not want to know.
    pub(crate) fn nobody() -> Waiter {
        Waiter(None)
    }

    /// Hands the answer over. Gives back what nobody takes, to be undone on its channel.
    pub(crate) fn answer(self, answer: Answer) -> Option<(Answer, Undo)> {
        let (sender, undo) = self.0?;
        let untaken = sender.send(Ok(answer)).err()?.ok()?;
        Some((untaken, undo))
    }

    /// There will be no answer.
    pub(crate) fn fail(self, closed: &Closed) {
        if let Some((sender, _)) = self.0 {
            let _nobody_waits = sender.send(Err(closed.clone()));
        }
    }

    /// For who wanted the channel closed: it is.
    pub(crate) fn closed(self, closed: &Closed) {
        match closed.is_wanted() {
            true => drop(self.answer(Answer::Done)),
            false => self.fail(closed),
        }
    }
}

impl Undo {
    pub(crate) fn apply(self, channel: &Channel, answer: &Answer) {
        match (self, answer) {
            (Undo::Requeue, Answer::Got(Some(incoming))) => channel.reject(incoming.delivery_tag, true),
            (Undo::Cancel, Answer::Consuming(tag)) => channel.cancel_unheard(&Arc::clone(tag)),
            _ => {}
        }
    }
}

impl Future for Pending<'_> {
    type Output = Result<Answer, Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| match answer {
            Ok(answer) => {
                self.undo = Undo::Nothing;
                answer
            }
            // A waiter is answered or failed; this one was dropped with its session.
            Err(_) => Err(self.channel.why_closed()),
        })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let (true, Ok(Ok(answer))) = (self.undo != Undo::Nothing, self.answer.try_recv()) {
            self.undo.apply(self.channel, &answer);
        }
    }
}
