//! The store's answers to a failing disk, one at a time, and a crash at every single operation of a script.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::sync::Arc;

use leveret_store::{
    CommitError, MessageId, MetaChange, Options, Place, QueueId, RecoveredQueue, Segments, Store, StoreFailed,
};
use leveret_testkit::faulty_disk::{Crash, FaultyDisk};

const QUEUE: QueueId = QueueId(1);

fn options() -> Options {
    Options { log_file_bytes: 2048, segment_bytes: 1024, gather_bytes: 4096 }
}

fn open(disk: &FaultyDisk) -> Store {
    Store::open(Arc::new(disk.clone()), options()).unwrap().0
}

fn publish(store: &Store, payload: &[u8]) -> Result<MessageId, StoreFailed> {
    store.publish(&[QUEUE], false, &[0; 16], &[payload])
}

#[test]
fn after_a_failed_sync_nothing_is_confirmed_and_nothing_is_tried_again() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk);
    let id = publish(&store, b"never confirmed").unwrap();
    disk.fail_sync_after(1);
    let failed = store.commit().unwrap_err();
    assert!(matches!(failed, CommitError::Failed(StoreFailed::Latched(_))), "{failed}");
    let operations = disk.operations();
    for _ in 0..3 {
        assert_eq!(store.commit().unwrap_err(), failed);
        assert!(matches!(publish(&store, b"more"), Err(StoreFailed::Latched(_))));
        assert!(store.close(&[]).is_err() && store.durable() <= id.0);
    }
    assert_eq!(disk.operations(), operations, "the disk was touched again");
}

#[test]
fn a_full_disk_keeps_what_gathered_first_in_line() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk);
    let first = publish(&store, &[1; 3000]).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    for _ in 0..2 {
        assert_eq!(store.commit(), Err(CommitError::DiskFull));
    }
    let second = publish(&store, &[2; 10]).unwrap();
    assert!(store.durable() <= first.0 && store.gathered_bytes() > 3000);
    for (id, payload) in [(first, vec![1; 3000]), (second, vec![2; 10])] {
        assert_eq!(store.read(Place::Log { id, len: payload.len() as u32 }, QUEUE).unwrap(), payload);
    }
    disk.set_capacity(None);
    assert!(store.commit().unwrap() > second.0);
    drop(store);
    disk.restart(Crash::PowerCut);
    let (_, recovery) = Store::open(Arc::new(disk), options()).unwrap();
    let ids: Vec<_> = recovery.queues[0].log.iter().map(|message| message.id).collect();
    assert_eq!(ids, [first, second]);
}

#[test]
fn acks_and_settling_go_on_in_the_last_bytes_of_a_disk() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk);
    let ids: Vec<_> = (0..20).map(|_| publish(&store, &[0; 80]).unwrap()).collect();
    store.commit().unwrap();
    // No room for a whole log file any more, but for a few acks.
    disk.set_capacity(Some(disk.used_bytes() + 600));
    store.ack(QUEUE, &ids).unwrap();
    store.rotate();
    store.commit().unwrap();
    let span = store.file_to_settle().unwrap();
    let before = disk.used_bytes();
    store.retire(span.number).unwrap();
    assert!(disk.used_bytes() < before, "nothing was freed");
}

/// While the disk was low a new log file was begun five times a second, also while the settler could not keep up. They took
/// what was left, and the acks that would have freed everything found no room, for ever.
#[test]
fn a_low_disk_is_not_filled_with_log_files() {
    let disk = FaultyDisk::new(1);
    let store = open(&disk);
    let ids: Vec<_> = (0..5).map(|_| publish(&store, &[0; 80]).unwrap()).collect();
    for id in ids {
        store.ack(QUEUE, &[id]).unwrap();
        store.rotate_when_settled();
        store.commit().unwrap();
        assert_eq!(store.rotated_files(), 1);
    }
    store.retire(store.file_to_settle().unwrap().number).unwrap();
    store.rotate_when_settled();
    store.commit().unwrap();
    assert_eq!(store.rotated_files(), 1, "what came since can be settled, too");
}

