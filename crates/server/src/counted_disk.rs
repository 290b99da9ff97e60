//! A disk that counts what is done with it, and how long that takes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use leveret_store::{Disk, DiskFile};

/// What one kind of call came to since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskWork {
    /// Calls.
    pub count: u64,
    /// Octets read or written; 0 for syncs.
    pub bytes: u64,
    /// Time spent in these calls, µs.
    pub time_us: u64,
}

/// What the broker did with its disk since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// Reads.
    pub reads: DiskWork,
    /// Writes.
    pub writes: DiskWork,
    /// Syncs of files and directories.
    pub syncs: DiskWork,
}

/// Where it is counted.
#[derive(Debug, Default)]
pub(crate) struct DiskCounts {
    reads: Work,
    writes: Work,
    syncs: Work,
}

impl DiskCounts {
    pub(crate) fn facts(&self) -> DiskFacts {
        DiskFacts { reads: self.reads.facts(), writes: self.writes.facts(), syncs: self.syncs.facts() }
    }
}

#[derive(Debug, Default)]
struct Work {
    count: AtomicU64,
    bytes: AtomicU64,
    time_us: AtomicU64,
}

impl Work {
    /// Does it, and counts it whether it succeeds or not. A call to the kernel costs a hundred times as much.
    fn time<T>(&self, bytes: impl FnOnce(&T) -> u64, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let began = Instant::now();
        let done = call();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.time_us.fetch_add(began.elapsed().as_micros() as u64, Ordering::Relaxed);
        if let Ok(done) = &done {
            self.bytes.fetch_add(bytes(done), Ordering::Relaxed);
        }
        done
    }

    fn facts(&self) -> DiskWork {
        DiskWork {
            count: self.count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            time_us: self.time_us.load(Ordering::Relaxed),
        }
    }
}

/// Any disk, counted.
pub(crate) struct CountedDisk {
    disk: Arc<dyn Disk>,
    counts: Arc<DiskCounts>,
}

impl CountedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>, counts: Arc<DiskCounts>) -> Arc<Self> {
        Arc::new(Self { disk, counts })
    }

    fn counted(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(CountedFile { file, counts: self.counts.clone() })
    }
}

impl Disk for CountedDisk {
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path).map(|file| self.counted(file))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path).map(|file| self.counted(file))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.counts.syncs.time(|()| 0, || self.disk.sync_dir(dir))
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

struct CountedFile {
    file: Box<dyn DiskFile>,
    counts: Arc<DiskCounts>,
}

impl DiskFile for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.counts.reads.time(|count| *count as u64, || self.file.read_at(buf, offset))
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.counts.writes.time(|()| data.len() as u64, || self.file.write_at(data, offset))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.time(|()| 0, || self.file.sync_data())
    }
}

#[cfg(test)]
mod tests {
    use leveret_store::MemDisk;

    use super::*;

    #[test]
    fn what_is_done_is_counted() {
        let counts = Arc::new(DiskCounts::default());
        let disk = CountedDisk::new(Arc::new(MemDisk::new()), counts.clone());
        let file = disk.create("a").unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir("").unwrap();
        let mut buffer = [0; 3];
        assert_eq!(disk.open("a").unwrap().read_at(&mut buffer, 1).unwrap(), 3);
        let facts = counts.facts();
        assert_eq!((facts.writes.count, facts.writes.bytes), (1, 5));
        assert_eq!((facts.reads.count, facts.reads.bytes), (1, 3));
        assert_eq!((facts.syncs.count, facts.syncs.bytes), (2, 0));
    }
}
