//! The channels of a connection: which numbers are in use, who waits for answers on them, who consumes.
//!
//! ```text
//!   free ──open──▶ Open ──channel.close received (answered at once)──▶ free
//!                   └─close sent─▶ Closing ──channel.close-ok──▶ free
//! ```
//!
//! Answers on a channel come in the order of the questions, so those who wait are a queue. Whoever stops waiting
//! leaves a place in it, or the next answer would go to the wrong one. Only basic.consume-ok and basic.cancel-ok may
//! be late: RabbitMQ's queues send them, not its channels. They are known by their consumer tags, which are therefore
//! always chosen here.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_wire::{Assembler, Method, WireError};

use super::{Answer, Consumers, Event, Head, Tokens, unexpected};
use crate::error::Closed;
use crate::topology::QueueDeclared;

/// What the broker has to answer.
#[derive(Debug)]
pub(crate) enum Expects<C> {
    /// The method with these class and method ids.
    Method(u16, u16),
    /// basic.get-ok or basic.get-empty.
    Get,
    /// basic.consume-ok for this tag: from then on there is a consumer.
    Consume(Arc<str>, C),
    /// basic.cancel-ok for this tag: from then on there is none.
    Cancel(Arc<str>),
}

/// There is no channel to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All numbers are in use.
    TooMany(u16),
    /// The channel is not open (any more).
    NotOpen,
}

/// What is left of a channel, for the caller to tell everybody.
pub(crate) struct Ended<T: Tokens> {
    pub(crate) channel: T::Channel,
    pub(crate) closed: Closed,
    /// Waited for an answer.
    pub(crate) waiters: Vec<T::Waiter>,
    /// Waited for the channel to be closed.
    pub(crate) closer: Option<T::Waiter>,
    pub(crate) consumers: Vec<T::Consumer>,
    /// Would be consumers, if the broker had answered.
    pub(crate) candidates: Vec<T::Consumer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Closing,
}

/// A channel in use.
pub(super) struct Open<T: Tokens> {
    pub(super) token: T::Channel,
    pub(super) phase: Phase,
    pub(super) confirms: bool,
    pub(super) consumers: Consumers<T::Consumer>,
    pub(super) content: Option<Assembler<Head<T::Consumer>>>,
    waiting: VecDeque<(Expects<T::Consumer>, T::Waiter)>,
    closer: Option<T::Waiter>,
}

/// All channels of a connection, by number − 1.
pub(crate) struct Channels<T: Tokens> {
    all: Vec<Option<Box<Open<T>>>>,
    channel_max: u16,
}

impl<T: Tokens> Channels<T> {
    pub(super) fn new(channel_max: u16) -> Channels<T> {
        let channel_max = if channel_max == 0 { u16::MAX } else { channel_max };
        Channels { all: Vec::new(), channel_max }
    }

    /// Takes the lowest free number.
    pub(crate) fn open(&mut self, token: impl FnOnce(u16) -> T::Channel) -> Result<u16, Refused> {
        let free = self.all.iter().position(Option::is_none).unwrap_or(self.all.len());
        if free >= usize::from(self.channel_max) {
            return Err(Refused::TooMany(self.channel_max));
        }
        let number = free as u16 + 1;
        let open = Box::new(Open {
            token: token(number),
            phase: Phase::Open,
            confirms: false,
            consumers: Consumers::new(),
            content: None,
            waiting: VecDeque::new(),
            closer: None,
        });
        match self.all.get_mut(free) {
            Some(slot) => *slot = Some(open),
            None => self.all.push(Some(open)),
        }
        Ok(number)
    }

    /// Somebody waits for an answer, after those who already do.
    pub(crate) fn expect(
        &mut self,
        number: u16,
        expects: Expects<T::Consumer>,
        waiter: T::Waiter,
    ) -> Result<(), (Refused, T::Waiter)> {
        match self.find(number) {
            Some(open) if open.phase == Phase::Open => {
                open.waiting.push_back((expects, waiter));
                Ok(())
            }
            _ => Err((Refused::NotOpen, waiter)),
        }
    }

    /// channel.close is about to be sent.
    pub(crate) fn close(&mut self, number: u16, closer: T::Waiter) -> Result<(), (Refused, T::Waiter)> {
        match self.find(number) {
            Some(open) if open.phase == Phase::Open => {
                open.phase = Phase::Closing;
                open.closer = Some(closer);
                Ok(())
            }
            _ => Err((Refused::NotOpen, closer)),
        }
    }

