//! What exchanges and windows against duplicates know after the process was killed: everything that was confirmed, and
//! nothing whose message is not there. The disk is in memory; what was not committed is lost.

use leveret_broker::policies::{Author, Policy};
use leveret_broker::{Batch, Verdict};
use leveret_store::MemDisk;
use leveret_wire::{FieldTable, FieldValue};

use crate::support::{Bodies, KEPT, Life, TRANSIENT, on};

/// Publishes a message to a queue and to an exchange that deduplicate, ends the process, and says what comes of the same
/// messages again.
fn check_repeated(mode: u8, end: impl Fn(&mut Life), expected: [&[&str]; 2]) {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.queue("q", &[on()]);
    life.queue("behind", &[]);
    life.exchange("x", "fanout", &[on()]);
    life.bind("x", "behind", "");
    life.commit();
    life.publish("", "q", Some("k"), mode, "first");
    life.publish("x", "", Some("k"), mode, "first");
    end(&mut life);
    drop(life);
    let mut life = Life::begin(&disk);
    life.publish("", "q", Some("k"), mode, "again");
    life.publish("x", "", Some("k"), mode, "again");
    life.commit();
    assert_eq!([life.drain("q"), life.drain("behind")], expected);
    assert!(life.heard.0.lock().iter().all(|(_, _, verdict)| *verdict == Verdict::Ack));
}

#[test]
fn a_message_repeated_after_a_crash_makes_no_second_copy() {
    check_repeated(KEPT, |life| life.commit(), [&["first"], &["first"]]);
}

#[test]
fn a_message_consumed_before_a_crash_makes_no_second_copy() {
    let consume = |life: &mut Life| {
        life.commit();
        assert_eq!([life.drain("q"), life.drain("behind")], [["first"], ["first"]]);
        life.commit();
    };
    check_repeated(KEPT, consume, [&[], &[]]);
}

#[test]
fn a_window_survives_the_log_file_it_is_noted_in() {
    check_repeated(KEPT, |life| life.settle(), [&["first"], &["first"]]);
}

#[test]
fn a_message_that_a_crash_lost_is_not_remembered() {
    check_repeated(KEPT, |_| {}, [&["again"], &["again"]]);
    check_repeated(TRANSIENT, |life| life.commit(), [&["again"], &["again"]]);
}

#[test]
fn a_refused_message_is_not_remembered_after_a_crash() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    let full = [on(), ("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())];
    life.queue("q", &full);
    life.publish("", "q", Some("a"), KEPT, "a");
    life.publish("", "q", Some("b"), KEPT, "b");
    assert_eq!(life.heard.0.lock().pop(), Some((2, false, Verdict::Nack)));
    life.commit();
    drop(life);
    let mut life = Life::begin(&disk);
    assert_eq!(life.drain("q"), ["a"]);
    life.publish("", "q", Some("b"), KEPT, "b");
    life.publish("", "q", Some("a"), KEPT, "a");
    life.commit();
    assert_eq!(life.drain("q"), ["b"]);
}

#[test]
fn a_duplicate_is_confirmed_when_the_first_is_safe() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.queue("q", &[on()]);
    life.commit();
    life.publish("", "q", Some("k"), KEPT, "first");
    life.publish("", "q", Some("k"), KEPT, "again");
    assert!(life.heard.0.lock().is_empty());
    life.commit();
    assert_eq!(*life.heard.0.lock(), [(2, true, Verdict::Ack)]);
}

#[test]
fn a_window_keeps_its_size_over_restarts() {
    let disk = MemDisk::new();
    for round in 0..5 {
        let mut life = Life::begin(&disk);
        life.queue("q", &[on(), ("x-cache-size", 3.into())]);
        for at in 0..10 {
            life.publish("", "q", Some(&format!("{round}.{at}")), KEPT, "");
        }
        life.commit();
        assert_eq!(life.drain("q").len(), 10);
        for at in (7..10).chain([0]) {
            life.publish("", "q", Some(&format!("{round}.{at}")), KEPT, "");
        }
        life.commit();
        assert_eq!(life.drain("q").len(), 1, "only the oldest was forgotten");
        life.commit();
    }
}

