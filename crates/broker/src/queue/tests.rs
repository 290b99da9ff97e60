//! Stories about one queue: what happens, and what each consumer got.

use std::sync::Arc;

use leveret_store::{MemDisk, Options, Store};
use leveret_wire::{FieldTable, Properties, RawProperties};

use super::*;
use crate::message::ResidentBytes;
use crate::settings::{DeadLetters, Overflow, Retried, Retry, Settings};
use crate::stamp::Stamp;

/// Delivers into a list; a consumer named `full…` has no room while `full` is set.
struct Recorder {
    store: Store,
    resident: ResidentBytes,
    log: Vec<String>,
    full: bool,
    on_disk: bool,
    bounces: bool,
    now_ms: u64,
}

impl Courier<()> for Recorder {
    fn deliver(
        &mut self,
        consumer: &Consumer<()>,
        _key: ConsumerKey,
        _pos: Pos,
        redelivered: bool,
        message: MessageView<'_>,
    ) -> Handed {
        if self.full && consumer.tag.starts_with("full") {
            return Handed::NoRoom;
        }
        let again = if redelivered { "!" } else { "" };
        let count = |name: &str| message.properties.headers()?.find(name)?.as_i64();
        let attempts = count("x-acquired-count")
            .map(|acquired| format!(" {}/{acquired}", count("x-delivery-count").unwrap_or(0)));
        let attempts = attempts.unwrap_or_default();
        self.log.push(format!("{}:{}{again}{attempts}", consumer.tag, String::from_utf8_lossy(message.body)));
        Handed::Taken
    }

    fn keep(&mut self, incoming: &mut Incoming<'_>, _waits: bool) -> Content {
        if !self.on_disk {
            return Content::Memory(Arc::new(Message::copy_of(&incoming.view, &self.resident)));
        }
        let (head, attributes) = (incoming.view.head(), incoming.stamp.encode());
        let queue = leveret_store::QueueId(1);
        let id = self.store.publish(&[queue], true, &attributes, &incoming.view.parts(&head)).unwrap();
        let place = Place::Log { id, len: incoming.view.size_bytes() as u32 };
        Content::Stored(Stored { id, place, durable: false, cached: None })
    }

    fn put_aside(&mut self, _incoming: &Incoming<'_>) -> Option<Stored> {
        None
    }

    fn read(&self, _level: Level, place: Place) -> Result<Vec<u8>, ReadError> {
        self.store.read(place, leveret_store::QueueId(1))
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn bounces(&self) -> bool {
        self.bounces
    }

    fn is_orphan(&self, message: &MessageView<'_>) -> bool {
        message.body.starts_with(b"orphan")
    }

    fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn resident(&self) -> &ResidentBytes {
        &self.resident
    }
}

/// A queue and its world, driven by words.
struct Story {
    queue: QueueState<()>,
    courier: Recorder,
    keys: Vec<ConsumerKey>,
    aftermath: Aftermath,
}

impl Story {
    fn new() -> Self {
        let (store, _) = Store::open(Arc::new(MemDisk::new()), Options::default()).unwrap();
        let courier = Recorder {
            store,
            resident: ResidentBytes::default(),
            log: Vec::new(),
            full: false,
            on_disk: false,
            bounces: false,
            now_ms: 1,
        };
        let dead_letters =
            Some(DeadLetters { exchange: "dlx".into(), routing_key: None, at_least_once: false });
        let settings = Settings { dead_letters, ..Settings::default() };
        Self {
            queue: QueueState::new(settings.into()),
            courier,
            keys: Vec::new(),
            aftermath: Aftermath::default(),
        }
    }

