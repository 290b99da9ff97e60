//! Clients without a socket: what the broker hands to an outlet becomes a list of events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leveret_broker::{Broker, Channel, Connection, ConnectionPort, Delivery, MessageView, Outlet, Verdict};
use leveret_wire::ReplyCode;
use parking_lot::Mutex;

use super::model::ChannelId;

/// How many events a client takes before it has to be read.
const ROOM: usize = 12;

/// A message that came to a consumer.
#[derive(Clone, Debug)]
pub(super) struct Delivered {
    pub(super) channel: ChannelId,
    pub(super) tag: u64,
    pub(super) consumer: String,
    pub(super) redelivered: bool,
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) properties: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// What a client hears.
#[derive(Debug)]
pub(super) enum Event {
    Delivered(Delivered),
    /// A verdict on publishes.
    Confirmed {
        tag: u64,
        multiple: bool,
        verdict: Verdict,
    },
    /// A publish came back; its body.
    Returned(Vec<u8>),
    Cancelled(String),
}

/// Numbers the events of all connections in the order in which they happen.
pub(super) type Sequence = Arc<AtomicU64>;

/// The events of one connection since they were last taken, with their numbers.
#[derive(Clone)]
pub(super) struct Inbox {
    connection: usize,
    sequence: Sequence,
    events: Arc<Mutex<Vec<(u64, Event)>>>,
    paused: Arc<AtomicBool>,
}

impl Inbox {
    fn new(connection: usize, sequence: Sequence) -> Self {
        Self { connection, sequence, events: Arc::default(), paused: Arc::default() }
    }

    pub(super) fn take(&self) -> Vec<(u64, Event)> {
        std::mem::take(&mut *self.events.lock())
    }

    fn push(&self, event: Event) {
        self.events.lock().push((self.sequence.fetch_add(1, Ordering::Relaxed), event));
    }

    /// A client that reads nothing more, or goes on reading.
    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }
}

impl Outlet for Inbox {
    fn deliver(&self, delivery: &Delivery<'_>) {
        self.push(Event::Delivered(Delivered {
            channel: (self.connection, delivery.channel),
            tag: delivery.delivery_tag,
            consumer: delivery.consumer_tag.to_owned(),
            redelivered: delivery.redelivered,
            exchange: delivery.message.exchange.to_owned(),
            key: delivery.message.routing_key.to_owned(),
            properties: delivery.message.properties.as_bytes().to_vec(),
            body: delivery.message.body.to_vec(),
        }));
    }

    fn returned(&self, _channel: u16, _code: ReplyCode, message: &MessageView<'_>) {
        self.push(Event::Returned(message.body.to_vec()));
    }

    fn confirm(&self, _channel: u16, delivery_tag: u64, multiple: bool, verdict: Verdict) {
        self.push(Event::Confirmed { tag: delivery_tag, multiple, verdict });
    }

    fn consumer_cancelled(&self, _channel: u16, consumer_tag: &str) {
        self.push(Event::Cancelled(consumer_tag.to_owned()));
    }

    fn has_room(&self) -> bool {
        !self.is_paused() && self.events.lock().len() < ROOM
    }

    fn flush(&self) {}

    fn takes_cancel(&self) -> bool {
        true
    }

    /// Stalled consumers are resumed at random moments.
    fn wake(&self) {}
}

/// A connection with its channels.
pub(super) struct Client {
    pub(super) connection: Arc<Connection>,
    pub(super) channels: BTreeMap<u16, Channel>,
    pub(super) inbox: Inbox,
    number: usize,
}

impl Client {
    /// The connection with this number.
    pub(super) fn connect(broker: &Arc<Broker>, number: usize, sequence: &Sequence) -> Result<Self, String> {
        let inbox = Inbox::new(number, sequence.clone());
        let port = ConnectionPort::new(broker.next_connection_id(), Box::new(inbox.clone()));
        let user = broker.users.find("guest").ok_or("P2: guest is gone")?;
        let connection =
            Connection::open(broker.clone(), port, user, "/", true).map_err(|r| r.to_string())?;
        Ok(Self { connection, channels: BTreeMap::new(), inbox, number })
    }

    /// Opens a channel.
    pub(super) fn open(&mut self, channel: u16) -> ChannelId {
        let opened = Channel::open(self.connection.clone(), channel);
        self.channels.insert(channel, opened.expect("no program limits how many channels guest has"));
        (self.number, channel)
    }
}