#[test]
fn a_deleted_window_leaves_nothing() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    let empty = life.broker.store().meta_scan();
    life.queue("q", &[on()]);
    life.exchange("x", "x-message-deduplication", &[("x-cache-size", 2.into())]);
    life.bind("x", "q", "");
    for at in 0..5 {
        life.publish("x", "", Some(&at.to_string()), KEPT, "");
    }
    life.channel.delete_queue("q", false, false, &mut Batch::at(life.now_ms)).unwrap();
    life.connection.delete_exchange("x", false).unwrap();
    assert_eq!(life.broker.store().meta_scan(), empty);
}

#[test]
fn a_recent_history_survives() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.exchange("x", "x-recent-history", &[("x-recent-history-length", 3.into())]);
    for at in 0..5 {
        life.publish("x", "", None, KEPT, &at.to_string());
    }
    life.publish("x", "", None, TRANSIENT, "lost");
    life.commit();
    drop(life);
    let mut life = Life::begin(&disk);
    life.queue("q", &[]);
    life.bind("x", "q", "");
    life.settle();
    drop(life);
    let mut life = Life::begin(&disk);
    assert_eq!(life.drain("q"), ["3", "4"]);
    life.publish("x", "", None, KEPT, "5");
    life.queue("later", &[]);
    life.bind("x", "later", "");
    assert_eq!(life.drain("later"), ["3", "4", "5"]);
    assert_eq!(life.drain("q"), ["5"]);
    life.connection.delete_exchange("x", false).unwrap();
    life.commit();
    drop(life);
    assert!(Life::begin(&disk).connection.vhost.queue("amq.history.x").is_none());
}

#[test]
fn a_long_history_is_handed_over_whole_and_once() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.exchange("x", "x-recent-history", &[("x-recent-history-length", 500.into())]);
    let all: Bodies = (0..300).map(|at| at.to_string()).collect();
    all.iter().for_each(|body| life.publish("x", "", None, KEPT, body));
    for queue in ["a", "b"] {
        life.queue(queue, &[]);
        life.bind("x", queue, "");
        assert_eq!(life.drain(queue), all);
    }
}

#[test]
fn messages_keep_their_way_over_restarts() {
    for (kind, arguments) in [
        ("x-consistent-hash", vec![]),
        ("x-consistent-hash", vec![("hash-header", FieldValue::from("x-deduplication-header"))]),
        ("x-modulus-hash", vec![]),
    ] {
        let disk = MemDisk::new();
        let mut life = Life::begin(&disk);
        life.exchange("x", kind, &arguments);
        let queues = ["c", "a", "b"];
        for (queue, weight) in queues.into_iter().zip(["1", "3", "2"]) {
            life.queue(queue, &[]);
            life.bind("x", queue, weight);
        }
        life.commit();
        let run = |life: &mut Life| {
            for at in 0..50 {
                let key = at.to_string();
                life.publish("x", &key, Some(&key), TRANSIENT, &key);
            }
            queues.map(|queue| life.drain(queue))
        };
        let before = run(&mut life);
        assert!(before.iter().all(|bodies| !bodies.is_empty()), "{before:?}");
        drop(life);
        assert_eq!(run(&mut Life::begin(&disk)), before, "{kind} {arguments:?}");
    }
}

/// The predeclared ones were made before the policies were read back.
#[test]
fn policies_of_predeclared_exchanges_survive_a_restart() {
    let disk = MemDisk::new();
    let life = Life::begin(&disk);
    let definition = FieldTable::from([("alternate-exchange", "rest")]);
    let policy = Policy::new(Author::User, "p", "^amq.topic$", "exchanges", 0, definition).unwrap();
    life.broker.set_policy("/", Author::User, policy, &mut Batch::at_us(1)).unwrap();
    life.commit();
    drop(life);
    let life = Life::begin(&disk);
    let exchange = life.broker.vhost("/").unwrap().exchange("amq.topic").unwrap();
    assert_eq!(exchange.alternate().as_deref(), Some("rest"));
    assert_eq!(exchange.policies().policy.map(|policy| policy.name.clone()).as_deref(), Some("p"));
}