    /// `p BODY`, `c TAG PREFETCH` (or `c TAG no-ack`), `ack POS`, `requeue POS`, `get`, `cancel N`, `full`, `room N`,
    /// `limit MESSAGES drop|reject`, `purge`, `ttl MS`, `wait MS`, `p BODY EXPIRATION`, `reject POS`,
    /// `urgent BODY LEVEL`, `ack-urgent LEVEL NUMBER`, `requeue-urgent LEVEL NUMBER`, `ask BODY EXPIRATION` (a message
    /// with headers), `plain` (no dead-letter exchange), `bounces`, `count LIMIT RETRY_MS`, `return POS` (unprocessed),
    /// `on-disk` (no message is in memory), `orphans keep|drop|dead-letter` (a body that begins with `orphan` is one),
    /// `timeout MS` (for consumers), `late` (which are).
    fn step(&mut self, step: &str) {
        let words: Vec<&str> = step.split(' ').collect();
        match words[..] {
            ["p", body] => self.publish(body, None, 0, false),
            ["p", body, ttl] => self.publish(body, ttl.parse().ok(), 0, false),
            ["ask", body, ttl] => self.publish(body, ttl.parse().ok(), 0, true),
            ["urgent", body, level] => self.publish(body, None, level.parse().unwrap(), false),
            ["count", limit, min_ms] => self.count_attempts(limit, min_ms),
            ["plain"] => Arc::make_mut(&mut self.queue.settings).dead_letters = None,
            ["orphans", rule] => {
                Arc::make_mut(&mut self.queue.settings).requests.orphans = Orphans::parse(rule).unwrap();
            }
            ["on-disk"] => self.courier.on_disk = true,
            ["bounces"] => self.courier.bounces = true,
            ["ack-urgent", level, number] => {
                let pos = pos_at(level.parse().unwrap(), number.parse().unwrap());
                self.queue.ack(pos);
            }
            ["requeue-urgent", level, number] => {
                self.requeue(pos_at(level.parse().unwrap(), number.parse().unwrap()), true);
            }
            ["c", tag, prefetch] => self.consume(tag, prefetch),
            ["ack", pos] => {
                self.queue.ack(pos.parse().unwrap());
            }
            ["requeue", pos] => self.requeue(pos.parse().unwrap(), true),
            ["return", pos] => self.requeue(pos.parse().unwrap(), false),
            ["get"] => {
                let got = self.queue.fetch(false, &mut self.courier, &mut self.aftermath).unwrap();
                let got = got.map(|got| String::from_utf8_lossy(got.message.view().body).into_owned());
                self.courier.log.push(format!("get:{}", got.unwrap_or_default()));
            }
            ["cancel", n] => drop(self.queue.remove_consumer(self.keys[n.parse::<usize>().unwrap()])),
            ["full"] => self.courier.full = true,
            ["room", n] => {
                self.courier.full = false;
                self.queue.resume(self.keys[n.parse::<usize>().unwrap()]);
            }
            ["limit", messages, overflow] => {
                let messages = messages.parse().ok();
                let overflow =
                    if overflow == "reject" { Overflow::RejectPublish } else { Overflow::DropHead };
                let settings = Arc::make_mut(&mut self.queue.settings);
                (settings.messages, settings.overflow) = (messages, overflow);
            }
            ["octets", max] => {
                let settings = Arc::make_mut(&mut self.queue.settings);
                (settings.size_bytes, settings.overflow) = (max.parse().ok(), Overflow::RejectPublish);
            }
            ["wait", ms] => self.courier.now_ms += ms.parse::<u64>().unwrap(),
            ["reject", pos] => {
                let pos = pos.parse().unwrap();
                self.queue.reject(pos, &self.courier, &mut self.aftermath).unwrap();
            }
            ["purge"] => {
                let purged = self.queue.purge();
                self.courier.log.push(format!("purged:{purged}"));
            }
            _ => self.step_of_time(&words),
        }
        self.queue.pump(&mut self.courier, &mut self.aftermath).unwrap();
        self.bury();
        let waits = self.queue.ready_len() > 0;
        assert!(!(waits && self.queue.has_taker()), "a message waits beside a consumer that can take it");
        self.check_held();
    }

    /// What is counted as it comes and goes is what is there.
    fn check_held(&self) {
        let sum = |entries: &mut dyn Iterator<Item = &Entry>| {
            entries.fold(Held::default(), |held, entry| held + Held::one(entry))
        };
        let mut indexed = self.queue.ready.all().flat_map(|(_, ready)| ready.indexed());
        assert_eq!(self.queue.ready(), sum(&mut indexed));
        let mut unacked = self.queue.unacked.values().map(|unacked| &unacked.entry);
        assert_eq!(self.queue.unacknowledged(), sum(&mut unacked));
    }

