//! What is counted, against what RabbitMQ 3.10's management API reports for the same script (taken once, with pika and
//! `rates_mode` basic). Where we differ it says so.

use leveret_broker::counts::{ExchangeCounts, MessageCounts};
use leveret_broker::ops::bind::Bind;
use leveret_broker::ops::consume::Consume;
use leveret_broker::ops::exchange::DeclareExchange;
use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::ops::settle::Settlement;
use leveret_broker::queue::DeathReason;
use leveret_broker::roster::{ChannelMode, ChannelRecord};
use leveret_broker::settings::QueueKind;
use leveret_broker::{Batch, Broker, Channel, Limits, MessageView};
use leveret_store::MemDisk;
use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties};

use crate::support::{KEPT, Life, TRANSIENT};

const BATCH_MS: u64 = 1_000_000;

/// A client with eight channels.
struct Script {
    life: Life,
    channels: Vec<Channel>,
}

impl Script {
    fn begin(disk: &MemDisk, limits: Limits) -> Self {
        let opened = Broker::open(std::sync::Arc::new(disk.clone()), Default::default(), limits).unwrap();
        let life = Life::connect(opened.broker);
        let channels = (2..=9).map(|number| Channel::open(life.connection.clone(), number).unwrap());
        Self { channels: channels.collect(), life }
    }

    fn batch(&self, work: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::at(BATCH_MS);
        work(&mut batch);
        self.life.broker.finish(&mut batch);
    }

    fn declare(&mut self, name: &str, passive: bool) {
        let declare = DeclareQueue {
            name,
            passive,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::new(),
        };
        self.life.channel.declare_queue(declare, &mut Batch::at(BATCH_MS)).unwrap();
    }

    fn publish(&mut self, channel: usize, exchange: &str, key: &str, size: usize, mandatory: bool) {
        self.publish_with(channel, &Properties::default(), exchange, key, size, mandatory);
    }

    fn publish_with(
        &mut self,
        channel: usize,
        properties: &Properties,
        exchange: &str,
        key: &str,
        size: usize,
        mandatory: bool,
    ) {
        let properties = properties.encode().unwrap();
        let properties = RawProperties::parse(&properties).unwrap();
        let body = vec![b'x'; size];
        let message = MessageView { exchange, routing_key: key, properties, body: &body };
        let publish = Publish { message, mandatory, immediate: false };
        let mut batch = Batch::at(BATCH_MS);
        self.channels[channel - 1].publish(publish, &mut batch).unwrap();
        self.life.broker.finish(&mut batch);
    }

    fn get(&mut self, channel: usize, queue: &str, no_ack: bool) -> Option<u64> {
        let mut batch = Batch::at(BATCH_MS);
        let got = self.channels[channel - 1].get(queue, no_ack, &mut batch).unwrap();
        self.life.broker.finish(&mut batch);
        got.map(|got| got.delivery_tag)
    }

    fn settle(&mut self, channel: usize, tag: u64, multiple: bool, settlement: Settlement) {
        let mut batch = Batch::at(BATCH_MS);
        self.channels[channel - 1].settle(tag, multiple, settlement, &mut batch).unwrap();
        self.life.broker.finish(&mut batch);
    }

    fn consume(&mut self, channel: usize, queue: &str, no_ack: bool) {
        let consume =
            Consume { queue, consumer_tag: "tag", no_ack, exclusive: false, arguments: FieldTable::new() };
        let tag = self.channels[channel - 1].consume(consume, BATCH_MS).unwrap();
        self.batch(|batch| self.channels[channel - 1].start_deliveries(&tag, batch).unwrap());
    }

    fn topology(&mut self) {
        for (queue, passive) in [("q1", false), ("q1", false), ("q1", true), ("q2", false), ("q3", false)] {
            self.declare(queue, passive);
        }
        let exchange = DeclareExchange {
            name: "x",
            kind: "topic",
            passive: false,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::new(),
        };
        self.life.connection.declare_exchange(exchange).unwrap();
        for (destination, routing_key) in [("q1", "a.#"), ("q2", "a.b")] {
            let bind = Bind { source: "x", destination, routing_key, arguments: FieldTable::new() };
            self.life.channel.bind_queue(bind, &mut Batch::at(BATCH_MS)).unwrap();
        }
    }

