//! A data directory after something wrote into it: one file gets other octets at some place, and everything is opened
//! and read.
//!
//! Finds: panics, endless loops and large allocations in recovery, in the reader of the log and in that of segments; a
//! body that is not the one that was stored.
#![no_main]

use std::sync::Arc;

use leveret_store::{Disk, LogSpan, MemDisk, Options, Place, QueueId, Segments, Store};
use libfuzzer_sys::fuzz_target;

const QUEUE: QueueId = QueueId(1);
const OPTIONS: Options = Options { log_file_bytes: 4096, segment_bytes: 2048, gather_bytes: 1 << 20 };
const BODY_BYTES: usize = 80;
const FOLDERS: [&str; 3] = ["log", "q", "t"];

/// A directory with a settled part, acknowledgements, metadata and a log.
fn sample() -> MemDisk {
    let disk = MemDisk::new();
    let (store, _) = Store::open(Arc::new(disk.clone()), OPTIONS).expect("a new disk");
    let publish =
        |n: u8| store.publish(&[QUEUE], false, &[7; 16], &[&[n; BODY_BYTES]]).expect("memory is never full");
    let ids: Vec<_> = (0..30).map(publish).collect();
    store.rotate();
    store.commit().expect("memory is never full");
    let mut segments = Segments::new(QUEUE, false);
    while let Some(LogSpan { number, end, .. }) = store.file_to_settle() {
        let mut writer = store.block_writer(QUEUE, false, number, &segments.tail());
        for id in ids.iter().filter(|id| **id < end) {
            let place = Place::Log { id: *id, len: BODY_BYTES as u32 };
            writer.push(id.0, *id, &[7; 16], &store.read(place, QUEUE).expect("it was stored"));
        }
        segments.add(writer.finish().expect("memory is never full"));
        segments.flush_acks(&store, number).expect("memory is never full");
        store.retire(number).expect("memory is never full");
    }
    store.meta(&[leveret_store::MetaChange::Put(b"key".to_vec(), b"value".to_vec())]).expect("room");
    (100..105).for_each(|n| {
        publish(n);
    });
    store.commit().expect("memory is never full");
    disk
}

fn files(disk: &MemDisk) -> Vec<String> {
    let below = |folder: String| {
        let names = disk.list(&folder).unwrap_or_default().into_iter();
        names.map(move |name| format!("{folder}/{name}")).collect::<Vec<_>>()
    };
    let mut files = vec!["FORMAT".to_owned(), "checkpoint".to_owned()];
    files.extend(below("log".to_owned()));
    files.extend(below("q".to_owned()).into_iter().flat_map(below));
    files.retain(|path| disk.open(path).is_ok());
    files
}

fn content(disk: &MemDisk, path: &str) -> Vec<u8> {
    let file = disk.open(path).expect("it is listed");
    let mut octets = vec![0; file.len().expect("it is open") as usize];
    file.read_at(&mut octets, 0).expect("memory can be read");
    octets
}

/// The sample with that file changed from there on.
fn damaged(sample: &MemDisk, which: u8, at: u16, octets: &[u8]) -> MemDisk {
    let (disk, files) = (MemDisk::new(), files(sample));
    for folder in FOLDERS {
        disk.create_dir(folder).expect("a new disk");
    }
    for queue in sample.list("q").unwrap_or_default() {
        disk.create_dir(&format!("q/{queue}")).expect("a new disk");
    }
    for (number, path) in files.iter().enumerate() {
        let mut content = content(sample, path);
        if number == usize::from(which) % files.len() {
            let at = usize::from(at) % (content.len() + 1);
            let end = (at + octets.len()).max(content.len());
            content.resize(end, 0);
            content[at..at + octets.len()].copy_from_slice(octets);
        }
        disk.create(path).and_then(|file| file.write_at(&content, 0)).expect("memory is never full");
    }
    disk
}

fn check(body: &[u8]) {
    assert!(body.len() == BODY_BYTES && body.iter().all(|octet| *octet == body[0]), "an altered body");
}

thread_local!(static SAMPLE: MemDisk = sample());

fuzz_target!(|input: (u8, u16, &[u8])| {
    let disk = SAMPLE.with(|sample| damaged(sample, input.0, input.1, input.2));
    let Ok((store, mut recovery)) = Store::open(Arc::new(disk), OPTIONS) else { return };
    for queue in &mut recovery.queues {
        while let Ok(Some((_, body))) = queue.segments.next(&store) {
            check(&body);
        }
        for message in &queue.log {
            if let Ok(body) = store.read(message.place, queue.id) {
                check(&body);
            }
        }
    }
});
