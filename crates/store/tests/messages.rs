//! What was appended is found again: before a commit, after it, after a restart, after settling.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use leveret_store::{Disk, MemDisk, MetaChange, Place, Segments, TxPublish, Urgency};
use support::{Q1, Q2, contents, open, publish, settle_all};

#[test]
fn a_message_is_readable_wherever_it_is() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let id = publish(&store, &[Q1, Q2], b"hello");
    let place = Place::Log { id, len: 5 };
    assert_eq!(store.read(place, Q1).unwrap(), b"hello");
    assert!(store.durable() <= id.0);
    assert!(store.commit().unwrap() > id.0);
    assert_eq!(store.gathered_bytes(), 0);
    assert_eq!(store.read(place, Q2).unwrap(), b"hello");
    drop(store);
    let (store, mut recovery) = open(&disk);
    let both = [(Q1, vec![b"hello".to_vec()]), (Q2, vec![b"hello".to_vec()])].into();
    assert_eq!(contents(&store, &mut recovery), both);
    assert!(recovery.next_id > id);
}

#[test]
fn acked_purged_and_uncommitted_messages_do_not_come_back() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let ids: Vec<_> = (0..6u8).map(|n| publish(&store, &[Q1], &[n])).collect();
    let other = publish(&store, &[Q1, Q2], b"shared");
    store.ack(Q1, &[ids[0]]).unwrap();
    store.purge(Q1, ids[4], &[ids[2]]).unwrap();
    store.ack(Q2, &[other]).unwrap();
    store.commit().unwrap();
    publish(&store, &[Q1], b"never committed");
    drop(store);
    let (store, mut recovery) = open(&disk);
    let expected = [(Q1, vec![vec![2], vec![5], b"shared".to_vec()])].into();
    assert_eq!(contents(&store, &mut recovery), expected);
    assert_eq!(recovery.clean, None);
}

#[test]
fn settled_messages_are_found_with_their_acks_applied() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let body = |n: u32| [vec![n as u8; 50], n.to_le_bytes().to_vec()].concat();
    let ids: Vec<_> = (0..200).map(|n| (publish(&store, &[Q1], &body(n)), 54)).collect();
    store.commit().unwrap();
    let mut queues = [(Q1, (ids.clone(), Segments::new(Q1, false)))].into();
    settle_all(&store, &mut queues);
    assert_eq!(store.rotated_files(), 0);
    let segments = &mut queues.get_mut(&Q1).unwrap().1;
    assert_eq!((segments.ready_len(), segments.ready_bytes()), (200, 200 * 54));

    // Acks that are only in the log when the store stops.
    let (head, payload) = segments.next(&store).unwrap().unwrap();
    assert_eq!((head.id, payload), (ids[0].0, body(0)));
    store.ack(Q1, &[ids[0].0, ids[150].0]).unwrap();
    segments.ack(head.place);
    assert_eq!(segments.ready_len(), 199);
    store.commit().unwrap();
    drop(store);

    let (store, mut recovery) = open(&disk);
    let expected: Vec<_> = (1..200).filter(|n| *n != 150).map(body).collect();
    assert_eq!(recovery.queues[0].segments.ready_len(), 198);
    assert_eq!(recovery.queues[0].last_pos, ids[199].0.0);
    assert_eq!(contents(&store, &mut recovery), [(Q1, expected)].into());

    drop(store);

    // Acks that are flushed, and segments that go with their last record.
    let before = disk.list("q/0000000000000001").unwrap().len();
    let (store, mut recovery) = open(&disk);
    let mut queues: BTreeMap<_, _> =
        recovery.queues.drain(..).map(|queue| (queue.id, (Vec::new(), queue.segments))).collect();
    let segments = &mut queues.get_mut(&Q1).unwrap().1;
    for _ in 0..150 {
        let (head, _) = segments.next(&store).unwrap().unwrap();
        store.ack(Q1, &[head.id]).unwrap();
        segments.ack(head.place);
    }
    settle_all(&store, &mut queues);
    assert!(disk.list("q/0000000000000001").unwrap().len() < before);
    drop(store);
    let (store, mut recovery) = open(&disk);
    let expected: Vec<_> = (152..200).map(body).collect();
    assert_eq!(contents(&store, &mut recovery), [(Q1, expected)].into());
}

#[test]
fn a_transaction_and_meta_changes_are_durable_together() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let first = publish(&store, &[Q1], b"first");
    store
        .meta(&[MetaChange::Put(b"a".to_vec(), b"1".to_vec()), MetaChange::Put(b"b".to_vec(), b"2".to_vec())])
        .unwrap();
    store.meta(&[MetaChange::Delete(b"a".to_vec())]).unwrap();
    let tx = TxPublish { queues: &[Q2], attributes: &[0; 16], parts: &[b"sec", b"ond"] };
    let (ids, position) = store.transaction(&[tx], &[(Q1, vec![first])], &[], Urgency::Now).unwrap();
    assert!(ids[0].0 < position);
    assert!(store.commit().unwrap() > position);
    settle_all(&store, &mut [(Q2, (vec![(ids[0], 6)], Segments::new(Q2, false)))].into());
    drop(store);
    let (store, mut recovery) = open(&disk);
    assert_eq!(recovery.meta, [(b"b".to_vec(), b"2".to_vec())].into());
    assert_eq!(store.meta_scan(), [(b"b".to_vec(), b"2".to_vec())]);
    assert_eq!(contents(&store, &mut recovery), [(Q2, vec![b"second".to_vec()])].into());
}

