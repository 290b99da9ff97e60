//! P7: damage is reported with file and offset, costs only whom it hits, and nothing of it is deleted.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_store::{
    Damage, Disk, DiskFile, MemDisk, MessageId, OpenError, Options, Place, QueueId, ReadError, Recovery,
    Segments, Store,
};
use support::{Q1, Q2, all_files, copy, open, publish, read_file, settle_all, write_file};

const LOG: &str = "log/00000001.log";

/// Three batches in one log file: for queue 1, for queue 2, and for both. Cleanly closed.
fn three_batches() -> (MemDisk, [MessageId; 3]) {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let ids =
        [(&[Q1][..], b"first "), (&[Q2], b"second"), (&[Q1, Q2], b"third ")].map(|(queues, payload)| {
            let id = publish(&store, queues, payload);
            store.commit().unwrap();
            id
        });
    store.close(&[]).unwrap();
    (disk, ids)
}

/// Offset of the first place where `bytes` lie in the file.
fn offset_of(disk: &MemDisk, path: &str, bytes: &[u8]) -> usize {
    read_file(disk, path).windows(bytes.len()).position(|window| window == bytes).unwrap()
}

fn edit(disk: &MemDisk, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = read_file(disk, path);
    change(&mut bytes);
    write_file(disk, path, &bytes);
}

/// Which messages of the log are still there, by queue.
fn left(recovery: &Recovery) -> BTreeMap<QueueId, Vec<MessageId>> {
    let queues = recovery.queues.iter();
    queues.map(|queue| (queue.id, queue.log.iter().map(|message| message.id).collect())).collect()
}

fn queues_of(damage: &[Damage]) -> Vec<Vec<QueueId>> {
    damage.iter().map(|damage| damage.queues.clone()).collect()
}

/// Damages a log of three batches and checks who is hit and what is left.
fn check_log(what: &str, change: impl FnOnce(&mut Vec<u8>), damaged: &[&[QueueId]], lost: &[usize]) {
    let (disk, ids) = three_batches();
    edit(&disk, LOG, change);
    let before = read_file(&disk, LOG);
    let (store, recovery) = open(&disk);
    assert_eq!(queues_of(&recovery.damage), damaged, "{what}: {:?}", recovery.damage);
    assert!(recovery.damage.iter().all(|damage| damage.file == LOG), "{what}: {:?}", recovery.damage);
    let mut expected: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (index, queues) in [&[Q1][..], &[Q2], &[Q1, Q2]].into_iter().enumerate() {
        if !lost.contains(&index) {
            queues.iter().for_each(|queue| expected.entry(*queue).or_default().push(ids[index]));
        }
    }
    assert_eq!(left(&recovery), expected, "{what}");
    drop(store);
    assert_eq!(read_file(&disk, LOG), before, "{what}: the damaged file was changed");
}

#[test]
fn damage_in_the_log_costs_only_what_it_hits() {
    let (disk, _) = three_batches();
    let payload = |bytes| offset_of(&disk, LOG, bytes);
    let (first, second, third) = (payload(b"first "), payload(b"second"), payload(b"third "));
    let batch_header = second - 44 - 24;
    check_log("payload", |log| log[first] ^= 1, &[&[Q1]], &[0]);
    check_log("shared payload", |log| log[third + 5] ^= 0x80, &[&[Q1, Q2]], &[2]);
    check_log("record head", |log| log[second - 8] ^= 1, &[&[]], &[1]);
    check_log("batch header", |log| log[batch_header] ^= 1, &[&[]], &[]);
    check_log("file header", |log| log[9] ^= 1, &[&[]], &[]);
    check_log("zeroed stretch", |log| log[batch_header..third - 52].fill(0), &[&[]], &[1]);
    check_log("cut at the third", |log| log.truncate(third), &[&[]], &[2]);
    check_log("cut inside the header", |log| log.truncate(20), &[&[]], &[0, 1, 2]);
}

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let whole = publish(&store, &[Q1], b"whole");
    store.commit().unwrap();
    publish(&store, &[Q1], b"torn away");
    publish(&store, &[Q2], b"in the same batch");
    store.commit().unwrap();
    drop(store);
    let torn_at = offset_of(&disk, LOG, b"torn away");
    edit(&disk, LOG, |log| log[torn_at + 4..].fill(0));
    for _ in 0..2 {
        let (store, recovery) = open(&disk);
        assert_eq!(recovery.damage, []);
        assert_eq!(left(&recovery)[&Q1][0], whole);
        let id = publish(&store, &[Q1], b"later");
        assert!(id > whole);
        store.commit().unwrap();
    }
    let (_, recovery) = open(&disk);
    assert_eq!((recovery.damage.len(), left(&recovery)[&Q1].len(), left(&recovery).len()), (0, 3, 1));
}

