//! After the work: the answer, then the acknowledgement. For tasks, what comes next.

use std::future::poll_fn;

use bytes::Bytes;
use leveret_client::{ChannelError, Delivery, Flush, Publish};
use leveret_wire::{FieldTable, FieldValue, Properties};

use super::Handler;
use super::dedup::{First, Slot};
use super::intake::Accepted;
use super::retry::{NotMoved, park, retry_later};
use super::run::Ended;
use super::shift::Shift;
use super::stats::count;
use super::worker::Work;
use crate::dialect::{self, Envelope};
use crate::{Answer, AnswerStream, Code, Failure, Payload, profile};

/// Answers above this size are not kept for repetitions.
const REPEATABLE_MAX_BYTES: usize = 64 << 10;

impl<S: Handler> Work<S> {
    /// Answers and acknowledges; tells what went wrong, if anything did.
    pub(super) async fn finish(
        &self,
        shift: &Shift,
        delivery: &Delivery,
        accepted: &Accepted,
        ended: Ended,
        first: Option<First>,
    ) -> Option<Failure> {
        let envelope = &accepted.envelope;
        let (outcome, failure) = match ended {
            Ended::CalledOff => {
                delivery.ack();
                return Some(Failure::new(Code::Cancelled, "the caller called it off"));
            }
            Ended::Answered(Answer::Many(answers)) => {
                let failure = Box::pin(self.answer_many(shift, accepted, answers)).await;
                self.settle(shift, delivery);
                return failure;
            }
            Ended::Answered(Answer::One(payload)) => (Ok(payload), None),
            Ended::Failed(failure) => (Err(failure.clone()), Some(failure)),
        };
        if envelope.reply.is_none() {
            Box::pin(self.finish_task(shift, delivery, accepted, failure.as_ref(), first)).await;
            return failure;
        }
        self.answer(shift, envelope, outcome.as_ref()).await;
        self.settle(shift, delivery);
        let repeatable = match &outcome {
            Ok(payload) => payload.body.len() <= REPEATABLE_MAX_BYTES,
            Err(failure) => !failure.retryable && failure.code != Code::DeadlineExceeded,
        };
        if let Some(first) = first.filter(|_| repeatable) {
            first.done(&outcome);
        }
        failure
    }

    /// Says no without work.
    pub(super) async fn refuse(
        &self,
        shift: &Shift,
        delivery: &Delivery,
        envelope: &Envelope,
        failure: &Failure,
    ) {
        self.answer(shift, envelope, Err(failure)).await;
        self.settle(shift, delivery);
    }

    /// Answers as the first one was answered.
    pub(super) async fn repeat(&self, shift: &Shift, delivery: &Delivery, envelope: &Envelope, slot: &Slot) {
        match slot.outcome().await {
            Some(outcome) => {
                self.answer(shift, envelope, outcome.as_ref()).await;
                self.settle(shift, delivery);
            }
            // It may be tried again, and this one is the next.
            None => delivery.nack(true),
        }
    }

    /// The acknowledgement leaves right behind the answer; alone on its connection it does not wait for company.
    fn settle(&self, shift: &Shift, delivery: &Delivery) {
        delivery.ack();
        if self.in_flight() <= 1 {
            shift.channel.flush();
        }
    }

    async fn answer(&self, shift: &Shift, envelope: &Envelope, outcome: Result<&Payload, &Failure>) {
        if envelope.reply.is_none() {
            return;
        }
        let (properties, body) = dialect::write(envelope, outcome, self.options.error_style);
        if let Err(error) = self.send(shift, envelope, properties, &body, &[]).await {
            tracing::debug!(%error, "an answer could not be sent; the request will be delivered again");
        }
    }

    async fn send(
        &self,
        shift: &Shift,
        envelope: &Envelope,
        mut properties: Properties,
        body: &Bytes,
        headers: &[(&str, FieldValue)],
    ) -> Result<(), ChannelError> {
        let Some(address) = &envelope.reply else { return Ok(()) };
        let table = properties.headers.get_or_insert_with(FieldTable::new);
        if table.get(profile::STATUS).is_none() {
            table.push(profile::STATUS, profile::OK);
        }
        table.push(profile::WORKER, self.name.as_str());
        for (name, value) in headers {
            table.push(*name, value.clone());
        }
        let publish = Publish {
            exchange: &address.exchange,
            routing_key: &address.routing_key,
            // To a direct reply-to address RabbitMQ delivers a mandatory message, and returns it all the same.
            mandatory: !address.is_direct(),
            properties: &properties,
            body,
            flush: Flush::Soon,
        };
        let channel = shift.outside.channel_to(address).await?;
        match channel.publish(&publish).await {
            Err(ChannelError::Encode(error)) => {
                // The handler's answer has no form on the wire; the caller must hear something.
                tracing::error!(%error, "an answer cannot be encoded");
                let failure = Failure::internal(format!("the answer cannot be sent: {error}"));
                let (properties, body) = dialect::write(envelope, Err(&failure), self.options.error_style);
                channel.publish(&Publish { properties: &properties, body: &body, ..publish }).await
            }
            published => published,
        }
    }

