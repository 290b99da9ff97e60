//! Many publishers at once, all with the same keys, while queues are purged, settled and deleted: each key is taken once,
//! and nobody waits for ever.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use leveret_broker::Batch;
use leveret_store::MemDisk;

use crate::support::{KEPT, Life, TRANSIENT, on};

const KEYS: usize = 500;

#[test]
fn each_key_is_taken_once() {
    let disk = MemDisk::new();
    let mut life = Life::begin(&disk);
    life.queue("q", &[on(), ("x-cache-size", 1000.into())]);
    life.exchange("x", "x-message-deduplication", &[("x-cache-size", 1000.into())]);
    life.queue("behind", &[]);
    life.bind("x", "behind", "");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishers = [
            scope.spawn(|| publish_all(&life, KEPT)),
            scope.spawn(|| publish_all(&life, TRANSIENT)),
            scope.spawn(|| publish_in_transactions(&life)),
        ];
        scope.spawn(|| disturb(&life, &is_over));
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        is_over.store(true, Ordering::Release);
    });
    let keys: BTreeSet<String> = (0..KEYS).map(|at| at.to_string()).collect();
    for queue in ["q", "behind"] {
        let bodies = life.drain(queue);
        assert_eq!(bodies.len(), KEYS, "{queue}");
        assert_eq!(bodies.into_iter().collect::<BTreeSet<_>>(), keys);
    }
}

fn publish_all(life: &Life, mode: u8) {
    let mut client = Life::connect(life.broker.clone());
    for at in 0..KEYS {
        let key = at.to_string();
        client.publish("", "q", Some(&key), mode, &key);
        client.publish("x", "", Some(&key), mode, &key);
    }
}

fn publish_in_transactions(life: &Life) {
    let mut client = Life::connect(life.broker.clone());
    client.channel.select_tx().unwrap();
    for at in 0..KEYS {
        let key = at.to_string();
        client.publish("x", "", Some(&key), KEPT, &key);
        client.publish("", "q", Some(&key), KEPT, &key);
        let mut batch = Batch::at(client.now_ms);
        client.channel.commit(&mut batch).unwrap();
        client.broker.finish(&mut batch);
    }
}

/// Everything that takes the same locks in its own way.
fn disturb(life: &Life, is_over: &AtomicBool) {
    let mut client = Life::connect(life.broker.clone());
    while !is_over.load(Ordering::Acquire) {
        client.queue("gone", &[on()]);
        client.bind("x", "gone", "");
        client.channel.purge_queue("gone").unwrap();
        client.settle();
        let mut batch = Batch::at(client.now_ms);
        client.channel.delete_queue("gone", false, false, &mut batch).unwrap();
        client.broker.finish(&mut batch);
    }
}