#[test]
fn a_clean_stop_is_told_once() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    publish(&store, &[Q1], b"x");
    let notes = vec![(Q1, b"nothing unacked".to_vec())];
    store.close(&notes).unwrap();
    assert!(store.publish(&[Q1], false, &[0; 16], &[]).is_err());
    drop(store);
    let (store, recovery) = open(&disk);
    assert_eq!(recovery.clean, Some(notes));
    drop(store);
    assert_eq!(open(&disk).1.clean, None);
}

#[test]
fn a_dropped_queue_leaves_nothing() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let id = publish(&store, &[Q1], b"x");
    settle_all(&store, &mut [(Q1, (vec![(id, 1)], Segments::new(Q1, false)))].into());
    publish(&store, &[Q1], b"y");
    store.drop_queue(Q1, false).unwrap();
    drop(store);
    let (store, mut recovery) = open(&disk);
    assert_eq!(contents(&store, &mut recovery), BTreeMap::new());
    assert_eq!(disk.list("q").unwrap(), Vec::<String>::new());
}

#[test]
fn transient_messages_are_gone_after_a_restart() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let id = store.publish(&[Q1], true, &[0; 16], &[b"spilled"]).unwrap();
    store.rotate();
    store.commit().unwrap();
    let span = store.file_to_settle().unwrap();
    let mut segments = Segments::new(Q1, true);
    let mut writer = store.block_writer(Q1, true, span.number, &segments.tail());
    let place = writer.push(1, id, &[0; 16], b"spilled");
    segments.add(writer.finish().unwrap());
    store.retire(span.number).unwrap();
    assert_eq!(store.read(place, Q1).unwrap(), b"spilled");
    assert_eq!(segments.peek(&store).unwrap().map(|head| head.place), Some(place));
    drop(store);
    let (store, mut recovery) = open(&disk);
    assert_eq!(contents(&store, &mut recovery), BTreeMap::new());
    assert_eq!(disk.list("t").unwrap(), Vec::<String>::new());
}

#[test]
fn the_committer_is_woken_once_per_need() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let woken = Arc::new(Mutex::new(Vec::new()));
    let wakes = woken.clone();
    store.set_wake(Box::new(move |urgency| wakes.lock().unwrap().push(urgency)));
    let id = publish(&store, &[Q1], b"somebody waits");
    publish(&store, &[Q1], b"already woken");
    store.ack(Q1, &[id]).unwrap();
    store.commit().unwrap();
    store.ack(Q1, &[id]).unwrap();
    store.ack(Q1, &[id]).unwrap();
    publish(&store, &[Q1], b"now it is urgent");
    store.commit().unwrap();
    // 1 MiB have gathered: urgent, although nobody waits for a transient message.
    for _ in 0..9 {
        store.publish(&[Q1], true, &[0; 16], &[&[0; 128 * 1024]]).unwrap();
    }
    use Urgency::{Now, Soon};
    assert_eq!(*woken.lock().unwrap(), [Now, Soon, Now, Soon, Now]);
}

/// Settles one message of queue 1, then settles again and drops the queue when so many were pushed, or, for
/// `None`, before the writer is taken.
fn check_drop_while_settling(transient: bool, pushed_before: Option<u64>) {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let mut segments = Segments::new(Q1, transient);
    for round in 0..2 {
        let id = store.publish(&[Q1], transient, &[0; 16], &[&[1; 100]]).unwrap();
        let other = publish(&store, &[Q2], b"x");
        store.rotate();
        store.commit().unwrap();
        let number = store.file_to_settle().unwrap().number;
        let tail = segments.tail();
        if round == 1 && pushed_before.is_none() {
            store.drop_queue(Q1, transient).unwrap();
        }
        let mut writer = store.block_writer(Q1, transient, number, &tail);
        for at in 0..60 {
            if round == 1 && pushed_before == Some(at) {
                store.drop_queue(Q1, transient).unwrap();
            }
            writer.push(at, id, &[0; 16], &[1; 100]);
        }
        segments.add(writer.finish().unwrap());
        segments.flush_acks(&store, number).unwrap();
        if pushed_before.is_some() {
            assert_eq!(segments.ready_len(), 60, "something was added for the dropped queue");
        }
        let mut writer = store.block_writer(Q2, false, number, &Segments::new(Q2, false).tail());
        writer.push(1, other, &[0; 16], b"x");
        drop(writer.finish().unwrap());
        store.retire(number).unwrap();
    }
    drop(store);
    let (store, mut recovery) = open(&disk);
    let mut left = contents(&store, &mut recovery);
    // A writer taken after the drop may revive the queue's files; its caller no longer knows the queue.
    left.remove(&Q1).inspect(|_| assert!(pushed_before.is_none()));
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [Q2]);
}

#[test]
fn a_queue_may_be_dropped_while_it_is_settled() {
    for transient in [false, true] {
        for pushed_before in [None, Some(0), Some(1), Some(30), Some(59)] {
            check_drop_while_settling(transient, pushed_before);
        }
    }
}

#[test]
fn notes_are_forgotten_by_prefix() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let put = |key: &str| MetaChange::Put(key.into(), Vec::new());
    store.note(&[put("a/1"), put("a/2"), put("a/3"), put("b/1")]).unwrap();
    store.forget_notes(b"a/", |key| key == b"a/2").unwrap();
    store.forget_notes(b"c/", |_| false).unwrap();
    store.commit().unwrap();
    drop(store);
    let keys: Vec<_> = open(&disk).1.meta.into_keys().collect();
    assert_eq!(keys, [b"a/2", b"b/1"]);
}
