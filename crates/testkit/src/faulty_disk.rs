//! A disk that forgets: whatever was not synced may be lost, torn or reordered when the power goes.
//!
//! ```text
//!   write ──▶ live bytes + a list of unsynced writes ── sync_data ──▶ durable bytes
//!   create, rename, remove ──▶ live names + unsynced changes ── sync_dir ──▶ durable names
//!
//!   Crash::Kill      the process is gone, the page cache is not: live stays, and stays unsynced
//!   Crash::PowerCut  durable, plus any part of what was not synced: 512-byte sectors each for themselves
//! ```
//!
//! Assumption about the medium, as in `docs/format.md`: a sector that is rewritten holds the old or the new
//! bytes. A sector in which nothing was ever synced may hold anything. Everything is decided by the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use leveret_store::{Disk, DiskFile};
use parking_lot::Mutex;

use crate::random::Random;

const SECTOR_BYTES: u64 = 512;

/// How the program on the disk ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the operating system keeps what was written.
    Kill,
    /// The machine dies; only what was synced is certain.
    PowerCut,
}

/// The disk. A clone is the same disk.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    random: Random,
    /// Names as the running program sees them.
    live: Names,
    /// Names that a power cut leaves for certain.
    durable: Names,
    unsynced_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locked: BTreeSet<String>,
    /// Counts restarts: what an earlier process holds open is dead.
    process: u64,
    down: bool,
    operations: u64,
    crash_at: Option<u64>,
    syncs: u64,
    fail_sync_at: Option<u64>,
    capacity_bytes: Option<u64>,
    read_bytes: u64,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<String, u64>,
    dirs: BTreeSet<String>,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<DataChange>,
}

#[derive(Clone)]
enum DataChange {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    SetLen(u64),
    /// Grows only.
    Allocate(u64),
}

#[derive(Clone)]
enum NameChange {
    Create { path: String, inode: u64 },
    Rename { from: String, to: String, inode: u64 },
    Remove { path: String },
    MakeDir { path: String },
    RemoveDir { path: String },
}

impl NameChange {
    /// The folder whose sync makes the change durable.
    fn dir(&self) -> &str {
        match self {
            Self::Create { path, .. } | Self::Remove { path } => parent(path),
            Self::Rename { to, .. } => parent(to),
            Self::MakeDir { path } | Self::RemoveDir { path } => parent(path),
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create { path, inode } => drop(names.files.insert(path.clone(), *inode)),
            Self::Rename { from, to, inode } => {
                names.files.remove(from);
                names.files.insert(to.clone(), *inode);
            }
            Self::Remove { path } => drop(names.files.remove(path)),
            Self::MakeDir { path } => drop(names.dirs.insert(path.clone())),
            Self::RemoveDir { path } => drop(names.dirs.remove(path)),
        }
    }
}

impl DataChange {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => write(bytes, *offset, data),
            Self::SetLen(len) => bytes.resize(*len as usize, 0),
            Self::Allocate(len) => bytes.resize(bytes.len().max(*len as usize), 0),
        }
    }
}

