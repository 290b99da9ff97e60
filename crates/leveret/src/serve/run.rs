//! The handler's turn: with a deadline, a way to call it off, and a net for panics.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use leveret_client::Delivery;

use super::Handler;
use super::intake::{Accepted, Verdict};
use super::shift::Shift;
use super::stats::count;
use super::worker::Work;
use crate::{Answer, Code, Failure, IntoFailure, Request};

/// How a handler's turn ended.
pub(super) enum Ended {
    Answered(Answer),
    Failed(Failure),
    /// The caller called it off: it wants no answer.
    CalledOff,
}

impl<S: Handler> Work<S> {
    /// Everything about one delivery, from its first look to its acknowledgement.
    ///
    /// What happens seldom is boxed, here and below: the future is moved for every request.
    pub(super) async fn handle(self: &Arc<Self>, shift: &Arc<Shift>, delivery: Delivery, came: Instant) {
        match self.judge(shift, &delivery, came).await {
            Verdict::Run(accepted) => self.work(shift, &delivery, *accepted).await,
            Verdict::Answer(envelope, failure) => {
                Box::pin(self.refuse(shift, &delivery, &envelope, &failure)).await;
            }
            Verdict::Repeat(envelope, slot) => {
                Box::pin(self.repeat(shift, &delivery, &envelope, &slot)).await;
            }
            Verdict::Drop => delivery.ack(),
            Verdict::Moved => {
                delivery.ack();
                shift.channel.flush();
            }
            Verdict::Reject => delivery.reject(false),
            Verdict::Leave => {}
        }
    }

    async fn work(&self, shift: &Shift, delivery: &Delivery, mut accepted: Accepted) {
        count(&self.counters.requests);
        let began = Instant::now();
        let first = accepted.first.take();
        let listed = Listed::enter(self, &accepted);
        let turn = self.turn(accepted.request.clone(), accepted.deadline);
        let ended = accepted.span.around(turn).await;
        let failure = self.finish(shift, delivery, &accepted, ended, first).await;
        self.counters.worked(began.elapsed());
        if let Some(failure) = &failure {
            self.counters.failed(failure);
        }
        drop(listed);
        accepted.span.end(failure.as_ref());
    }

    async fn turn(&self, request: Request, deadline: Option<Instant>) -> Ended {
        let cancel = request.cx.cancel().clone();
        let mut handler = self.handler.clone();
        let work = async move {
            let turn = async {
                poll_fn(|cx| handler.poll_ready(cx)).await?;
                handler.call(request).await
            };
            match unwinding(turn).await {
                Ok(Ok(answer)) => Ended::Answered(answer),
                Ok(Err(error)) => Ended::Failed(error.into_failure()),
                Err(panic) => Ended::Failed(panic),
            }
        };
        let ended = async {
            tokio::select! {
                biased;
                ended = work => ended,
                () = cancel.cancelled() => Ended::CalledOff,
            }
        };
        let Some(deadline) = deadline else { return ended.await };
        match tokio::time::timeout_at(deadline.into(), ended).await {
            Ok(ended) => ended,
            Err(_) => {
                count(&self.counters.expired);
                cancel.cancel();
                Ended::Failed(Failure::new(
                    Code::DeadlineExceeded,
                    "the work was not done before the deadline",
                ))
            }
        }
    }
}

/// Turns a panic into an answer: the same request would panic elsewhere too.
async fn unwinding<F: Future>(future: F) -> Result<F::Output, Failure> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panic) => Poll::Ready(Err(panicked(&*panic))),
    })
    .await
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::internal(format!("the handler panicked: {}", text.unwrap_or("without a message")))
}

/// A request that can be called off while it is in the table.
struct Listed<'a, S> {
    work: &'a Work<S>,
    correlation_id: Option<Vec<u8>>,
}

impl<'a, S> Listed<'a, S> {
    fn enter(work: &'a Work<S>, accepted: &Accepted) -> Listed<'a, S> {
        let correlation_id = accepted.envelope.reply.as_ref().and(accepted.envelope.correlation_id.clone());
        if let Some(id) = &correlation_id {
            work.running.lock().insert(id.clone(), accepted.running.clone());
        }
        Listed { work, correlation_id }
    }
}

impl<S> Drop for Listed<'_, S> {
    fn drop(&mut self) {
        if let Some(id) = &self.correlation_id {
            self.work.running.lock().remove(id);
        }
    }
}