    /// One answer after the other, as the caller has room for them.
    async fn answer_many(
        &self,
        shift: &Shift,
        accepted: &Accepted,
        mut answers: AnswerStream,
    ) -> Option<Failure> {
        let envelope = &accepted.envelope;
        if accepted.window.is_none() || envelope.reply.is_none() {
            let failure = Failure::new(
                Code::FailedPrecondition,
                format!("this method answers many times; ask with the header `{}`", profile::STREAM),
            );
            self.answer(shift, envelope, Err(&failure)).await;
            return Some(failure);
        }
        let mut sequence = 0_i64;
        let cancel = &accepted.running.cancel;
        loop {
            let next = async {
                let permit = accepted.running.credit.acquire().await;
                // Credit that was used comes back from the caller only.
                permit.ok()?.forget();
                poll_fn(|cx| answers.as_mut().poll_next(cx)).await
            };
            let next = tokio::select! {
                biased;
                () = cancel.cancelled() => return Some(Failure::new(Code::Cancelled, "the caller called it off")),
                next = within(accepted.deadline, next) => next,
            };
            let last = !matches!(next, Some(Ok(_)));
            let outcome = next.unwrap_or_else(|| Ok(Payload::bytes(Bytes::new())));
            let mut headers = vec![(profile::SEQUENCE, FieldValue::I64(sequence))];
            if let Some(control) = shift.control.as_ref().filter(|_| sequence == 0) {
                headers.push((profile::CREDIT_TO, FieldValue::from(control.queue.as_str())));
            }
            if last {
                headers.push((profile::END, FieldValue::Bool(true)));
            }
            let (properties, body) = dialect::write(envelope, outcome.as_ref(), self.options.error_style);
            let sent = self.send(shift, envelope, properties, &body, &headers).await;
            if let Err(error) = sent {
                return Some(Failure::unavailable(format!("the stream was cut: {error}")));
            }
            if last {
                return outcome.err();
            }
            sequence += 1;
        }
    }

    async fn finish_task(
        &self,
        shift: &Shift,
        delivery: &Delivery,
        accepted: &Accepted,
        failure: Option<&Failure>,
        first: Option<First>,
    ) {
        let Some(failure) = failure else {
            self.settle(shift, delivery);
            if let Some(first) = first {
                first.done(&Ok(Payload::default()));
            }
            return;
        };
        let attempt = accepted.attempt;
        let hopeless = matches!(failure.code, Code::InvalidArgument | Code::Unimplemented);
        let pause = self.options.retries.pause_after(attempt).filter(|_| !hopeless);
        let retried = match pause {
            Some(pause) => {
                let pause = failure.retry_after.unwrap_or(pause);
                retry_later(&shift.steward, delivery, &shift.queue, attempt + 1, pause).await.map(|()| true)
            }
            None => Ok(false),
        };
        let moved = match retried {
            Ok(true) => {
                count(&self.counters.retried);
                Ok(())
            }
            Ok(false) | Err(NotMoved::HeadersTooLarge) => {
                let (service, reason) = (&self.options.service, failure.to_string());
                let parked = park(&shift.steward, delivery, service, &shift.queue, attempt, &reason).await;
                parked.inspect(|()| count(&self.counters.parked))
            }
            Err(error) => Err(error),
        };
        match moved {
            Ok(()) => self.settle(shift, delivery),
            // Unacknowledged: it comes again when the connection does.
            Err(error) => tracing::warn!(%error, "a failed task cannot be moved"),
        }
    }
}

/// The next answer, or the news that there is no more time for it.
async fn within(
    deadline: Option<std::time::Instant>,
    next: impl Future<Output = Option<Result<Payload, Failure>>>,
) -> Option<Result<Payload, Failure>> {
    let Some(deadline) = deadline else { return next.await };
    tokio::time::timeout_at(deadline.into(), next).await.unwrap_or_else(|_| {
        Some(Err(Failure::new(Code::DeadlineExceeded, "the stream did not end before the deadline")))
    })
}
