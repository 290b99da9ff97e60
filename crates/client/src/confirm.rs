//! Publishing so that it is known what became of it.
//!
//! A [`ConfirmChannel`] is a type of its own: a message on any other channel gives nothing that could be mistaken for
//! a confirm. The broker numbers the messages of a channel from 1; the [`Book`] remembers who waits for which:
//!
//! ```text
//!   first_tag ─▶ [ settled | waits | waits, mandatory | settled | waits ] ◀─ next publish
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use hashbrown::DefaultHashBuilder;
use leveret_wire::method::ConfirmSelect;
use leveret_wire::{Method, Properties, RawProperties, ReplyCode, WireError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::channel::Channel;
use crate::connection::Connection;
use crate::error::{By, ChannelError, Closed};
use crate::message::{Publish, Returned};

/// Octets at the beginning of a body by which a returned message is recognised.
const SAMPLE_BYTES: usize = 64;

/// A channel on which the broker says of every message whether it is safe.
#[derive(Clone, Debug)]
pub struct ConfirmChannel {
    channel: Channel,
}

impl ConfirmChannel {
    pub(crate) async fn open(connection: &Connection) -> Result<ConfirmChannel, ChannelError> {
        let channel = Channel::open(connection).await?;
        // From here on, so that nothing published is missed in the count.
        let _only_now = channel.core().confirms.set(Mutex::new(Book::default()));
        channel.ask(&Method::ConfirmSelect(ConfirmSelect { nowait: false }), 11).await?;
        Ok(ConfirmChannel { channel })
    }

    /// The channel, for everything else.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Publishes. Waits only for room in the outbox; the outcome is in the [`Confirm`]. While the broker does not
    /// read publishes ([`Connection::blocked`]) it takes that much longer.
    ///
    /// # Errors
    /// The channel is closed, or the message has no form on the wire. Nothing was sent.
    pub async fn publish(&self, m: &Publish<'_>) -> Result<Confirm, ChannelError> {
        self.channel.room().await;
        self.try_publish(m)
    }

    /// Publishes without ever waiting, however much the outbox holds.
    ///
    /// # Errors
    /// As [`ConfirmChannel::publish`].
    pub fn try_publish(&self, m: &Publish<'_>) -> Result<Confirm, ChannelError> {
        let Some(book) = self.channel.core().confirms.get() else {
            return Err(self.channel.why_closed().into()); // set before the first ConfirmChannel exists
        };
        let (sender, outcome) = oneshot::channel();
        let fingerprint = m.mandatory.then(|| Fingerprint::of(m));
        book.lock().publish(sender, fingerprint, || self.channel.put(m))?;
        self.channel.flush_as(m.flush);
        Ok(Confirm { outcome })
    }
}

/// What becomes of one message. Dropping it means not wanting to know.
#[must_use = "a message is only safe once its confirm says so"]
#[derive(Debug)]
pub struct Confirm {
    outcome: oneshot::Receiver<Result<(), NotConfirmed>>,
}

impl Future for Confirm {
    type Output = Result<(), NotConfirmed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| {
            // Every publish is settled or failed; this one was dropped with the whole process' runtime.
            let lost = || NotConfirmed::Lost { closed: Closed::connection(By::Us, 0, "closed"), sent: true };
            outcome.unwrap_or_else(|_| Err(lost()))
        })
    }
}

/// Why a message is not safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotConfirmed {
    /// The broker refused it (basic.nack), e.g. because a queue is full: it is not in all its queues.
    Refused,
    /// It was mandatory and no queue got it.
    Returned(Box<Returned>),
    /// The channel or connection ended first.
    Lost {
        /// How it ended.
        closed: Closed,
        /// Whether any octet of it had left. If not, it cannot have arrived; else it may have.
        sent: bool,
    },
}

impl fmt::Display for NotConfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotConfirmed::Refused => f.write_str("message refused by the broker (basic.nack)"),
            NotConfirmed::Returned(returned) => write!(f, "message {returned}"),
            NotConfirmed::Lost { closed, sent: true } => {
                write!(f, "message may have arrived or not: {closed}")
            }
            NotConfirmed::Lost { closed, sent: false } => write!(f, "message not sent: {closed}"),
        }
    }
}

impl std::error::Error for NotConfirmed {}

type Outcome = oneshot::Sender<Result<(), NotConfirmed>>;

/// The messages of a channel that the broker has not settled yet, in order.
#[derive(Default)]
pub(crate) struct Book {
    /// Messages before the first of `open`.
    settled: u64,
    open: VecDeque<Entry>,
}

struct Entry {
    /// `None` once it is settled, or if nobody wants to know.
    outcome: Option<Outcome>,
    /// Number of its first octet.
    start: u64,
    /// Of a mandatory message.
    fingerprint: Option<Fingerprint>,
}