    fn publishes(&mut self) {
        (0..3).for_each(|_| self.publish(1, "x", "a.b", 3, false));
        (0..2).for_each(|_| self.publish(1, "x", "nowhere", 3, false));
        self.publish(1, "x", "nowhere", 3, true);
        (0..2).for_each(|_| self.publish(1, "", "q1", 200, false));
        self.channels[1].select_confirms().unwrap();
        (0..4).for_each(|_| self.publish(2, "", "q2", 3, false));
        self.publish(2, "", "nowhere", 3, true);
    }

    fn gets(&mut self) {
        let tag = self.get(3, "q1", false).unwrap();
        self.settle(3, tag, false, Settlement::Ack);
        self.get(3, "q1", true).unwrap();
        assert_eq!((self.get(3, "q3", false), self.get(3, "q3", true)), (None, None));
        let tag = self.get(3, "q1", false).unwrap();
        self.settle(3, tag, false, Settlement::Requeue { failed: false });
        let tag = self.get(3, "q1", false).unwrap();
        self.settle(3, tag, false, Settlement::Discard);
    }

    fn consumers(&mut self) {
        self.channels[3].limit_prefetch(0, 100, false, &mut Batch::at(BATCH_MS)).unwrap();
        self.consume(4, "q2", false);
        self.settle(4, 3, true, Settlement::Ack);
        self.settle(4, 4, false, Settlement::Requeue { failed: false });
        self.settle(4, 5, false, Settlement::Discard);
        self.consume(5, "q1", true);
    }

    fn transaction(&mut self) {
        self.channels[5].select_tx().unwrap();
        (0..2).for_each(|_| self.publish(6, "", "q3", 3, false));
        self.channels[5].rollback().unwrap();
        (0..3).for_each(|_| self.publish(6, "", "q3", 3, false));
        let mut batch = Batch::at(BATCH_MS);
        self.channels[5].commit(&mut batch).unwrap();
        self.life.broker.finish(&mut batch);
        let tag = self.get(6, "q3", false).unwrap();
        self.settle(6, tag, false, Settlement::Ack);
        self.publish(6, "", "q3", 3, false);
    }

    fn call(&mut self) {
        self.consume(7, "amq.rabbitmq.reply-to", true);
        let reply_to = Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..Default::default() };
        self.publish_with(7, &reply_to, "", "q3", 3, false);
        let mut batch = Batch::at(BATCH_MS);
        let address = loop {
            let got = self.channels[7].get("q3", true, &mut batch).unwrap().unwrap();
            if let Some(address) = got.message.view().properties.reply_to() {
                break String::from_utf8(address.to_vec()).unwrap();
            }
        };
        self.life.broker.finish(&mut batch);
        self.publish(8, "", &address, 3, false);
    }

    fn run(&mut self) {
        self.topology();
        self.publishes();
        self.gets();
        self.consumers();
        self.transaction();
        self.call();
    }

    fn records(&self) -> Vec<ChannelRecord> {
        self.life.connection.record().channels()
    }
}

/// In the order of RabbitMQ's names: ack, confirm, deliver, deliver_no_ack, drop_unroutable, get, get_empty, get_no_ack,
/// publish, redeliver, return_unroutable.
fn counts(counts: &MessageCounts) -> [u64; 11] {
    let MessageCounts { ack, confirm, deliver, deliver_no_ack, drop_unroutable, get, .. } = *counts;
    let MessageCounts { get_empty, get_no_ack, publish, redeliver, return_unroutable, .. } = *counts;
    [
        ack,
        confirm,
        deliver,
        deliver_no_ack,
        drop_unroutable,
        get,
        get_empty,
        get_no_ack,
        publish,
        redeliver,
        return_unroutable,
    ]
}