    /// Whether anybody waits for an answer.
    pub(crate) fn anybody_waits(&self) -> bool {
        self.all.iter().flatten().any(|open| !open.waiting.is_empty() || open.closer.is_some())
    }

    /// The tokens of all channels in use.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = &T::Channel> {
        self.all.iter().flatten().map(|open| &open.token)
    }

    /// Ends all of them.
    pub(crate) fn abandon(&mut self, closed: &Closed) -> Vec<Ended<T>> {
        let numbers = 1..=self.all.len() as u16;
        numbers.filter_map(|number| self.end(number, closed.clone())).collect()
    }

    #[inline]
    pub(super) fn find(&mut self, number: u16) -> Option<&mut Open<T>> {
        self.all.get_mut(usize::from(number).checked_sub(1)?)?.as_deref_mut()
    }

    pub(super) fn end(&mut self, number: u16, closed: Closed) -> Option<Ended<T>> {
        let open = self.all.get_mut(usize::from(number).checked_sub(1)?)?.take()?;
        let (mut waiters, mut candidates) = (Vec::new(), Vec::new());
        for (expects, waiter) in open.waiting {
            waiters.push(waiter);
            if let Expects::Consume(_, consumer) = expects {
                candidates.push(consumer);
            }
        }
        let consumers = open.consumers.into_values().collect();
        Some(Ended { channel: open.token, closed, waiters, closer: open.closer, consumers, candidates })
    }

    /// A method that must be an answer.
    pub(super) fn answer(&mut self, number: u16, method: &Method<'_>) -> Result<Option<Event<T>>, WireError> {
        let open = self.find(number).ok_or_else(|| unexpected(method))?;
        let (expects, waiter) = open.take_expected(method).ok_or_else(|| unexpected(method))?;
        let mut dropped = None;
        let answer = match expects {
            Expects::Consume(tag, consumer) => {
                dropped = open.consumers.insert(tag.clone(), consumer);
                Answer::Consuming(tag)
            }
            Expects::Cancel(tag) => {
                dropped = open.consumers.remove(&tag);
                Answer::Done
            }
            Expects::Get => Answer::Got(None),
            Expects::Method(..) => {
                open.confirms |= matches!(method, Method::ConfirmSelectOk(_));
                simple_answer(method)
            }
        };
        let channel = open.token.clone();
        Ok(Some(Event::Answered { channel, waiter, answer, dropped }))
    }
}

impl<T: Tokens> Open<T> {
    pub(super) fn expects_get(&self) -> bool {
        let first = self.waiting.iter().find(|(expects, _)| !expects.may_be_late());
        matches!(first, Some((Expects::Get, _)))
    }

    /// Takes who waits for a message, if that is who is next.
    pub(super) fn take_getter(&mut self) -> Option<T::Waiter> {
        let at = self.waiting.iter().position(|(expects, _)| !expects.may_be_late())?;
        self.waiting.remove(at).map(|(_, waiter)| waiter)
    }

    /// Takes who waits for this method, if it is the one that has to come.
    fn take_expected(&mut self, method: &Method<'_>) -> Option<(Expects<T::Consumer>, T::Waiter)> {
        let is_next = |(expects, _): &(Expects<T::Consumer>, T::Waiter)| match method {
            Method::BasicConsumeOk(ok) => {
                matches!(expects, Expects::Consume(tag, _) if **tag == *ok.consumer_tag)
            }
            Method::BasicCancelOk(ok) => matches!(expects, Expects::Cancel(tag) if **tag == *ok.consumer_tag),
            _ => !expects.may_be_late(),
        };
        let at = self.waiting.iter().position(is_next)?;
        let fits = match &self.waiting[at].0 {
            Expects::Method(class_id, method_id) => {
                (*class_id, *method_id) == (method.class_id(), method.method_id())
            }
            Expects::Get => matches!(method, Method::BasicGetEmpty(_)),
            Expects::Consume(..) | Expects::Cancel(_) => true,
        };
        if fits { self.waiting.remove(at) } else { None }
    }
}

impl<C> Expects<C> {
    fn may_be_late(&self) -> bool {
        matches!(self, Expects::Consume(..) | Expects::Cancel(_))
    }
}

fn simple_answer(method: &Method<'_>) -> Answer {
    match method {
        Method::QueueDeclareOk(ok) => Answer::Queue(QueueDeclared {
            name: ok.queue.to_owned(),
            messages: ok.message_count,
            consumers: ok.consumer_count,
        }),
        Method::QueueDeleteOk(ok) => Answer::Count(ok.message_count),
        Method::QueuePurgeOk(ok) => Answer::Count(ok.message_count),
        _ => Answer::Done,
    }
}
