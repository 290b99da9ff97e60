//! Deleting a virtual host: all of it goes, over a power cut, and nothing is added to it meanwhile.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::sync::Arc;

use leveret_broker::ops::bind::Bind;
use leveret_broker::ops::exchange::DeclareExchange;
use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::policies::{Author, Policy};
use leveret_broker::users::Permissions;
use leveret_broker::{
    Batch, Broker, Channel, Connection, ConnectionPort, Delivery, Limits, MessageView, Outlet, Refusal,
    VHostLimits, Verdict,
};
use leveret_store::Options;
use leveret_testkit::faulty_disk::{Crash, FaultyDisk};
use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties, ReplyCode};

/// Nobody listens.
struct Deaf;

impl Outlet for Deaf {
    fn deliver(&self, _delivery: &Delivery<'_>) {}
    fn returned(&self, _channel: u16, _code: ReplyCode, _message: &MessageView<'_>) {}
    fn confirm(&self, _channel: u16, _delivery_tag: u64, _multiple: bool, _verdict: Verdict) {}
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

fn open(disk: &FaultyDisk) -> Arc<Broker> {
    Broker::open(Arc::new(disk.clone()), Options::default(), Limits::default()).unwrap().broker
}

fn channel(broker: &Arc<Broker>) -> Channel {
    let port = ConnectionPort::new(broker.next_connection_id(), Box::new(Deaf));
    let guest = broker.users.find("guest").unwrap();
    Channel::open(Connection::open(broker.clone(), port, guest, "v", true).unwrap(), 1).unwrap()
}

fn declare(channel: &mut Channel, batch: &mut Batch) -> Result<u64, Refusal> {
    let arguments = FieldTable::from([("x-message-deduplication", FieldValue::Bool(true))]);
    let (passive, durable, exclusive, auto_delete) = (false, true, false, false);
    let queue = DeclareQueue { name: "q", passive, durable, exclusive, auto_delete, arguments };
    Ok(channel.declare_queue(queue, batch)?.messages)
}

fn publish(channel: &mut Channel, batch: &mut Batch) {
    let headers = FieldTable::from([("x-deduplication-header", FieldValue::from("key"))]);
    let properties = Properties { delivery_mode: Some(2), headers: Some(headers), ..Default::default() };
    let properties = properties.encode().unwrap();
    let properties = RawProperties::parse(&properties).unwrap();
    let message = MessageView { exchange: "x", routing_key: "k", properties, body: b"m" };
    channel.publish(Publish { message, mandatory: false, immediate: false }, batch).unwrap();
}

/// The virtual host `v` with a bit of everything.
fn furnish(broker: &Arc<Broker>, batch: &mut Batch) -> Channel {
    broker.add_vhost("v").unwrap();
    broker.users.set_permissions("guest", "v", Permissions::all()).unwrap();
    broker.save_user("guest").unwrap();
    let mut channel = channel(broker);
    let (passive, durable, auto_delete, internal) = (false, true, false, false);
    let arguments = FieldTable::new();
    let declare_exchange =
        DeclareExchange { name: "x", kind: "topic", passive, durable, auto_delete, internal, arguments };
    channel.connection.declare_exchange(declare_exchange).unwrap();
    declare(&mut channel, batch).unwrap();
    let arguments = FieldTable::new();
    channel.bind_queue(Bind { source: "x", destination: "q", routing_key: "k", arguments }, batch).unwrap();
    publish(&mut channel, batch);
    let settings = FieldTable::from([("max-length", FieldValue::I32(5))]);
    let policy = Policy::new(Author::User, "p", "", "all", 0, settings).unwrap();
    broker.set_policy("v", Author::User, policy, batch).unwrap();
    broker.set_vhost_limits("v", VHostLimits { max_connections: Some(9), max_queues: None }).unwrap();
    leave(broker, batch);
    channel
}

fn leave(broker: &Broker, batch: &mut Batch) {
    broker.finish(batch);
    broker.store().commit().unwrap();
    broker.committed();
}

#[test]
fn nothing_of_a_deleted_virtual_host_comes_back() {
    let disk = FaultyDisk::new(1);
    let broker = open(&disk);
    let mut batch = Batch::at(1_000);
    let mut channel = furnish(&broker, &mut batch);
    broker.delete_vhost("v", &mut batch).unwrap();
    assert!(broker.delete_vhost("v", &mut batch).is_err(), "there is none any more");
    broker.users.set_permissions("guest", "v", Permissions::all()).unwrap();
    assert_eq!(declare(&mut channel, &mut batch).unwrap_err().explanation, "vhost v not found");
    broker.users.clear_permissions("guest", "v").unwrap();
    let ending = channel.connection.port.ending().unwrap().to_string();
    assert_eq!(ending, "CONNECTION_FORCED - vhost 'v' is deleted");
    leave(&broker, &mut batch);
    drop((channel, broker));
    disk.restart(Crash::PowerCut);

    let broker = open(&disk);
    assert!(broker.vhost("v").is_none());
    assert!(broker.users.find("guest").unwrap().permissions("v").is_none());
    let mut channel = furnish(&broker, &mut batch);
    let vhost = broker.vhost("v").unwrap();
    assert_eq!(declare(&mut channel, &mut batch), Ok(1), "the key of the first life is forgotten");
    assert_eq!(vhost.exchange("x").unwrap().bindings.read().len(), 1);
}

#[test]
fn a_deletion_that_was_not_on_the_disk_has_not_happened() {
    let disk = FaultyDisk::new(1);
    let broker = open(&disk);
    let mut batch = Batch::at(1_000);
    drop(furnish(&broker, &mut batch));
    broker.delete_vhost("v", &mut batch).unwrap();
    drop(broker);
    disk.restart(Crash::PowerCut);

    let broker = open(&disk);
    assert_eq!(declare(&mut channel(&broker), &mut batch), Ok(1));
    let vhost = broker.vhost("v").unwrap();
    assert_eq!(vhost.limits().max_connections, Some(9));
    assert_eq!(vhost.exchange("x").unwrap().bindings.read().len(), 1);
    assert_eq!(broker.policies("v", Author::User).unwrap().len(), 1);
}