/// What a returned message is recognised by: the broker does not say its number. Two messages with the same
/// fingerprint are the same to their receiver too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint(u64);

impl Book {
    fn publish(
        &mut self,
        outcome: Outcome,
        fingerprint: Option<Fingerprint>,
        put: impl FnOnce() -> Result<u64, ChannelError>,
    ) -> Result<(), ChannelError> {
        let start = put()?;
        self.open.push_back(Entry { outcome: Some(outcome), start, fingerprint });
        Ok(())
    }

    /// Counts a message that nobody waits for.
    pub(crate) fn publish_unheard(
        &mut self,
        put: impl FnOnce() -> Result<u64, ChannelError>,
    ) -> Result<(), ChannelError> {
        let start = put()?;
        self.open.push_back(Entry { outcome: None, start, fingerprint: None });
        Ok(())
    }

    /// Whether somebody may be waiting.
    pub(crate) fn anybody_waits(&self) -> bool {
        self.open.iter().any(|entry| entry.outcome.is_some())
    }

    /// The broker settled a message, or all up to it (0: all).
    ///
    /// # Errors
    /// There was no such message.
    pub(crate) fn settle(&mut self, delivery_tag: u64, multiple: bool, ack: bool) -> Result<(), WireError> {
        let outcome = || if ack { Ok(()) } else { Err(NotConfirmed::Refused) };
        let last = self.settled + self.open.len() as u64;
        let upto = if multiple && delivery_tag == 0 { last } else { delivery_tag };
        if upto > last || (upto == 0 && !multiple) {
            let text = format!("message {delivery_tag} was confirmed, but only {last} were published");
            return Err(WireError::new(ReplyCode::PRECONDITION_FAILED, text).with_method(60, 80));
        }
        let Some(count) = upto.checked_sub(self.settled) else { return Ok(()) }; // known already
        if multiple {
            for entry in self.open.drain(..count as usize) {
                entry.settle(outcome());
            }
            self.settled = upto;
        } else if let Some(entry) = count.checked_sub(1).and_then(|at| self.open.get_mut(at as usize)) {
            entry.outcome.take().map(|waits| waits.send(outcome()));
            entry.start = Entry::DONE;
        }
        while self.open.front().is_some_and(|entry| entry.start == Entry::DONE) {
            self.open.pop_front();
            self.settled += 1;
        }
        Ok(())
    }

    /// A message came back. Gives it back if nobody waits for it.
    ///
    /// Messages come back in the order they were published, and before they are settled: so it is the first that
    /// fits.
    pub(crate) fn returned(&mut self, returned: Returned) -> Option<Returned> {
        let fingerprint = Fingerprint::of_returned(&returned);
        let fits = |entry: &&mut Entry| entry.fingerprint == Some(fingerprint) && entry.outcome.is_some();
        let Some(entry) = self.open.iter_mut().find(fits) else { return Some(returned) };
        let outcome = entry.outcome.take()?;
        match outcome.send(Err(NotConfirmed::Returned(Box::new(returned)))) {
            Err(Err(NotConfirmed::Returned(returned))) => Some(*returned),
            _ => None,
        }
    }

    /// The end: `has_left` tells whether the octet with a number was sent.
    pub(crate) fn fail_all(&mut self, closed: &Closed, has_left: impl Fn(u64) -> bool) {
        for entry in self.open.drain(..) {
            let sent = has_left(entry.start);
            entry.settle(Err(NotConfirmed::Lost { closed: closed.clone(), sent }));
            self.settled += 1;
        }
    }
}

impl Entry {
    /// Settled, but not the first of the open ones.
    const DONE: u64 = u64::MAX;

    fn settle(self, outcome: Result<(), NotConfirmed>) {
        if let Some(waits) = self.outcome {
            let _nobody_waits = waits.send(outcome);
        }
    }
}

impl Fingerprint {
    fn of(m: &Publish<'_>) -> Fingerprint {
        let Properties { message_id, correlation_id, .. } = m.properties;
        Fingerprint::new(m.exchange, m.routing_key, message_id.as_deref(), correlation_id.as_deref(), m.body)
    }

    fn of_returned(returned: &Returned) -> Fingerprint {
        let properties: RawProperties<'_> = returned.properties();
        Fingerprint::new(
            &returned.exchange,
            &returned.routing_key,
            properties.message_id(),
            properties.correlation_id(),
            &returned.body,
        )
    }