    fn step_of_time(&mut self, words: &[&str]) {
        let settings = Arc::make_mut(&mut self.queue.settings);
        match *words {
            ["ttl", ms] => settings.message_ttl_ms = ms.parse().ok(),
            ["timeout", ms] => settings.consumer_timeout_ms = ms.parse().ok(),
            ["late"] => {
                let late = self.queue.late_consumers(self.courier.now_ms);
                let told = late.iter().map(|late| format!("late:{} {:?}", late.key, late.positions));
                self.courier.log.extend(told);
            }
            _ => panic!("unknown step {words:?}"),
        }
    }

    fn bury(&mut self) {
        for dead in self.aftermath.dead.drain(..) {
            let body = match &dead.message {
                Some(message) => String::from_utf8_lossy(message.view().body).into_owned(),
                None => "unread".into(),
            };
            let dropped = if dead.message.is_some() && !dead.is_wanted { " dropped" } else { "" };
            self.courier.log.push(format!("{}:{body}{dropped}", dead.reason.name()));
        }
    }

    fn publish(&mut self, body: &str, ttl_ms: Option<u64>, level: Level, has_headers: bool) {
        let headers = has_headers.then(|| FieldTable::from([("rpc-caller", "r")]));
        let properties = Properties { headers, ..Default::default() }.encode().unwrap();
        let view = MessageView {
            exchange: "",
            routing_key: "q",
            properties: RawProperties::parse(&properties).unwrap(),
            body: body.as_bytes(),
        };
        let stamp = Stamp::new(self.courier.now_ms, ttl_ms);
        let mut incoming = Incoming { view, stamp, level, logged: None, shared: None };
        if !self.queue.publish(&mut incoming, &mut self.courier, &mut self.aftermath).unwrap() {
            self.courier.log.push(format!("refused:{body}"));
        }
    }

    fn requeue(&mut self, pos: Pos, failed: bool) {
        self.queue.requeue(pos, failed, &self.courier, &mut self.aftermath).unwrap();
    }

    fn count_attempts(&mut self, limit: &str, min_ms: &str) {
        let settings = Arc::make_mut(&mut self.queue.settings);
        settings.counts_attempts = true;
        settings.delivery_limit = limit.parse().ok();
        let retry = |min_ms| Retry { which: Retried::Failed, min_ms, max_ms: None };
        settings.retry = min_ms.parse().ok().map(retry);
    }

