//! What the tests of the store share: a small caller that keeps queues as a broker does.
#![allow(clippy::unwrap_used, dead_code)] // the helpers of tests are tests; not each test uses all of them

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_store::{
    Disk, LogSpan, MemDisk, MessageId, Options, Place, QueueId, RecoveredQueue, Recovery, Segments, Store,
};

pub(crate) const Q1: QueueId = QueueId(1);
pub(crate) const Q2: QueueId = QueueId(2);

pub(crate) fn open(disk: &MemDisk) -> (Store, Recovery) {
    let options = Options { log_file_bytes: 4096, segment_bytes: 2048, gather_bytes: 1 << 20 };
    Store::open(Arc::new(disk.clone()), options).unwrap()
}

pub(crate) fn publish(store: &Store, queues: &[QueueId], payload: &[u8]) -> MessageId {
    store.publish(queues, false, &[7; 16], &[payload]).unwrap()
}

/// All living messages of a queue, oldest first: segments, then log.
pub(crate) fn drain(store: &Store, queue: &mut RecoveredQueue) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some((_, payload)) = queue.segments.next(store).unwrap() {
        payloads.push(payload);
    }
    payloads.extend(queue.log.iter().map(|message| store.read(message.place, queue.id).unwrap()));
    payloads
}

pub(crate) fn contents(store: &Store, recovery: &mut Recovery) -> BTreeMap<QueueId, Vec<Vec<u8>>> {
    assert_eq!(recovery.damage, []);
    let queues = recovery.queues.iter_mut();
    queues.map(|queue| (queue.id, drain(store, queue))).filter(|(_, payloads)| !payloads.is_empty()).collect()
}

/// Messages still in the log, and the settled ones.
pub(crate) type QueueState = (Vec<(MessageId, u32)>, Segments);

/// Settles everything that lies in rotated files, as a broker with these queues would.
pub(crate) fn settle_all(store: &Store, queues: &mut BTreeMap<QueueId, QueueState>) {
    store.rotate();
    store.commit().unwrap();
    while let Some(LogSpan { number, end, .. }) = store.file_to_settle() {
        for (queue, (alive, segments)) in queues.iter_mut() {
            let mut writer = store.block_writer(*queue, false, number, &segments.tail());
            alive.retain(|(id, len)| {
                if *id >= end {
                    return true;
                }
                let payload = store.read(Place::Log { id: *id, len: *len }, *queue).unwrap();
                writer.push(id.0, *id, &[7; 16], &payload);
                false
            });
            segments.add(writer.finish().unwrap());
            segments.flush_acks(store, number).unwrap();
        }
        store.retire(number).unwrap();
    }
}

/// The whole content of a file.
pub(crate) fn read_file(disk: &dyn Disk, path: &str) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += file.read_at(&mut bytes[filled..], filled as u64).unwrap();
    }
    bytes
}

/// Replaces the whole content of a file.
pub(crate) fn write_file(disk: &dyn Disk, path: &str, bytes: &[u8]) {
    disk.create(path).unwrap().write_at(bytes, 0).unwrap();
}

/// Paths of all files that can hold messages, and the rest of the directory.
pub(crate) fn all_files(disk: &dyn Disk) -> Vec<String> {
    let mut files = vec!["FORMAT".to_owned(), "checkpoint".to_owned()];
    files.extend(disk.list("log").unwrap().into_iter().map(|name| format!("log/{name}")));
    for queue in disk.list("q").unwrap() {
        let dir = format!("q/{queue}");
        files.extend(disk.list(&dir).unwrap().into_iter().map(|name| format!("{dir}/{name}")));
    }
    files.retain(|path| disk.open(path).is_ok());
    files
}

/// Another disk with the same files.
pub(crate) fn copy(disk: &MemDisk) -> MemDisk {
    let other = MemDisk::new();
    all_files(disk).iter().for_each(|path| write_file(&other, path, &read_file(disk, path)));
    for queue in disk.list("q").unwrap() {
        other.create_dir(&format!("q/{queue}")).unwrap();
    }
    ["log", "q", "t"].iter().for_each(|dir| other.create_dir(dir).unwrap());
    other
}
