//! Publishers, a reader, a committer and a settler at once, on real files.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leveret_store::{MessageId, Options, Place, QueueId, RealDisk, Segments, Store, Urgency};

const PUBLISHERS: u64 = 3;
const MESSAGES: u64 = 3000;

fn body(queue: u64, n: u64) -> Vec<u8> {
    (0..(n * 37 % 300)).map(|at| (queue + n + at) as u8).collect()
}

fn options() -> Options {
    Options { log_file_bytes: 64 * 1024, segment_bytes: 16 * 1024, gather_bytes: 16 * 1024 }
}

/// Publishes, and reads each message back at once and again later, wherever it has moved meanwhile.
fn publish_and_read(store: &Store, queue: u64) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for n in 0..MESSAGES {
        let body = body(queue, n);
        let id = store.publish(&[QueueId(queue)], false, &[0; 16], &[&body]).unwrap();
        let place = Place::Log { id, len: body.len() as u32 };
        assert_eq!(store.read(place, QueueId(queue)).unwrap(), body);
        ids.push(id);
        let earlier = n / 2;
        let place = Place::Log { id: ids[earlier as usize], len: (earlier * 37 % 300) as u32 };
        assert_eq!(store.read(place, QueueId(queue)).unwrap(), self::body(queue, earlier));
    }
    ids
}

#[test]
fn all_parts_work_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(Arc::new(RealDisk::new(folder.path())), options()).unwrap();
    let (stop, wakes) = (AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let counter = wakes.clone();
    store.set_wake(Box::new(move |urgency| {
        assert_eq!(urgency, Urgency::Now);
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let published: BTreeMap<u64, Vec<MessageId>> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (1..=PUBLISHERS)
            .map(|queue| {
                (
                    queue,
                    scope.spawn({
                        let store = &store;
                        move || publish_and_read(store, queue)
                    }),
                )
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                store.prepare_next_file().unwrap();
                store.commit().unwrap();
            }
        });
        let ids = publishers.into_iter().map(|(queue, thread)| (queue, thread.join().unwrap())).collect();
        stop.store(true, Ordering::Relaxed);
        ids
    });
    store.commit().unwrap();
    // How many files depends on how often the machine lets the committer run.
    assert!(store.rotated_files() > 0 && wakes.load(Ordering::Relaxed) > 0);

    // One half is settled, then all of it is there after a restart.
    let mut segments: BTreeMap<_, _> =
        published.keys().map(|queue| (*queue, Segments::new(QueueId(*queue), false))).collect();
    for _ in 0..store.rotated_files() / 2 {
        let span = store.file_to_settle().unwrap();
        for (queue, ids) in &published {
            let segments = segments.get_mut(queue).unwrap();
            let mut writer = store.block_writer(QueueId(*queue), false, span.number, &segments.tail());
            for (n, id) in ids.iter().enumerate().filter(|(_, id)| (span.start..span.end).contains(id)) {
                let place = Place::Log { id: *id, len: body(*queue, n as u64).len() as u32 };
                writer.push(id.0, *id, &[0; 16], &store.read(place, QueueId(*queue)).unwrap());
            }
            segments.add(writer.finish().unwrap());
        }
        store.retire(span.number).unwrap();
    }
    drop(store);
    let (store, recovery) = Store::open(Arc::new(RealDisk::new(folder.path())), options()).unwrap();
    assert_eq!(recovery.damage, []);
    for mut queue in recovery.queues {
        let mut n = 0;
        while let Some((_, payload)) = queue.segments.next(&store).unwrap() {
            assert_eq!(payload, body(queue.id.0, n));
            n += 1;
        }
        for message in &queue.log {
            assert_eq!(store.read(message.place, queue.id).unwrap(), body(queue.id.0, n));
            n += 1;
        }
        assert_eq!(n, MESSAGES);
    }
}
