//! Clients that publish and wait for their confirms, and know when a confirm comes too early.

use std::sync::Arc;

use leveret_broker::ops::publish::Publish;
use leveret_broker::{Batch, Channel, Delivery, MessageView, Outlet, Verdict};
use leveret_wire::{RawProperties, ReplyCode};
use parking_lot::{Condvar, Mutex};

use crate::disk::Flushed;
use crate::house::House;
use crate::marks::mark;

/// Delivery mode 2 and nothing else.
const PERSISTENT: &[u8] = &[0x10, 0x00, 2];

fn publish(channel: &mut Channel, queue: &str, body: &[u8], batch: &mut Batch) -> bool {
    let properties = RawProperties::from_validated(PERSISTENT);
    let message = MessageView { exchange: "", routing_key: queue, properties, body };
    channel.publish(Publish { message, mandatory: false, immediate: false }, batch).is_ok()
}

/// A client whose numbers begin with `first`, on a channel in confirm mode.
pub struct Publisher {
    house: Arc<House>,
    ear: Arc<Ear>,
    channel: Channel,
    queue: &'static str,
    published: u32,
    first: u32,
    body_bytes: usize,
}

impl Publisher {
    /// Connects, declares its queue, and asks for confirms.
    pub fn connect(house: &Arc<House>, queue: &'static str, first: u32) -> Self {
        let mut publisher = Self::without_confirms(house, queue, true, first);
        publisher.channel.select_confirms().expect("a new channel has no mode");
        publisher
    }

    /// The same without confirms.
    pub fn without_confirms(house: &Arc<House>, queue: &'static str, durable: bool, first: u32) -> Self {
        let ear = Arc::new(Ear {
            flushed: house.flushed.clone(),
            first,
            state: Mutex::default(),
            news: Condvar::new(),
        });
        let mut channel = house.channel(house.port(Box::new(EarOutlet(ear.clone()))));
        let mut batch = Batch::default();
        house.declare(&mut channel, queue, durable, &mut batch);
        house.work.finish(&mut batch);
        Self { house: house.clone(), ear, channel, queue, published: 0, first, body_bytes: 0 }
    }

    /// Publishes so many messages as one batch; whether the broker took them.
    pub fn publish(&mut self, count: u32) -> bool {
        let mut batch = Batch::default();
        let taken = (0..count).all(|_| {
            let mut body = mark(self.first + self.published).into_bytes();
            body.resize(body.len().max(self.body_bytes), 0);
            self.published += 1;
            publish(&mut self.channel, self.queue, &body, &mut batch)
        });
        self.house.work.finish(&mut batch);
        taken
    }

    /// Publishes bodies of so many octets.
    pub fn with_bodies_of(self, body_bytes: usize) -> Self {
        Self { body_bytes, ..self }
    }

    /// Its channel.
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// How many it has published.
    pub fn published(&self) -> u32 {
        self.published
    }

    /// Waits until all are confirmed, or the disk has failed.
    pub fn await_confirms(&self) {
        let mut heard = self.ear.state.lock();
        while heard.confirmed < self.published && !heard.gave_up {
            self.ear.news.wait(&mut heard);
        }
    }

    /// What has to be called when the disk has failed.
    pub fn giving_up(&self) -> impl Fn() + Send + 'static {
        let ear = self.ear.clone();
        move || {
            ear.state.lock().gave_up = true;
            ear.news.notify_all();
        }
    }
}

/// What a publisher hears, and whether it may.
struct Ear {
    flushed: Arc<Flushed>,
    first: u32,
    state: Mutex<Heard>,
    news: Condvar,
}

#[derive(Default)]
struct Heard {
    /// Appended to the connection's outbox.
    appended: u32,
    /// Left with a flush.
    confirmed: u32,
    gave_up: bool,
}

struct EarOutlet(Arc<Ear>);

impl Outlet for EarOutlet {
    fn confirm(&self, _channel: u16, delivery_tag: u64, multiple: bool, verdict: Verdict) {
        assert_eq!(verdict, Verdict::Ack, "nothing was wrong with message {delivery_tag}");
        let (before, tag) = (self.0.state.lock().appended, delivery_tag as u32);
        assert!(before < tag, "{tag} was confirmed twice");
        assert!(multiple || before + 1 == tag, "{tag} was confirmed before those ahead of it");
        for tag in before + 1..=tag {
            let number = self.0.first + tag - 1;
            assert!(self.0.flushed.has(number), "P1: message {number} was confirmed before its flush");
        }
        self.0.state.lock().appended = tag;
    }

    fn flush(&self) {
        let mut heard = self.0.state.lock();
        heard.confirmed = heard.appended;
        self.0.news.notify_all();
    }

    fn deliver(&self, _delivery: &Delivery<'_>) {}

    fn returned(&self, _channel: u16, _code: ReplyCode, _message: &MessageView<'_>) {}

    fn consumer_cancelled(&self, _channel: u16, _consumer_tag: &str) {}

    fn has_room(&self) -> bool {
        true
    }

    fn takes_cancel(&self) -> bool {
        true
    }

    fn wake(&self) {}
}