/// What the script had been promised when it ended.
#[derive(Default)]
struct Promised {
    /// Numbers of confirmed messages that nobody acked.
    alive: Vec<u8>,
    /// Numbers of messages whose ack was durable.
    acked: Vec<u8>,
    declared: bool,
}

/// Declares, publishes, acks, settles twice, and stops cleanly; ends early when the disk dies.
fn script(disk: &FaultyDisk, promised: &mut Promised) -> Result<(), Box<dyn std::error::Error>> {
    let (store, _) = Store::open(Arc::new(disk.clone()), options())?;
    store.meta(&[MetaChange::Put(b"queue".to_vec(), b"1".to_vec())])?;
    store.commit()?;
    promised.declared = true;
    let mut segments = Segments::new(QUEUE, false);
    for round in 0..2u8 {
        let mut alive = Vec::new();
        for n in round * 20..round * 20 + 20 {
            alive.push((n, publish(&store, &[n; 90])?));
            if n % 4 == 0 {
                store.commit()?;
                promised.alive = (0..=n).filter(|n| !promised.acked.contains(n)).collect();
            }
        }
        store.commit()?;
        promised.alive = (0..round * 20 + 20).filter(|n| !promised.acked.contains(n)).collect();
        let (acked, id) = alive.remove(3);
        promised.alive.retain(|n| *n != acked);
        store.ack(QUEUE, &[id])?;
        store.rotate();
        store.commit()?;
        promised.acked.push(acked);
        settle(&store, &mut segments, &alive)?;
    }
    store.close(&[])?;
    Ok(())
}

fn settle(
    store: &Store,
    segments: &mut Segments,
    alive: &[(u8, MessageId)],
) -> Result<(), Box<dyn std::error::Error>> {
    while let Some(span) = store.file_to_settle() {
        let mut writer = store.block_writer(QUEUE, false, span.number, &segments.tail());
        for (n, id) in alive.iter().filter(|(_, id)| (span.start..span.end).contains(id)) {
            writer.push(id.0, *id, &[0; 16], &[*n; 90]);
        }
        segments.add(writer.finish()?);
        segments.flush_acks(store, span.number)?;
        store.retire(span.number)?;
    }
    Ok(())
}

fn numbers(store: &Store, queue: Option<&mut RecoveredQueue>) -> Vec<u8> {
    let Some(queue) = queue else { return Vec::new() };
    let mut bodies = Vec::new();
    while let Some((_, body)) = queue.segments.next(store).unwrap() {
        bodies.push(body);
    }
    bodies.extend(queue.log.iter().map(|message| store.read(message.place, QUEUE).unwrap()));
    assert!(bodies.iter().all(|body| *body == vec![body[0]; 90]), "an altered body");
    bodies.iter().map(|body| body[0]).collect()
}

fn check_crash_at(operation: u64, crash: Crash, seed: u64) -> bool {
    let disk = FaultyDisk::new(seed);
    disk.crash_after(operation);
    let mut promised = Promised::default();
    let finished = script(&disk, &mut promised).is_ok();
    disk.restart(crash);
    let (store, mut recovery) = Store::open(Arc::new(disk), options()).unwrap();
    let place = format!("{crash:?} at operation {operation}, seed {seed}");
    assert_eq!(recovery.damage, [], "{place}");
    assert!(!promised.declared || recovery.meta.contains_key(&b"queue"[..]), "{place}: declare lost");
    assert!(!finished || recovery.clean.is_some(), "{place}: stopped cleanly");
    let found = numbers(&store, recovery.queues.first_mut());
    assert!(found.is_sorted_by(|a, b| a < b), "{place}: order or copies: {found:?}");
    assert!(promised.alive.iter().all(|n| found.contains(n)), "{place}: lost one of {:?}", promised.alive);
    assert!(!promised.acked.iter().any(|n| found.contains(n)), "{place}: an ack was lost");
    finished
}

#[test]
fn a_crash_at_every_operation_breaks_no_promise() {
    let mut points = 0;
    for operation in 1.. {
        let finished = (0..3).fold(true, |finished, seed| {
            finished
                & check_crash_at(operation, Crash::PowerCut, seed)
                & check_crash_at(operation, Crash::Kill, seed)
        });
        if finished {
            break;
        }
        points = operation;
    }
    assert!(points > 100, "only {points} operations");
}