#[test]
fn channels_count_what_rabbitmq_counts() {
    let mut script = Script::begin(&MemDisk::new(), Limits::default());
    script.run();
    let records = script.records();
    let check = |channel: u16, expected: [u64; 11]| {
        let found = records.iter().find(|record| record.number == channel + 1).unwrap();
        assert_eq!(counts(&found.counts), expected, "channel {channel}");
    };
    check(1, [0, 0, 0, 0, 2, 0, 0, 0, 8, 0, 1]);
    check(2, [0, 5, 0, 0, 0, 0, 0, 0, 5, 0, 1]);
    check(3, [1, 0, 0, 0, 0, 3, 2, 1, 0, 1, 0]);
    check(4, [3, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0]);
    check(5, [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    check(6, [0, 0, 0, 0, 0, 1, 0, 0, 3, 0, 0]);
    // A direct reply: RabbitMQ counts it as dropped where it is published, and not where it arrives.
    check(7, [0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]);
    check(8, [0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0]);
    let totals = script.life.broker.message_totals();
    assert_eq!(counts(&totals.counts), [4, 5, 8, 3, 2, 4, 2, 4, 18, 2, 2]);
    assert_eq!((totals.counts.deliver_get(), totals.counts.routed()), (19, 14));
    assert_eq!(totals.counts.publish_with_confirm, 5);
    assert_eq!((totals.sizes.counts[..2].to_vec(), totals.sizes.sum_bytes), (vec![16, 2], 448));
}

#[test]
fn channels_show_what_they_are_doing() {
    let mut script = Script::begin(&MemDisk::new(), Limits::default());
    script.run();
    let records = script.records();
    let of = |channel: u16| records.iter().find(|record| record.number == channel + 1).unwrap();
    assert_eq!(of(2).mode, ChannelMode::Confirm);
    assert_eq!((of(4).prefetch_count, of(4).consumer_count, of(4).messages_unacknowledged), (100, 1, 3));
    assert_eq!((of(5).mode, of(5).consumer_count), (ChannelMode::Plain, 1));
    assert_eq!(of(6).mode, ChannelMode::Transactional);
    assert_eq!((of(6).messages_uncommitted, of(6).acks_uncommitted), (1, 1));
    let connection = script.life.connection.record().clone();
    let consumers = of(4).consumers(&connection);
    assert_eq!(consumers.len(), 1);
    assert_eq!((&*consumers[0].tag, &*consumers[0].queue.name, consumers[0].channel), ("tag", "q2", 5));
    assert_eq!((consumers[0].ack_required, consumers[0].messages_unacknowledged), (true, 3));
    assert_eq!(script.life.broker.consumers(&script.life.connection.vhost).len(), 2);
}

#[test]
fn queues_and_exchanges_count_what_rabbitmq_counts() {
    let mut script = Script::begin(&MemDisk::new(), Limits::default());
    script.run();
    let (broker, vhost) = (&script.life.broker, &script.life.connection.vhost);
    let check = |queue: &str, expected: [u64; 11], unacknowledged: u64| {
        let record = vhost.queue(queue).unwrap().record();
        assert_eq!(counts(&record.counts.messages), expected, "{queue}");
        assert_eq!((record.ready.messages, record.unacknowledged.messages), (0, unacknowledged), "{queue}");
    };
    check("q1", [1, 0, 0, 2, 0, 3, 0, 1, 5, 1, 0], 0);
    check("q2", [3, 0, 8, 0, 0, 0, 0, 0, 7, 1, 0], 3);
    check("q3", [0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0], 1);
    let rejected = |queue: &str| vhost.queue(queue).unwrap().counts().deaths.of(DeathReason::Rejected);
    assert_eq!((rejected("q1"), rejected("q2"), rejected("q3")), (1, 1, 0));
    let exchanges = broker.exchange_counts(vhost);
    let of = |name: &str| exchanges[name];
    assert_eq!(of("x"), ExchangeCounts { publish_in: 6, publish_out: 6 });
    assert_eq!(of(""), ExchangeCounts { publish_in: 12, publish_out: 11 });
    let churn = broker.churn();
    assert_eq!((churn.queues_declared, churn.queues_created, churn.queues_deleted), (4, 3, 0));
}

#[test]
fn what_ends_hands_its_counts_on() {
    let mut script = Script::begin(&MemDisk::new(), Limits::default());
    script.run();
    let (broker, vhost) = (script.life.broker.clone(), script.life.connection.vhost.clone());
    let everything = || (broker.message_totals(), broker.message_totals_of(&vhost), broker.queue_totals());
    let (before, exchanges) = (everything(), broker.exchange_counts(&vhost));
    let mut batch = Batch::at(BATCH_MS);
    for queue in ["q1", "q2", "q3"] {
        script.life.channel.delete_queue(queue, false, false, &mut batch).unwrap();
    }
    for channel in script.channels.drain(..) {
        channel.close(&mut batch);
    }
    broker.finish(&mut batch);
    assert_eq!(everything(), before);
    assert_eq!(broker.exchange_counts(&vhost), exchanges);
    assert_eq!(script.records().len(), 1, "nothing is kept of closed channels");
    assert_eq!((broker.churn().channels_closed, broker.churn().queues_deleted), (8, 3));
    let id = script.life.connection.record().id;
    drop(script);
    assert!(broker.connection(id).is_none(), "nor of closed connections");
    assert_eq!(everything(), before);
}

#[test]
fn nothing_is_counted_when_that_is_switched_off() {
    let limits = Limits { message_statistics: false, ..Limits::default() };
    let mut script = Script::begin(&MemDisk::new(), limits);
    script.run();
    assert_eq!(script.life.broker.message_totals(), Default::default());
    let queue = script.life.connection.vhost.queue("q2").unwrap().record();
    assert_eq!(queue.counts, Default::default());
    assert_eq!(queue.unacknowledged.messages, 3, "what is there is still seen");
}

#[test]
fn a_queue_says_what_it_holds_wherever_that_lies() {
    let mut life = Life::begin(&MemDisk::new());
    life.queue("q", &[("x-max-priority", 3.into())]);
    (0..3).for_each(|_| life.publish("", "q", None, KEPT, "kept"));
    life.publish("", "q", None, TRANSIENT, "gone");
    life.commit();
    let vhost = life.connection.vhost.clone();
    let check = |messages: u64, persistent: u64, in_index: u64, in_memory: u64| {
        let held = vhost.queue("q").unwrap().record().ready;
        let found = (held.messages, held.persistent, held.in_index, held.in_memory);
        assert_eq!(found, (messages, persistent, in_index, in_memory));
        assert_eq!((held.bytes > 0, held.persistent_bytes > 0), (messages > 0, persistent > 0));
    };
    check(4, 3, 4, 4);
    life.settle();
    check(4, 3, 1, 1); // what is in segment files is not indexed
    let mut batch = Batch::at(BATCH_MS);
    life.channel.get("q", false, &mut batch).unwrap().unwrap();
    let record = vhost.queue("q").unwrap().record();
    assert_eq!((record.unacknowledged.messages, record.unacknowledged.persistent), (1, 1));
    assert!(record.memory_bytes > 0 && record.used_at_ms == BATCH_MS);
    life.channel.recover(true, &mut batch).unwrap();
    check(4, 3, 2, 1);
    life.channel.purge_queue("q").unwrap();
    check(0, 0, 0, 0);
}

#[test]
fn what_a_queue_gives_up_is_counted_by_reason() {
    let mut life = Life::begin(&MemDisk::new());
    life.queue("letters", &[]);
    let text = |text: &str| FieldValue::LongString(text.into());
    let buries = [("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text("letters"))];
    life.queue("expires", &[buries.as_slice(), &[("x-message-ttl", 1.into())]].concat());
    life.queue("drops", &[("x-max-length", 1.into())]);
    (0..2).for_each(|_| life.publish("", "expires", None, KEPT, "late"));
    (0..3).for_each(|_| life.publish("", "drops", None, KEPT, "much"));
    life.now_ms += 10;
    assert!(life.drain("expires").is_empty());
    let vhost = &life.connection.vhost;
    let deaths = |queue: &str, reason| vhost.queue(queue).unwrap().counts().deaths.of(reason);
    assert_eq!((deaths("expires", DeathReason::Expired), deaths("expires", DeathReason::MaxLen)), (2, 0));
    assert_eq!((deaths("drops", DeathReason::Expired), deaths("drops", DeathReason::MaxLen)), (0, 2));
    assert_eq!(vhost.queue("letters").unwrap().counts().messages.publish, 2);
    let totals = life.broker.queue_totals()[&QueueKind::Classic];
    assert_eq!((totals.deaths.total(), totals.messages.publish), (4, 7));
}