fn write(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl FaultyDisk {
    /// An empty disk that decides by `seed` what a crash destroys.
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            live: Names::default(),
            durable: Names::default(),
            unsynced_names: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            locked: BTreeSet::new(),
            process: 0,
            down: false,
            operations: 0,
            crash_at: None,
            syncs: 0,
            fail_sync_at: None,
            capacity_bytes: None,
            read_bytes: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The process dies in the `operations`-th change or sync from now (1 = the next one).
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.crash_at = Some(state.operations + operations);
    }

    /// The `syncs`-th sync from now fails once, and what it should have synced never becomes durable.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut state = self.state.lock();
        state.fail_sync_at = Some(state.syncs + syncs);
    }

    /// Total length of all files beyond which writes fail with "no space"; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// Total length of all files.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// Changes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.state.lock().read_bytes
    }

    /// True after the crash that was asked for has happened.
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Ends the process, if it still runs, and makes the disk ready for the next one.
    pub fn restart(&self, crash: Crash) {
        let mut state = self.state.lock();
        if crash == Crash::PowerCut {
            state.cut_power();
        }
        state.process += 1;
        state.down = false;
        state.crash_at = None;
        state.fail_sync_at = None;
        state.locked.clear();
    }

    /// Another disk with the same content.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let other = Self::new(seed);
        let (from, mut to) = (self.state.lock(), other.state.lock());
        to.live = from.live.clone();
        to.durable = from.durable.clone();
        to.unsynced_names = from.unsynced_names.clone();
        to.inodes = from.inodes.clone();
        to.next_inode = from.next_inode;
        drop(to);
        other
    }

    /// All files and their lengths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.state.lock();
        let files = state.live.files.iter();
        files.map(|(path, inode)| (path.clone(), state.inodes[inode].live.len() as u64)).collect()
    }

    /// Changes a file behind the back of the program, as bit rot does; `false` when it does not exist.
    pub fn damage(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        let Some(inode) = state.live.files.get(path).copied() else { return false };
        let inode = state.inodes.entry(inode).or_default();
        change(&mut inode.live);
        inode.durable.clone_from(&inode.live);
        inode.unsynced.clear();
        true
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.live.files.values().map(|inode| self.inodes[inode].live.len() as u64).sum()
    }

    fn check_up(&self, process: u64) -> io::Result<()> {
        if self.down || process != self.process {
            return Err(io::Error::other("the simulated process has crashed"));
        }
        Ok(())
    }

    /// Counts a change or sync. `Ok(true)`: it happens. `Ok(false)`: the crash comes in the middle of it.
    fn count(&mut self, process: u64) -> io::Result<bool> {
        self.check_up(process)?;
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            self.down = true;
            return Ok(false);
        }
        Ok(true)
    }

    fn crashed<T>() -> io::Result<T> {
        Err(io::Error::other("the simulated process crashes here"))
    }

    /// Runs a change of names; the crash may come just before or just after it.
    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        let happens = self.count(self.process)?;
        if happens || self.random.chance(1, 2) {
            change.apply(&mut self.live);
            self.unsynced_names.push(change);
        }
        if happens { Ok(()) } else { Self::crashed() }
    }

    fn change_data(&mut self, process: u64, inode: u64, change: DataChange) -> io::Result<()> {
        let happens = self.count(process)?;
        self.check_space(inode, &change)?;
        let change = if happens { Some(change) } else { self.cut_short(change) };
        if let Some(change) = change {
            let inode = self.inodes.entry(inode).or_default();
            change.apply(&mut inode.live);
            inode.unsynced.push(change);
        }
        if happens { Ok(()) } else { Self::crashed() }
    }

    /// What a process that dies inside a write leaves of it.
    fn cut_short(&mut self, change: DataChange) -> Option<DataChange> {
        match change {
            DataChange::Write { offset, mut data } => {
                data.truncate(self.random.below(data.len() as u64 + 1) as usize);
                (!data.is_empty()).then_some(DataChange::Write { offset, data })
            }
            other => self.random.chance(1, 2).then_some(other),
        }
    }

    fn check_space(&self, inode: u64, change: &DataChange) -> io::Result<()> {
        let Some(capacity) = self.capacity_bytes else { return Ok(()) };
        let len = self.inodes[&inode].live.len() as u64;
        let needed = match change {
            DataChange::Write { offset, data } => offset + data.len() as u64,
            DataChange::SetLen(len) | DataChange::Allocate(len) => *len,
        };
        if needed > len && self.used_bytes() + (needed - len) > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Counts a sync; an error when it is the one that fails.
    fn count_sync(&mut self, process: u64) -> io::Result<SyncOutcome> {
        let happens = self.count(process)?;
        self.syncs += 1;
        if self.fail_sync_at == Some(self.syncs) {
            return Ok(SyncOutcome::Fails);
        }
        Ok(if happens { SyncOutcome::Happens } else { SyncOutcome::Crashes })
    }

    fn cut_power(&mut self) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let kept = self.random.some_of(changes);
        kept.iter().for_each(|change| change.apply(&mut self.durable));
        let dirs = self.durable.dirs.clone();
        self.durable.files.retain(|path, _| parent(path).is_empty() || dirs.contains(parent(path)));
        self.live = self.durable.clone();
        let named: BTreeSet<u64> = self.live.files.values().copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
        for inode in self.inodes.values_mut() {
            inode.cut_power(&mut self.random);
        }
    }
}

enum SyncOutcome {
    Happens,
    Fails,
    Crashes,
}

impl SyncOutcome {
    fn error(&self) -> io::Error {
        io::Error::other(match self {
            Self::Crashes => "the simulated process crashes here",
            Self::Happens | Self::Fails => "the simulated sync failed",
        })
    }
}