#[test]
fn a_damaged_message_that_was_acked_hurts_nobody() {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let id = publish(&store, &[Q1, Q2], b"rotten");
    store.ack(Q1, &[id]).unwrap();
    store.close(&[]).unwrap();
    drop(store);
    let at = offset_of(&disk, LOG, b"rotten");
    edit(&disk, LOG, |log| log[at] ^= 1);
    assert_eq!(queues_of(&open(&disk).1.damage), [[Q2]]);
}

#[test]
fn a_damaged_log_file_is_kept_when_it_is_retired() {
    let (disk, _) = three_batches();
    let at = offset_of(&disk, LOG, b"first ");
    edit(&disk, LOG, |log| log[at] ^= 1);
    let before = read_file(&disk, LOG);
    let (store, _) = open(&disk);
    settle_all(&store, &mut BTreeMap::new());
    assert_eq!(store.rotated_files(), 0);
    assert_eq!(read_file(&disk, "log/damaged-00000001.log"), before);
}

/// One queue with 40 settled messages, closed cleanly.
fn settled() -> (MemDisk, String) {
    let disk = MemDisk::new();
    let (store, _) = open(&disk);
    let alive = (0..40u8).map(|n| (publish(&store, &[Q1], &[n; 100]), 100)).collect();
    store.commit().unwrap();
    let mut queues = [(Q1, (alive, Segments::new(Q1, false)))].into();
    settle_all(&store, &mut queues);
    store.close(&[]).unwrap();
    (disk, "q/0000000000000001/00000000.seg".to_owned())
}

#[test]
fn damage_in_a_segment_is_met_when_it_is_read() {
    let (disk, segment) = settled();
    let payload = offset_of(&disk, &segment, &[3; 100]);
    let cases: [(&str, usize, usize); 3] =
        [("payload", payload, 3), ("head", 32 + 36 + 48, 0), ("block", 40, 0)];
    for (what, at, readable) in cases {
        let disk = copy(&disk);
        edit(&disk, &segment, |bytes| bytes[at] ^= 1);
        let (store, mut recovery) = open(&disk);
        assert_eq!(recovery.damage, [], "{what}");
        let segments = &mut recovery.queues[0].segments;
        let read = std::iter::from_fn(|| segments.next(&store).ok().flatten()).count();
        assert_eq!(read, readable, "{what}");
        // It stays under the cursor: nothing is skipped silently.
        for _ in 0..2 {
            let error = segments.next(&store).unwrap_err();
            assert!(matches!(&error, ReadError::Damaged { file, .. } if *file == segment), "{what}: {error}");
        }
    }
}

#[test]
fn damage_to_a_whole_segment_is_met_at_open() {
    let (disk, segment) = settled();
    for (what, change) in [
        ("bad segment header", &(|bytes: &mut Vec<u8>| bytes[8] ^= 1) as &dyn Fn(&mut Vec<u8>)),
        ("the file was cut", &|bytes| bytes.truncate(1000)),
    ] {
        let disk = copy(&disk);
        edit(&disk, &segment, change);
        let before = read_file(&disk, &segment);
        let (_, recovery) = open(&disk);
        assert_eq!(queues_of(&recovery.damage), [[Q1]]);
        assert_eq!((recovery.damage[0].what.as_str(), &recovery.damage[0].file), (what, &segment));
        assert_eq!(read_file(&disk, &segment), before);
    }
    disk.remove(&segment).unwrap();
    assert_eq!(open(&disk).1.damage[0].what, "the file is missing");
}

#[test]
fn a_log_file_that_is_missing_is_noticed() {
    let disk = MemDisk::new();
    for payload in [b"one", b"two"] {
        let (store, _) = open(&disk);
        publish(&store, &[Q1], payload);
        store.commit().unwrap();
    }
    drop(open(&disk));
    disk.remove("log/00000002.log").unwrap();
    let (_, recovery) = open(&disk);
    assert_eq!(recovery.damage[0].file, "log/00000002.log");
    assert_eq!(left(&recovery)[&Q1].len(), 1);
}

