//! Whatever the bytes in a data directory are: no panic, no endless loop, no altered body.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::sync::Arc;

use leveret_store::{Disk, MemDisk, Options, Segments, Store};
use proptest::prelude::*;
use support::{Q1, Q2, all_files, copy, open, publish, read_file, settle_all, write_file};

/// A directory with everything in it: settled and logged messages, acks, meta, a transaction.
fn sample() -> MemDisk {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let alive: Vec<_> = (0..30u8).map(|n| (publish(&store, &[Q1, Q2], &[n; 80]), 80)).collect();
    store.commit().unwrap();
    let mut queues = [Q1, Q2].map(|queue| (queue, (alive.clone(), Segments::new(queue, false)))).into();
    settle_all(&store, &mut queues);
    store.ack(Q1, &[alive[3].0]).unwrap();
    store.purge(Q2, alive[5].0, &[alive[1].0]).unwrap();
    store.meta(&[leveret_store::MetaChange::Put(b"key".to_vec(), b"value".to_vec())]).unwrap();
    for n in 100..105 {
        publish(&store, &[Q1], &[n; 80]);
    }
    store.commit().unwrap();
    disk
}

/// Opens and reads everything there is.
fn survive(disk: &MemDisk) {
    let Ok((store, mut recovery)) = Store::open(Arc::new(disk.clone()), Options::default()) else { return };
    for queue in &mut recovery.queues {
        while let Ok(Some((_, body))) = queue.segments.next(&store) {
            assert!(
                body.len() == 80 && body.iter().all(|byte| *byte == body[0]),
                "an altered body: {body:?}"
            );
        }
        for message in &queue.log {
            if let Ok(body) = store.read(message.place, queue.id) {
                assert!(body.len() == 80 && body.iter().all(|byte| *byte == body[0]), "an altered body");
            }
        }
    }
    let _ = store.commit();
}

#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Cut(usize),
    Replace(Vec<u8>),
    /// Copies a stretch of the file to another place in it: sound bytes in the wrong place.
    Move(usize, usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        any::<usize>().prop_map(Change::Cut),
        proptest::collection::vec(any::<u8>(), 0..600).prop_map(Change::Replace),
        (any::<usize>(), any::<usize>(), 1..600usize).prop_map(|(from, to, len)| Change::Move(from, to, len)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: Change) {
    let len = bytes.len().max(1);
    match change {
        Change::Set(at, byte) => bytes[at % len] = byte,
        Change::Cut(at) => bytes.truncate(at % len),
        Change::Replace(other) => *bytes = other,
        Change::Move(from, to, count) => {
            let (from, to) = (from % len, to % len);
            let count = count.min(len - from).min(len - to);
            bytes.copy_within(from..from + count, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(changes in proptest::collection::vec((any::<usize>(), change()), 1..4)) {
        thread_local!(static SAMPLE: MemDisk = sample());
        let disk = SAMPLE.with(copy);
        let files = all_files(&disk);
        for (file, change) in changes {
            let path = &files[file % files.len()];
            let mut bytes = read_file(&disk, path);
            if !bytes.is_empty() {
                apply(&mut bytes, change);
            }
            write_file(&disk, path, &bytes);
        }
        survive(&disk);
    }
}

#[test]
fn the_sample_holds_what_it_says() {
    let disk = sample();
    let (_, recovery) = open(&disk);
    assert_eq!(recovery.damage, []);
    let counts = recovery.queues.iter().map(|queue| (queue.segments.ready_len(), queue.log.len()));
    assert_eq!(counts.collect::<Vec<_>>(), [(29, 5), (25, 0)]);
    assert!(disk.list("q").unwrap().len() == 2);
}

#[test]
fn absurd_file_names_are_survived() {
    for name in
        ["log/ffffffff.log", "log/fffffffe.log", "log/x", "q/x", "q/ffffffffffffffff", "log/damaged-1.log"]
    {
        let disk = sample();
        write_file(&disk, name, &[7; 100]);
        survive(&disk);
    }
}