impl Inode {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
    }

    fn cut_power(&mut self, random: &mut Random) {
        let synced = self.durable.clone();
        let pieces = std::mem::take(&mut self.unsynced).iter().flat_map(DataChange::pieces).collect();
        for piece in random.some_of(pieces) {
            piece.apply(&mut self.durable);
        }
        if random.chance(1, 4) {
            self.scramble_unsynced(&synced, random);
        }
        self.live = self.durable.clone();
    }

    /// A sector in which nothing was synced, in a file that was growing, may show what was there before.
    fn scramble_unsynced(&mut self, synced: &[u8], random: &mut Random) {
        let first = synced.len().next_multiple_of(SECTOR_BYTES as usize);
        for at in (first..self.durable.len()).step_by(SECTOR_BYTES as usize) {
            let end = self.durable.len().min(at + SECTOR_BYTES as usize);
            if random.chance(1, 3) {
                self.durable[at..end].iter_mut().for_each(|byte| *byte = random.next() as u8);
            }
        }
    }
}

impl DataChange {
    /// The parts that reach the medium each for itself.
    fn pieces(&self) -> Vec<Self> {
        let Self::Write { offset, data } = self else { return vec![self.clone()] };
        let mut pieces = Vec::new();
        let mut at = *offset;
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let room = (SECTOR_BYTES - at % SECTOR_BYTES).min(rest.len() as u64);
            let (sector, tail) = rest.split_at(room as usize);
            pieces.push(Self::Write { offset: at, data: sector.to_vec() });
            at += room;
            rest = tail;
        }
        pieces
    }
}

impl Disk for FaultyDisk {
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_up(state.process)?;
        if dir.is_empty() || state.live.dirs.contains(dir) {
            return Ok(());
        }
        state.change_name(NameChange::MakeDir { path: dir.to_owned() })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_up(state.process)?;
        let paths = state.live.files.keys().chain(&state.live.dirs).filter(|path| parent(path) == dir);
        let names =
            paths.map(|path| path.strip_prefix(dir).unwrap_or(path).trim_start_matches('/').to_owned());
        Ok(names.filter(|name| !name.is_empty()).collect())
    }

    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        if let Some(inode) = state.live.files.get(path).copied() {
            let process = state.process;
            state.change_data(process, inode, DataChange::SetLen(0))?;
            return Ok(self.handle(&state, inode));
        }
        if !parent(path).is_empty() && !state.live.dirs.contains(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(NameChange::Create { path: path.to_owned(), inode })?;
        Ok(self.handle(&state, inode))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>> {
        let state = self.state.lock();
        state.check_up(state.process)?;
        let inode = state.live.files.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&state, inode))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_up(state.process)?;
        if !state.live.files.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Remove { path: path.to_owned() })
    }

    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        if !self.list(dir)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let mut state = self.state.lock();
        if !state.live.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::RemoveDir { path: dir.to_owned() })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_up(state.process)?;
        let inode = state.live.files.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        state.change_name(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), inode })
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        let process = state.process;
        let outcome = state.count_sync(process)?;
        let changes = std::mem::take(&mut state.unsynced_names);
        let (here, elsewhere): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.dir() == dir);
        match outcome {
            SyncOutcome::Happens => {
                here.iter().for_each(|change| change.apply(&mut state.durable));
                state.unsynced_names = elsewhere;
                Ok(())
            }
            // Names are journalled: unlike data pages they are not forgotten, only not yet durable.
            SyncOutcome::Fails | SyncOutcome::Crashes => {
                state.unsynced_names = here.into_iter().chain(elsewhere).collect();
                Err(outcome.error())
            }
        }
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        if self.open(path).is_err() {
            self.create(path)?;
        }
        let mut state = self.state.lock();
        if !state.locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(HeldLock { disk: self.clone(), process: state.process, path: path.to_owned() }))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes())))
    }
}

impl FaultyDisk {
    fn handle(&self, state: &State, inode: u64) -> Box<dyn DiskFile> {
        Box::new(FaultyFile { disk: self.clone(), process: state.process, inode })
    }
}

struct HeldLock {
    disk: FaultyDisk,
    process: u64,
    path: String,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.process == self.process {
            state.locked.remove(&self.path);
        }
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    process: u64,
    inode: u64,
}