    fn consume(&mut self, tag: &str, prefetch: &str) {
        let no_ack = prefetch == "no-ack";
        let prefetch = prefetch.parse().unwrap_or(0);
        self.keys.push(self.queue.add_consumer(Consumer::new(tag.into(), no_ack, false, prefetch, ())));
    }
}

fn check(steps: &[&str], expected: &[&str]) {
    let mut story = Story::new();
    steps.iter().for_each(|step| story.step(step));
    assert_eq!(story.courier.log, expected, "{steps:?}");
}

#[test]
fn consumers_are_served_in_turn() {
    check(&["c a 0", "c b 0", "p 1", "p 2", "p 3", "p 4"], &["a:1", "b:2", "a:3", "b:4"]);
}

#[test]
fn what_waits_goes_to_the_first_consumer_in_order() {
    check(&["p 1", "p 2", "p 3", "c a no-ack"], &["a:1", "a:2", "a:3"]);
}

#[test]
fn a_prefetch_of_one_is_one_at_a_time() {
    check(&["c a 1", "p 1", "p 2", "ack 1", "ack 2"], &["a:1", "a:2"]);
    check(&["c a 1", "p 1", "p 2"], &["a:1"]);
}

#[test]
fn a_requeued_message_goes_back_to_its_old_position() {
    check(
        &["p 1", "p 2", "p 3", "get", "get", "requeue 2", "requeue 1", "c a no-ack"],
        &["get:1", "get:2", "a:1!", "a:2!", "a:3"],
    );
}

#[test]
fn a_cancelled_consumers_messages_stay_with_it_until_requeued() {
    check(&["c a 0", "p 1", "cancel 0", "c b 0", "p 2", "requeue 1"], &["a:1", "b:2", "b:1!"]);
}

#[test]
fn a_consumer_without_room_keeps_nothing_from_the_others() {
    check(&["c full 0", "c b 0", "full", "p 1", "p 2"], &["b:1", "b:2"]);
    check(&["c full 0", "full", "p 1", "p 2", "room 0"], &["full:1", "full:2"]);
}

#[test]
fn a_purge_takes_what_waits_and_leaves_what_is_unacknowledged() {
    check(&["p 1", "p 2", "p 3", "get", "purge", "requeue 1", "c a no-ack"], &["get:1", "purged:2", "a:1!"]);
}

#[test]
fn acknowledging_twice_or_unknown_is_nothing() {
    check(&["c a 1", "p 1", "ack 1", "ack 1", "ack 99", "p 2"], &["a:1", "a:2"]);
}

#[test]
fn a_full_queue_drops_its_head_or_refuses() {
    check(&["limit 2 drop", "p 1", "p 2", "p 3", "c a no-ack"], &["maxlen:1", "a:2", "a:3"]);
    check(&["limit 2 reject", "p 1", "p 2", "p 3", "c a no-ack"], &["refused:3", "a:1", "a:2"]);
    check(&["limit 0 reject", "p 1"], &["refused:1"]);
}

#[test]
fn what_waits_too_long_is_given_up_from_the_head() {
    check(&["ttl 10", "p 1", "wait 9", "p 2", "wait 1", "get"], &["expired:1", "get:2"]);
    check(&["p 1 5", "p 2", "wait 5", "get"], &["expired:1", "get:2"]);
    check(&["p 1", "p 2 5", "wait 5", "get", "get"], &["get:1", "expired:2", "get:"]);
    check(&["p 1 0"], &["expired:1"]);
    check(&["c a no-ack", "p 1 0"], &["a:1"]);
}

#[test]
fn what_has_expired_behind_a_delivered_head_is_not_delivered() {
    check(&["p 1", "p 2 5", "p 3", "wait 5", "c a no-ack"], &["a:1", "a:3", "expired:2"]);
    check(&["p 1", "p 2 5", "c a 1", "wait 5", "ack 1"], &["a:1", "expired:2"]);
}

#[test]
fn a_message_is_refused_that_would_exceed_the_octets() {
    // Exchange, key, properties and body: 10 octets each.
    check(&["octets 19", "p 1", "p 2", "get"], &["refused:2", "get:1"]);
    check(&["octets 20", "p 1", "p 2", "p 3", "get"], &["refused:3", "get:1"]);
}

#[test]
fn what_is_requeued_into_a_full_queue_is_too_much() {
    check(&["limit 1 drop", "p 1", "get", "p 2", "requeue 1", "get"], &["get:1", "maxlen:1", "get:2"]);
    check(&["limit 1 reject", "p 1", "get", "p 2", "requeue 1", "get"], &["get:1", "get:1"]);
}

#[test]
fn what_may_not_wait_is_given_up_whatever_waits_before_it() {
    check(&["p 1", "p 2 0", "get"], &["expired:2", "get:1"]);
    check(&["c a 1", "p 1", "p 2", "p 3 0", "ack 1"], &["a:1", "expired:3", "a:2"]);
    check(&["limit 1 drop", "p 1", "p 2 0", "get"], &["expired:2", "get:1"]);
    check(&["ttl 0", "p 1", "get"], &["expired:1", "get:"]);
}

#[test]
fn what_is_given_up_is_only_read_when_it_goes_somewhere() {
    check(&["on-disk", "plain", "ask 1 0", "p 2 0"], &["expired:unread", "expired:unread"]);
    check(&["on-disk", "plain", "bounces", "ask 1 0", "p 2 0"], &["expired:1", "expired:unread"]);
    check(&["on-disk", "bounces", "ask 1 0", "p 2 0"], &["expired:1", "expired:2"]);
    check(&["plain", "ask 1 0", "p 2 0"], &["expired:1 dropped", "expired:2 dropped"]);
}

#[test]
fn orphans_are_given_up_before_anybody_sees_them() {
    let all = ["p orphan1", "p 2", "p orphan3", "get", "get"];
    let check = |rule: &str, expected: &[&str]| check(&[&[rule], &all[..]].concat(), expected);
    check("orphans keep", &["get:orphan1", "get:2"]);
    check("orphans drop", &["get:2", "orphaned:orphan1 dropped", "get:", "orphaned:orphan3 dropped"]);
    check("orphans dead-letter", &["get:2", "orphaned:orphan1", "get:", "orphaned:orphan3"]);
}

#[test]
fn an_orphan_takes_no_consumers_turn() {
    check(&["orphans drop", "c a 1", "p orphan1", "p 2", "p 3"], &["orphaned:orphan1 dropped", "a:2"]);
    check(
        &["orphans drop", "c a 1", "p 1", "p orphan2", "p 3", "ack 1"],
        &["a:1", "a:3", "orphaned:orphan2 dropped"],
    );
    check(
        &["p orphan1", "get", "orphans drop", "requeue 1", "get"],
        &["get:orphan1", "get:", "orphaned:orphan1 dropped"],
    );
    check(&["plain", "orphans dead-letter", "p orphan1", "get"], &["get:", "orphaned:orphan1 dropped"]);
}

#[test]
fn a_requeued_message_keeps_its_time() {
    check(&["p 1 5", "get", "wait 5", "requeue 1", "get"], &["get:1", "expired:1", "get:"]);
}

#[test]
fn a_rejected_message_is_a_dead_letter() {
    check(&["c a 1", "p 1", "p 2", "reject 1"], &["a:1", "a:2", "rejected:1"]);
}

#[test]
fn what_is_more_urgent_goes_first() {
    check(&["p 1", "urgent 2 9", "urgent 3 5", "urgent 4 9", "c a no-ack"], &["a:2", "a:4", "a:3", "a:1"]);
    check(&["c a 1", "p 1", "urgent 2 3", "p 3", "ack 1", "ack-urgent 3 2"], &["a:1", "a:2", "a:3"]);
    check(
        &["urgent 1 4", "urgent 2 4", "get", "p 3", "requeue-urgent 4 1", "c a no-ack"],
        &["get:1", "a:1!", "a:2", "a:3"],
    );
}

#[test]
fn limits_and_purges_concern_all_levels() {
    check(&["limit 2 drop", "p 1", "urgent 2 7", "p 3", "c a no-ack"], &["maxlen:2", "a:1", "a:3"]);
    check(&["p 1", "urgent 2 7", "purge", "get"], &["purged:2", "get:"]);
    check(&["p 1 5", "urgent 2 7", "wait 5", "get"], &["expired:1", "get:2"]);
}

#[test]
fn what_fails_too_often_is_given_up() {
    check(&["count 1 -", "c a 1", "p 1", "requeue 1", "requeue 1"], &["a:1", "a:1! 1/1", "delivery_limit:1"]);
    check(&["count 0 -", "c a 1", "p 1", "return 1", "requeue 1"], &["a:1", "a:1! 0/1", "delivery_limit:1"]);
    check(&["c a 1", "p 1", "requeue 1", "requeue 1"], &["a:1", "a:1!", "a:1!"]);
}

#[test]
fn what_failed_waits_before_it_is_tried_again() {
    let story =
        ["count - 10", "c a 1", "p 1", "p 2", "requeue 1", "ack 2", "wait 9", "room 0", "wait 1", "room 0"];
    check(&story, &["a:1", "a:2", "a:1! 1/1"]);
    check(&["count - 10", "p 1", "get", "requeue 1", "purge"], &["get:1", "purged:1"]);
    check(&["count - 10", "p 1 5", "get", "requeue 1", "wait 5", "get"], &["get:1", "expired:1", "get:"]);
    check(&["count - 10", "p 1", "get", "return 1", "get"], &["get:1", "get:1"]);
}

#[test]
fn a_consumer_is_late_with_all_it_has() {
    check(&["timeout 100", "c a 0", "p 1", "wait 60", "p 2", "late"], &["a:1", "a:2"]);
    let steps = ["timeout 100", "c a 0", "p 1", "wait 60", "p 2", "wait 60", "late", "late"];
    check(&steps, &["a:1", "a:2", "late:1 [1, 2]"]);
    check(&["timeout 100", "c a 0", "p 1", "ack 1", "wait 200", "late"], &["a:1"]);
    check(&["timeout 100", "c a no-ack", "p 1", "wait 200", "late"], &["a:1"]);
    check(&["timeout 0", "c a 0", "p 1", "wait 200", "late"], &["a:1"]);
    check(&["timeout 100", "p 1", "get", "wait 200", "late"], &["get:1"]);
}

#[test]
fn late_deliveries_are_looked_for_once_a_second() {
    let steps = ["timeout 100", "c a 0", "p 1", "wait 100", "late", "wait 999", "late", "wait 1", "late"];
    check(&steps, &["a:1", "late:1 [1]", "late:1 [1]"]);
}
