//! A disk in memory: embedded brokers without files, and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::disk::{Disk, DiskFile};

/// A disk in memory. A clone is the same disk, so a store can be closed and opened again on it.
#[derive(Debug, Clone, Default)]
pub struct MemDisk {
    tree: Arc<Mutex<Tree>>,
}

#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<String, Arc<MemFile>>,
    dirs: BTreeSet<String>,
    locked: BTreeSet<String>,
}

impl MemDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }
}

/// True when `path` names something directly inside `dir`; gives the name.
fn name_in<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    let rest = if dir.is_empty() { path } else { path.strip_prefix(dir)?.strip_prefix('/')? };
    (!rest.is_empty() && !rest.contains('/')).then_some(rest)
}

impl Disk for MemDisk {
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.tree.lock().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let tree = self.tree.lock();
        let paths = tree.files.keys().chain(&tree.dirs);
        Ok(paths.filter_map(|path| name_in(path, dir)).map(str::to_owned).collect())
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut tree = self.tree.lock();
        let file = tree.files.entry(path.to_owned()).or_default();
        file.content.write().truncate(0);
        Ok(Box::new(MemHandle(file.clone())))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let tree = self.tree.lock();
        let file = tree.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemHandle(file.clone())))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let removed = self.tree.lock().files.remove(path);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let removed = self.tree.lock().dirs.remove(dir);
        if removed { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut tree = self.tree.lock();
        let file = tree.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        tree.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, _dir: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        let mut tree = self.tree.lock();
        tree.files.entry(path.to_owned()).or_default();
        if !tree.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemLock { tree: self.tree.clone(), path: path.to_owned() }))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct MemLock {
    tree: Arc<Mutex<Tree>>,
    path: String,
}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.tree.lock().locked.remove(&self.path);
    }
}

/// Allocated space is a number only: a 64 MiB log file costs what was written to it.
#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    len: u64,
}

impl Content {
    fn truncate(&mut self, len: u64) {
        self.len = len;
        if (self.bytes.len() as u64) > len {
            self.bytes.truncate(len as usize);
        }
    }
}

#[derive(Debug, Default)]
struct MemFile {
    content: RwLock<Content>,
}

struct MemHandle(Arc<MemFile>);

impl DiskFile for MemHandle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.content.read().len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.0.content.read();
        let count = content.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let stored = content.bytes.get(offset.min(content.bytes.len() as u64) as usize..).unwrap_or_default();
        let copied = count.min(stored.len());
        buf[..copied].copy_from_slice(&stored[..copied]);
        buf[copied..count].fill(0);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.0.content.write();
        let (start, end) = (offset as usize, offset as usize + data.len());
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(data);
        content.len = content.len.max(end as u64);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut content = self.0.content.write();
        content.len = content.len.max(len);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.content.write().truncate(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