fn refusal(disk: &MemDisk) -> OpenError {
    let before: Vec<_> = all_files(disk).into_iter().map(|path| (read_file(disk, &path), path)).collect();
    let error = Store::open(Arc::new(disk.clone()), Options::default()).map(drop).unwrap_err();
    let after: Vec<_> = all_files(disk).into_iter().map(|path| (read_file(disk, &path), path)).collect();
    assert_eq!(before, after, "a refused directory was changed");
    error
}

#[test]
fn a_flipped_bit_in_the_version_names_the_file() {
    let (disk, _) = settled();
    edit(&disk, "FORMAT", |bytes| bytes[9] ^= 0x80);
    let said = refusal(&disk).to_string();
    assert!(said.contains("FORMAT says format 32769") && said.contains("or damaged"), "{said}");
}

#[test]
fn what_cannot_be_trusted_is_refused_and_not_touched() {
    let (disk, _) = settled();
    let newer = copy(&disk);
    edit(&newer, "FORMAT", |bytes| bytes[8] = 2);
    assert!(matches!(refusal(&newer), OpenError::NewerFormat { found: 2, supported: 1 }));
    let flipped = copy(&disk);
    edit(&flipped, "checkpoint", |bytes| bytes[20] ^= 1);
    assert!(matches!(refusal(&flipped), OpenError::Damaged { .. }));
    let without = copy(&disk);
    without.remove("checkpoint").unwrap();
    assert!(matches!(refusal(&without), OpenError::Damaged { .. }));
    let no_log = copy(&disk);
    no_log.list("log").unwrap().iter().for_each(|name| no_log.remove(&format!("log/{name}")).unwrap());
    assert!(matches!(refusal(&no_log), OpenError::Damaged { .. }));
    let no_format = copy(&disk);
    no_format.remove("FORMAT").unwrap();
    assert!(matches!(refusal(&no_format), OpenError::ForeignDirectory { .. }));
    let (_store, _) = open(&disk);
    assert!(matches!(refusal(&disk), OpenError::InUse));
}

/// Counts what is read from segment files.
struct CountingDisk {
    disk: MemDisk,
    segment_bytes: Arc<AtomicU64>,
}

struct CountingFile {
    file: Box<dyn DiskFile>,
    read: Arc<AtomicU64>,
}

impl Disk for CountingDisk {
    fn create_dir(&self, dir: &str) -> std::io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn list(&self, dir: &str) -> std::io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn create(&self, path: &str) -> std::io::Result<Box<dyn DiskFile>> {
        self.disk.create(path)
    }
    fn open(&self, path: &str) -> std::io::Result<Box<dyn DiskFile>> {
        let read = if path.ends_with(".seg") { self.segment_bytes.clone() } else { Arc::default() };
        Ok(Box::new(CountingFile { file: self.disk.open(path)?, read }))
    }
    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir(&self, dir: &str) -> std::io::Result<()> {
        self.disk.remove_dir(dir)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self, dir: &str) -> std::io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &str) -> std::io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
    fn free_bytes(&self) -> std::io::Result<u64> {
        self.disk.free_bytes()
    }
}

impl DiskFile for CountingFile {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let count = self.file.read_at(buf, offset)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> std::io::Result<()> {
        self.file.write_at(data, offset)
    }
    fn allocate(&self, len: u64) -> std::io::Result<()> {
        self.file.allocate(len)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

#[test]
fn recovery_does_not_read_the_bodies_of_segments() {
    let disk = MemDisk::new();
    let body = vec![7; 100_000];
    let (count, segment_bytes) = (40u32, Arc::new(AtomicU64::new(0)));
    {
        let (store, _) = Store::open(Arc::new(disk.clone()), Options::default()).unwrap();
        let alive: Vec<_> = (0..count).map(|_| (publish(&store, &[Q1], &body), 100_000)).collect();
        let acked = alive[17].0;
        let mut queues = [(Q1, (alive, Segments::new(Q1, false)))].into();
        settle_all(&store, &mut queues);
        // Makes recovery look for this message in the segments.
        store.ack(Q1, &[acked]).unwrap();
        store.commit().unwrap();
    }
    let counting = CountingDisk { disk, segment_bytes: segment_bytes.clone() };
    let (store, mut recovery) = Store::open(Arc::new(counting), Options::default()).unwrap();
    let segments = &mut recovery.queues[0].segments;
    assert_eq!(segments.ready_len(), u64::from(count) - 1);
    let read = segment_bytes.load(Ordering::Relaxed);
    assert!(read < u64::from(count) * 100, "recovery read {read} bytes of 4 MB");
    assert!(matches!(segments.peek(&store), Ok(Some(head)) if matches!(head.place, Place::Segment { .. })));
}