    /// Only of what a broker passes on unchanged: it may add headers.
    fn new(
        exchange: &str,
        routing_key: &str,
        message_id: Option<&[u8]>,
        correlation_id: Option<&[u8]>,
        body: &[u8],
    ) -> Fingerprint {
        /// One for the process: equal messages have equal fingerprints.
        static HASHES: OnceLock<DefaultHashBuilder> = OnceLock::new();
        let hashes = HASHES.get_or_init(DefaultHashBuilder::default);
        let sample = &body[..body.len().min(SAMPLE_BYTES)];
        Fingerprint(hashes.hash_one((exchange, routing_key, message_id, correlation_id, body.len(), sample)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    type Waiting = Vec<oneshot::Receiver<Result<(), NotConfirmed>>>;

    fn book(bodies: &[&str]) -> (Book, Waiting) {
        let mut book = Book::default();
        let waiting = bodies.iter().enumerate().map(|(at, body)| {
            let (sender, receiver) = oneshot::channel();
            let fingerprint = Some(Fingerprint::of(&Publish::new("x", "k", body.as_bytes())));
            book.publish(sender, fingerprint, || Ok(at as u64 * 100)).unwrap();
            receiver
        });
        let waiting = waiting.collect();
        (book, waiting)
    }

    fn outcomes(waiting: &mut Waiting) -> String {
        let outcome = |receiver: &mut oneshot::Receiver<_>| match receiver.try_recv() {
            Ok(Ok(())) => 'a',
            Ok(Err(NotConfirmed::Refused)) => 'n',
            Ok(Err(NotConfirmed::Returned(_))) => 'r',
            Ok(Err(NotConfirmed::Lost { sent: true, .. })) => 'L',
            Ok(Err(NotConfirmed::Lost { sent: false, .. })) => 'l',
            Err(_) => '.',
        };
        waiting.iter_mut().map(outcome).collect()
    }

    fn check(settles: &[(u64, bool, bool)], expected: &str) {
        let (mut book, mut waiting) = book(&["1", "2", "3", "4", "5"]);
        for &(tag, multiple, ack) in settles {
            book.settle(tag, multiple, ack).unwrap();
        }
        assert_eq!(outcomes(&mut waiting), expected, "{settles:?}");
        let left = book.open.iter().filter(|entry| entry.start != Entry::DONE).count();
        assert_eq!(left, expected.matches('.').count());
    }

    #[test]
    fn confirms_come_in_any_order() {
        check(&[(1, false, true)], "a....");
        check(&[(3, false, true)], "..a..");
        check(&[(3, true, true)], "aaa..");
        check(&[(2, false, false), (3, true, true)], "ana..");
        check(&[(3, false, true), (1, false, true), (2, false, false)], "ana..");
        check(&[(0, true, false)], "nnnnn");
        check(&[(5, true, true), (2, true, false), (3, false, false)], "aaaaa");
        check(&[(2, false, true), (2, false, false)], ".a...");
    }

    #[test]
    fn what_was_not_published_cannot_be_confirmed() {
        for (tag, multiple) in [(0, false), (6, false), (6, true), (u64::MAX, true), (u64::MAX, false)] {
            let (mut book, _waiting) = book(&["1", "2", "3", "4", "5"]);
            assert!(book.settle(tag, multiple, true).is_err(), "{tag} {multiple}");
        }
    }

    fn returned(body: &str, properties: &Properties) -> Returned {
        Returned {
            code: 312,
            text: "NO_ROUTE".to_owned(),
            exchange: "x".to_owned(),
            routing_key: "k".to_owned(),
            properties: properties.encode().unwrap(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn a_returned_message_is_recognised_before_its_ack() {
        let (mut book, mut waiting) = book(&["same", "other", "same"]);
        assert_eq!(book.returned(returned("other", &Properties::default())), None);
        assert_eq!(book.returned(returned("same", &Properties::default())), None);
        book.settle(3, true, true).unwrap();
        assert_eq!(outcomes(&mut waiting), "rra");
        let stranger = returned("stranger", &Properties::default());
        assert_eq!(book.returned(stranger.clone()), Some(stranger));
    }

    #[test]
    fn added_headers_do_not_hide_a_returned_message() {
        let headers = leveret_wire::FieldTable::from([("x-reason", "no worker")]);
        let (mut book, mut waiting) = book(&["a"]);
        let properties = Properties { headers: Some(headers), ..Properties::default() };
        assert_eq!(book.returned(returned("a", &properties)), None);
        assert_eq!(outcomes(&mut waiting), "r");
    }

    #[test]
    fn the_end_says_what_was_sent() {
        let (mut book, mut waiting) = book(&["1", "2", "3"]);
        book.settle(2, false, true).unwrap();
        book.fail_all(&Closed::connection(By::Network, 0, "gone"), |start| start < 200);
        assert_eq!(outcomes(&mut waiting), "Lal");
    }
}
