//! Policies and limits over a power cut, and what a change of policies costs.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::sync::Arc;

use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::policies::{Author, Policy};
use leveret_broker::{
    Batch, Broker, Channel, Connection, ConnectionPort, Delivery, Limits, MessageView, Outlet, UserLimits,
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
    Channel::open(Connection::open(broker.clone(), port, guest, "/", true).unwrap(), 1).unwrap()
}

fn declare(channel: &mut Channel, name: &str, batch: &mut Batch) -> u64 {
    let arguments = FieldTable::default();
    let (passive, durable, exclusive, auto_delete) = (false, true, false, false);
    let queue = DeclareQueue { name, passive, durable, exclusive, auto_delete, arguments };
    channel.declare_queue(queue, batch).unwrap().messages
}

fn publish(channel: &mut Channel, queue: &str, body: &[u8], batch: &mut Batch) {
    let properties = Properties { delivery_mode: Some(2), ..Default::default() }.encode().unwrap();
    let properties = RawProperties::parse(&properties).unwrap();
    let message = MessageView { exchange: "", routing_key: queue, properties, body };
    channel.publish(Publish { message, mandatory: false, immediate: false }, batch).unwrap();
}

fn policy(author: Author, name: &str, settings: &[(&str, i32)]) -> Policy {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), FieldValue::I32(*value)));
    Policy::new(author, name, "^q", "queues", 0, FieldTable(settings.collect())).unwrap()
}

fn leave(broker: &Broker, batch: &mut Batch) {
    broker.finish(batch);
    broker.store().commit().unwrap();
    broker.committed();
}

#[test]
fn what_was_set_is_in_force_after_a_power_cut() {
    let disk = FaultyDisk::new(1);
    let broker = open(&disk);
    let mut batch = Batch::at(1_000);
    declare(&mut channel(&broker), "q", &mut batch);
    broker
        .set_policy("/", Author::User, policy(Author::User, "p", &[("max-length", 5)]), &mut batch)
        .unwrap();
    let operators = policy(Author::Operator, "o", &[("max-length", 3), ("message-ttl", 9)]);
    broker.set_policy("/", Author::Operator, operators, &mut batch).unwrap();
    broker
        .set_policy("/", Author::User, policy(Author::User, "gone", &[("expires", 5)]), &mut batch)
        .unwrap();
    broker.clear_policy("/", Author::User, "gone", &mut batch).unwrap();
    let limits = VHostLimits { max_connections: Some(7), max_queues: Some(1) };
    broker.set_vhost_limits("/", limits).unwrap();
    let user_limits = UserLimits { max_connections: None, max_channels: Some(2) };
    broker.set_user_limits("guest", user_limits).unwrap();
    leave(&broker, &mut batch);
    drop(broker);
    disk.restart(Crash::PowerCut);

    let broker = open(&disk);
    let vhost = broker.vhost("/").unwrap();
    let queue = vhost.queue("q").unwrap();
    let settings = queue.settings();
    assert_eq!((settings.messages, settings.message_ttl_ms, settings.expires_ms), (Some(3), Some(9), None));
    assert_eq!(queue.policies().policy.unwrap().name, "p");
    assert_eq!(queue.policies().operator_policy.unwrap().name, "o");
    assert_eq!(broker.policies("/", Author::User).unwrap().len(), 1);
    assert_eq!((vhost.limits(), broker.user_limits("guest")), (limits, user_limits));
}

#[test]
fn a_preview_tells_what_setting_it_then_drops() {
    let disk = FaultyDisk::new(1);
    let broker = open(&disk);
    let mut batch = Batch::at(1_000);
    let mut channel = channel(&broker);
    for name in ["q1", "q2", "other"] {
        declare(&mut channel, name, &mut batch);
        (0..4).for_each(|_| publish(&mut channel, name, b"body", &mut batch));
    }
    let check = |settings: &[(&str, i32)], expected: (u64, u64), batch: &mut Batch| {
        let wanted = || policy(Author::User, "p", settings);
        let preview = broker.preview_policy("/", Author::User, wanted()).unwrap();
        let effect = broker.set_policy("/", Author::User, wanted(), batch).unwrap();
        assert_eq!(preview, effect, "{settings:?}");
        assert_eq!((effect.queues, effect.messages_dropped), expected, "{settings:?}");
    };
    check(&[("max-length", 3)], (2, 2), &mut batch);
    check(&[("max-length", 3)], (0, 0), &mut batch);
    check(&[("expires", 60_000)], (2, 0), &mut batch);
    check(&[("max-length-bytes", 1)], (2, 6), &mut batch);
    let cleared = broker.preview_clearing("/", Author::User, "p").unwrap();
    assert_eq!(broker.clear_policy("/", Author::User, "p", &mut batch), Ok(cleared));
    leave(&broker, &mut batch);
    assert_eq!(declare(&mut channel, "other", &mut batch), 4);
}

#[test]
fn a_deleted_user_takes_its_limits_along() {
    let broker = open(&FaultyDisk::new(1));
    let limits = UserLimits { max_connections: Some(0), max_channels: None };
    broker.set_user_limits("guest", limits).unwrap();
    assert!(broker.users.delete("guest"));
    broker.save_user("guest").unwrap();
    assert_eq!(broker.user_limits("guest"), UserLimits::default());
    assert!(broker.set_user_limits("guest", limits).is_err());
}