impl FaultyFile {
    fn change(&self, change: DataChange) -> io::Result<()> {
        self.disk.state.lock().change_data(self.process, self.inode, change)
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state.lock();
        state.check_up(self.process)?;
        Ok(state.inodes[&self.inode].live.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        state.check_up(self.process)?;
        let live = &state.inodes[&self.inode].live;
        let tail = live.get(offset as usize..).unwrap_or_default();
        let count = tail.len().min(buf.len());
        buf[..count].copy_from_slice(&tail[..count]);
        state.read_bytes += count as u64;
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.change(DataChange::Write { offset, data: data.to_vec() })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.change(DataChange::Allocate(len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(DataChange::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let outcome = state.count_sync(self.process)?;
        let inode = state.inodes.entry(self.inode).or_default();
        match outcome {
            SyncOutcome::Happens => inode.sync(),
            // The kernel calls the pages clean although they never arrived.
            SyncOutcome::Fails => {
                inode.unsynced.clear();
                return Err(outcome.error());
            }
            SyncOutcome::Crashes => return Err(outcome.error()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(disk: &FaultyDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
        let file = disk.create(path).unwrap();
        file.write_at(bytes, 0).unwrap();
        file
    }

    /// What is left of one file of `"abc"` after `prepare`, over many seeds: how often it is there and whole.
    fn survival(prepare: impl Fn(&FaultyDisk, &dyn DiskFile), crash: Crash) -> (usize, usize) {
        let outcomes = (0..200).map(|seed| {
            let disk = FaultyDisk::new(seed);
            let file = file_with(&disk, "f", b"abc");
            prepare(&disk, &*file);
            disk.restart(crash);
            let mut buf = [0; 3];
            disk.open("f").ok().map(|file| file.read_at(&mut buf, 0).unwrap() == 3 && &buf == b"abc")
        });
        let outcomes: Vec<_> = outcomes.collect();
        (outcomes.iter().flatten().count(), outcomes.iter().filter(|outcome| **outcome == Some(true)).count())
    }

    #[test]
    fn only_what_is_synced_is_certain() {
        let nothing = survival(|_, _| {}, Crash::PowerCut);
        assert!((1..200).contains(&nothing.0) && (1..nothing.0).contains(&nothing.1), "{nothing:?}");
        let data_only = survival(|_, file| file.sync_data().unwrap(), Crash::PowerCut);
        assert!((1..200).contains(&data_only.0) && data_only.0 == data_only.1, "{data_only:?}");
        let name_only = survival(|disk, _| disk.sync_dir("").unwrap(), Crash::PowerCut);
        assert!(name_only.0 == 200 && (1..200).contains(&name_only.1), "{name_only:?}");
        let both = |disk: &FaultyDisk, file: &dyn DiskFile| {
            file.sync_data().unwrap();
            disk.sync_dir("").unwrap();
        };
        assert_eq!(survival(both, Crash::PowerCut), (200, 200));
        assert_eq!(survival(|_, _| {}, Crash::Kill), (200, 200));
    }

    #[test]
    fn a_failed_sync_never_makes_anything_durable() {
        let fail = |disk: &FaultyDisk, file: &dyn DiskFile| {
            disk.sync_dir("").unwrap();
            disk.fail_sync_after(1);
            assert!(file.sync_data().is_err());
            assert!(file.sync_data().is_ok());
        };
        assert_eq!(survival(fail, Crash::PowerCut), (200, 0));
    }

    #[test]
    fn a_dead_process_can_do_nothing_more() {
        let disk = FaultyDisk::new(1);
        let file = file_with(&disk, "f", b"abc");
        let lock = disk.lock("lock").unwrap();
        assert!(disk.lock("lock").is_err());
        disk.crash_after(1);
        assert!(file.sync_data().is_err());
        assert!(disk.is_down() && file.write_at(b"x", 0).is_err() && disk.list("").is_err());
        disk.restart(Crash::Kill);
        assert!(file.write_at(b"x", 0).is_err() && disk.create("g").is_ok());
        let held = disk.lock("lock").unwrap();
        drop(lock);
        assert!(disk.lock("lock").is_err());
        drop(held);
    }

    #[test]
    fn a_full_disk_says_so_and_recovers() {
        let disk = FaultyDisk::new(1);
        let file = file_with(&disk, "f", b"abc");
        disk.set_capacity(Some(4));
        assert_eq!(file.write_at(b"abc", 3).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(file.write_at(b"xyz", 0).is_ok());
        disk.set_capacity(None);
        assert!(file.write_at(b"abc", 3).is_ok());
        assert_eq!(disk.used_bytes(), 6);
    }
}
