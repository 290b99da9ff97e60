//! A channel: what its owner has consumed, published and not yet settled.
//!
//! The operations on it live in [`crate::ops`], one file each; this is the state they share.

use std::sync::Arc;

use crate::connection::Connection;
use crate::counts::Path;
use crate::error::Refusal;
use crate::ops::publish::Route;
use crate::ops::tx::Transaction;
use crate::port::{Batch, ChannelPort};
use crate::queue::ConsumerKey;
use crate::quotas::Seat;
use crate::roster::ListedChannel;
use crate::vhost::Queue;

/// An open channel.
#[derive(Debug)]
pub struct Channel {
    /// The connection it belongs to.
    pub connection: Arc<Connection>,
    /// Where queues reach it.
    pub port: Arc<ChannelPort>,
    pub(crate) mode: Mode,
    /// What an empty queue name means on this channel.
    pub(crate) last_queue: Option<Arc<str>>,
    pub(crate) direct_reply: Option<DirectReply>,
    /// Where the last publish went; the next one usually goes there too.
    pub(crate) last_route: Option<Route>,
    /// What counts publishes to the exchange that came last.
    pub(crate) last_path: Option<Arc<Path>>,
    _listed: ListedChannel,
    _seat: Seat,
}

/// How publishes of a channel are answered.
#[derive(Debug, Default)]
pub(crate) enum Mode {
    /// Not at all.
    #[default]
    Plain,
    /// Each is confirmed.
    Confirm,
    /// They wait for `tx.commit`.
    Tx(Transaction),
}

/// A consumer of this channel.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// The queue it consumes.
    pub queue: Arc<Queue>,
    /// Its name there.
    pub key: ConsumerKey,
}

impl Subscription {
    /// A consumer ends with its queue, without its channel being asked.
    pub(crate) fn is_consuming(&self) -> bool {
        self.queue.lock().rule().is_some_and(|state| state.has_consumer(self.key))
    }
}

/// This channel's consumer of `amq.rabbitmq.reply-to`.
#[derive(Debug)]
pub(crate) struct DirectReply {
    /// Its tag.
    pub consumer_tag: Arc<str>,
    /// What requests carry as `reply-to`; nobody can guess or decode it.
    pub address: String,
}

impl Channel {
    /// Opens a channel. Refused with 530 when the user has as many as allowed.
    pub fn open(connection: Arc<Connection>, number: u16) -> Result<Self, Refusal> {
        let seat = connection.channel_seat()?;
        let port =
            ChannelPort::new(number, connection.port.clone(), connection.broker.limits.message_statistics);
        Ok(Self {
            _listed: ListedChannel::new(&connection, &port),
            connection,
            port,
            mode: Mode::Plain,
            last_queue: None,
            direct_reply: None,
            last_route: None,
            last_path: None,
            _seat: seat,
        })
    }

    /// Closes the channel: what it has not settled goes back, in order, and its consumers end (RabbitMQ does
    /// this before it answers `channel.close-ok`). In this order, so that whoever takes over from a single
    /// active consumer gets the oldest message first.
    pub fn close(mut self, batch: &mut Batch) {
        self.port.close();
        let mut unsettled = match std::mem::take(&mut self.mode) {
            Mode::Tx(transaction) => transaction.into_settled(),
            Mode::Plain | Mode::Confirm => Vec::new(),
        };
        unsettled.append(&mut self.port.settle_all());
        self.requeue(unsettled, true, batch);
        for (_, subscription) in self.port.facts.take_subscriptions() {
            self.end_subscription(&subscription, batch);
        }
        self.forget_direct_reply();
    }

    /// The queue that `name` means: an empty name is the last one declared on this channel.
    pub(crate) fn queue_name<'a>(&'a self, name: &'a str) -> Result<&'a str, Refusal> {
        if !name.is_empty() {
            return Ok(name);
        }
        self.last_queue.as_deref().ok_or_else(|| Refusal::not_found("no previously declared queue"))
    }

    /// Finds a queue this connection may use, or refuses (404, 405).
    pub(crate) fn usable_queue(&self, name: &str) -> Result<Arc<Queue>, Refusal> {
        let queue = self.connection.vhost.existing_queue(name)?;
        queue.check_owner(self.connection.port.id)?;
        Ok(queue)
    }
}

/// RabbitMQ strips line ends from names.
pub(crate) fn clean_name(name: &str) -> std::borrow::Cow<'_, str> {
    if name.contains(['\r', '\n']) { name.replace(['\r', '\n'], "").into() } else { name.into() }
}
