//! A broker and a client in one process, without sockets and threads.

use std::sync::Arc;

use leveret_broker::ops::bind::Bind;
use leveret_broker::ops::exchange::DeclareExchange;
use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::{
    Batch, Broker, Channel, Connection, ConnectionPort, Delivery, Limits, MessageView, Outlet,
};
use leveret_broker::{Opened, Verdict};
use leveret_store::{MemDisk, Options};
use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties, ReplyCode};
use parking_lot::Mutex;

/// The bodies that one queue holds, oldest first.
pub(crate) type Bodies = Vec<String>;

/// The verdicts that a publisher hears.
#[derive(Clone, Default)]
pub(crate) struct Heard(pub(crate) Arc<Mutex<Vec<(u64, bool, Verdict)>>>);

impl Outlet for Heard {
    fn deliver(&self, _delivery: &Delivery<'_>) {}
    fn returned(&self, _channel: u16, _code: ReplyCode, _message: &MessageView<'_>) {}
    fn confirm(&self, _channel: u16, delivery_tag: u64, multiple: bool, verdict: Verdict) {
        self.0.lock().push((delivery_tag, multiple, verdict));
    }
    fn consumer_cancelled(&self, _channel: u16, _consumer_tag: &str) {}
    fn has_room(&self) -> bool {
        true
    }
    fn flush(&self) {}
    fn takes_cancel(&self) -> bool {
        true
    }
    fn wake(&self) {}
}

/// A broker and a client of it. Dropping it without a commit is a crash.
pub(crate) struct Life {
    pub(crate) broker: Arc<Broker>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) channel: Channel,
    pub(crate) heard: Heard,
    pub(crate) now_ms: u64,
}

impl Life {
    /// Opens what is on the disk.
    pub(crate) fn begin(disk: &MemDisk) -> Self {
        let options = Options { log_file_bytes: 16 << 10, ..Options::default() };
        let Opened { broker, .. } = Broker::open(Arc::new(disk.clone()), options, Limits::default()).unwrap();
        let mut life = Self::connect(broker);
        life.channel.select_confirms().unwrap();
        life
    }

    /// Another client of the same broker, without confirms.
    pub(crate) fn connect(broker: Arc<Broker>) -> Self {
        let heard = Heard::default();
        let port = ConnectionPort::new(broker.next_connection_id(), Box::new(heard.clone()));
        let user = broker.users.find("guest").unwrap();
        let connection = Connection::open(broker.clone(), port, user, "/", true).unwrap();
        let channel = Channel::open(connection.clone(), 1).unwrap();
        Self { broker, connection, channel, heard, now_ms: 1_000_000 }
    }

    pub(crate) fn commit(&self) {
        self.broker.store().commit().unwrap();
        self.broker.committed();
    }

    /// Everything so far moves from the log to segments and the checkpoint.
    pub(crate) fn settle(&self) {
        self.broker.store().rotate();
        self.commit();
        while self.broker.settle_oldest().unwrap() {}
    }

    pub(crate) fn exchange(&self, name: &str, kind: &str, arguments: &[(&str, FieldValue)]) {
        let declare = DeclareExchange {
            name,
            kind,
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: table(arguments),
        };
        self.connection.declare_exchange(declare).unwrap();
    }

    pub(crate) fn queue(&mut self, name: &str, arguments: &[(&str, FieldValue)]) {
        let declare = DeclareQueue {
            name,
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: table(arguments),
        };
        self.channel.declare_queue(declare, &mut Batch::at(self.now_ms)).unwrap();
    }

    pub(crate) fn bind(&self, source: &str, destination: &str, routing_key: &str) {
        let bind = Bind { source, destination, routing_key, arguments: FieldTable::new() };
        let mut batch = Batch::at(self.now_ms);
        self.channel.bind_queue(bind, &mut batch).unwrap();
        self.broker.finish(&mut batch);
    }

    pub(crate) fn publish(
        &mut self,
        exchange: &str,
        routing_key: &str,
        key: Option<&str>,
        mode: u8,
        body: &str,
    ) {
        let headers = key.map(|key| FieldTable::from([("x-deduplication-header", key)]));
        let properties = Properties { headers, delivery_mode: Some(mode), ..Default::default() };
        let properties = properties.encode().unwrap();
        let message = MessageView {
            exchange,
            routing_key,
            properties: RawProperties::parse(&properties).unwrap(),
            body: body.as_bytes(),
        };
        let mut batch = Batch::at(self.now_ms);
        self.channel.publish(Publish { message, mandatory: false, immediate: false }, &mut batch).unwrap();
        self.broker.finish(&mut batch);
    }

    pub(crate) fn drain(&mut self, queue: &str) -> Bodies {
        let mut bodies = Vec::new();
        let mut batch = Batch::at(self.now_ms);
        while let Some(got) = self.channel.get(queue, true, &mut batch).unwrap() {
            bodies.push(String::from_utf8(got.message.view().body.to_vec()).unwrap());
        }
        self.broker.finish(&mut batch);
        bodies
    }
}

fn table(arguments: &[(&str, FieldValue)]) -> FieldTable {
    FieldTable(arguments.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

/// The argument that switches deduplication on.
pub(crate) fn on() -> (&'static str, FieldValue) {
    ("x-message-deduplication", FieldValue::Bool(true))
}

/// Delivery mode of messages that outlive the process.
pub(crate) const KEPT: u8 = 2;
/// Delivery mode of messages that do not.
pub(crate) const TRANSIENT: u8 = 1;
