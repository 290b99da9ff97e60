//! P7, octet by octet: a small data directory with everything in it, and each of its octets once altered, each of its files
//! cut at each place. Whatever is missing then has been reported, and nothing that is there is altered.
//!
//! The end of a log that was not closed in order is the one thing that no reader can judge: damage in its last batch looks like a
//! batch that a crash left half-written. Then only messages of that batch may be missing, and the count of octets cut off says so.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leveret_store::{MemDisk, MetaChange, OpenError, Options, QueueId, RecoveredQueue, Segments, Store};
use support::{Q1, Q2, all_files, copy, open, publish, read_file, settle_all, write_file};

const SETTLED: u8 = 12;
/// The first message of the last batch.
const LAST_BATCH: u8 = 23;
const END: u8 = 26;
const BODY_BYTES: usize = 60;

type Contents = BTreeMap<QueueId, BTreeSet<u8>>;

/// Settled and logged messages of two queues, some acknowledged, a setting, and a last batch of three messages.
fn sample(closed: bool) -> MemDisk {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let body = |n: u8| [n; BODY_BYTES];
    let alive: Vec<_> =
        (0..SETTLED).map(|n| (publish(&store, &[Q1, Q2], &body(n)), BODY_BYTES as u32)).collect();
    store.commit().unwrap();
    let mut queues = [Q1, Q2].map(|queue| (queue, (alive.clone(), Segments::new(queue, false)))).into();
    settle_all(&store, &mut queues);
    store.ack(Q1, &[alive[3].0]).unwrap();
    store.meta(&[MetaChange::Put(b"key".to_vec(), b"value".to_vec())]).unwrap();
    for n in SETTLED..LAST_BATCH {
        publish(&store, &[if n % 2 == 0 { Q1 } else { Q2 }], &body(n));
        if n % 3 == 0 {
            store.commit().unwrap();
        }
    }
    store.commit().unwrap();
    for n in LAST_BATCH..END {
        publish(&store, &[Q1, Q2], &body(n));
    }
    store.commit().unwrap();
    if closed {
        store.close(&[]).unwrap();
    }
    disk
}

/// What a directory still holds.
struct Found {
    messages: Contents,
    key: bool,
    torn: bool,
    reported: BTreeSet<QueueId>,
    /// Damage that may be anybody's.
    unnamed: bool,
}

/// Opens and reads everything; nothing if it was refused.
fn read(disk: &MemDisk, what: &str) -> Option<Found> {
    let (store, recovery) = match Store::open(Arc::new(disk.clone()), Options::default()) {
        Ok(opened) => opened,
        Err(OpenError::Io(error)) => panic!("{what}: {error}"),
        Err(_) => return None,
    };
    let mut found = Found {
        messages: Contents::new(),
        key: recovery.meta.get(&b"key"[..]).is_some_and(|value| value == b"value"),
        torn: recovery.torn_bytes > 0,
        reported: recovery.damage.iter().flat_map(|damage| damage.queues.clone()).collect(),
        unnamed: recovery.damage.iter().any(|damage| damage.queues.is_empty()),
    };
    for mut queue in recovery.queues {
        let (bodies, is_whole) = bodies(&store, &mut queue);
        if !is_whole {
            found.reported.insert(queue.id);
        }
        let numbers: Vec<u8> = bodies.iter().map(|body| number(body, what)).collect();
        let count = numbers.len();
        let numbers: BTreeSet<u8> = numbers.into_iter().collect();
        assert_eq!(numbers.len(), count, "{what}: a message twice");
        found.messages.insert(queue.id, numbers);
    }
    Some(found)
}

/// All that can be read of a queue, and whether that was all.
fn bodies(store: &Store, queue: &mut RecoveredQueue) -> (Vec<Vec<u8>>, bool) {
    let mut bodies = Vec::new();
    let mut is_whole = loop {
        match queue.segments.next(store) {
            Ok(Some((_, body))) => bodies.push(body),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    for message in &queue.log {
        match store.read(message.place, queue.id) {
            Ok(body) => bodies.push(body),
            Err(_) => is_whole = false,
        }
    }
    (bodies, is_whole)
}

fn number(body: &[u8], what: &str) -> u8 {
    assert!(body.len() == BODY_BYTES && body.iter().all(|octet| *octet == body[0]), "{what}: {body:?}");
    body[0]
}

/// How often what came of it.
type Counts = BTreeMap<&'static str, u64>;

/// Opens the directory with `bytes` in place of a file.
fn check(
    original: &MemDisk,
    whole: &Found,
    closed: bool,
    path: &str,
    bytes: &[u8],
    what: &str,
) -> &'static str {
    let disk = copy(original);
    write_file(&disk, path, bytes);
    let before: Vec<_> = all_files(&disk).iter().map(|path| read_file(&disk, path)).collect();
    let Some(found) = read(&disk, what) else {
        let after: Vec<_> = all_files(&disk).iter().map(|path| read_file(&disk, path)).collect();
        assert_eq!(before, after, "{what}: refused, and changed");
        return "refused";
    };
    let mut outcome = if found.unnamed || !found.reported.is_empty() { "reported" } else { "no consequence" };
    for (queue, numbers) in &whole.messages {
        let now = found.messages.get(queue).cloned().unwrap_or_default();
        let extra: Vec<_> = now.difference(numbers).collect();
        let missing: Vec<_> = numbers.difference(&now).copied().collect();
        let excused = found.unnamed || found.reported.contains(queue);
        assert!(extra.is_empty() || excused || found.torn, "{what}: {extra:?} came back to {queue:?}");
        if missing.is_empty() || excused {
            continue;
        }
        let is_torn = !closed && found.torn && missing.iter().all(|n| *n >= LAST_BATCH);
        assert!(is_torn, "{what}: {missing:?} of {queue:?} are missing without a word");
        outcome = "cut as torn";
    }
    assert!(found.key || found.unnamed, "{what}: the setting is gone");
    outcome
}

fn check_all(closed: bool) -> Counts {
    let original = sample(closed);
    let whole = read(&copy(&original), "untouched").unwrap();
    let mut counts = Counts::new();
    for path in all_files(&original) {
        let content = read_file(&original, &path);
        let used = content.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1);
        for at in 0..used {
            let mut flipped = content.clone();
            flipped[at] ^= 1 << (at % 8);
            for (bytes, change) in [(&flipped[..], "flipped"), (&content[..at], "cut")] {
                let what = format!("{path} {change} at {at}, closed: {closed}");
                *counts.entry(check(&original, &whole, closed, &path, bytes, &what)).or_default() += 1;
            }
        }
    }
    counts
}

#[test]
fn no_octet_and_no_cut_goes_unnoticed() {
    for closed in [true, false] {
        let counts = check_all(closed);
        let total: u64 = counts.values().sum();
        let stopped = if closed { "stopped in order" } else { "killed" };
        println!("fact: {total} flips and cuts of a directory {stopped}: {counts:?}");
        assert!(total > 4_000 && counts.contains_key("refused") && counts.contains_key("reported"));
    }
}
