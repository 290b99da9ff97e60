//! Opening: checkpoint + log files after it = the state at the moment of the stop.
//!
//! Nothing that is damaged is deleted or overwritten, and nothing torn is: the log simply goes on in a new
//! file whose header says where the old content ended. So an open that crashes half-way can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::checkpoint::{self, Checkpoint};
use crate::checksum::Seed;
use crate::commit::Committer;
use crate::disk::{Disk, DiskFile, read_exact_at};
use crate::error::{CommitError, OpenError, ReadError};
use crate::format_file::{ClaimedDirectory, claim};
use crate::gather::{Gather, GatheredBatch};
use crate::guard::GuardedDisk;
use crate::log_file::{LOG_DIR, LogFile, LogHeader, log_path, parse_log_name};
use crate::log_reader::{self, LogItem, LogRecord};
use crate::meta::{self, MetaMap};
use crate::place::{LogFileNumber, MessageId, Position, QueueId};
use crate::queue_folders::QueueFolders;
use crate::recovered_queue::{QueueLog, RecoveredQueue};
use crate::segment::{parse_queue_dir, parse_segment_name, queue_dir, queues_dir};
use crate::segment_files::SegmentFiles;
use crate::segment_table::SegmentTable;
use crate::segments::Segments;
use crate::settle::remove_dir_quietly;
use crate::store::{Options, Store};

/// Positions skipped at each open: more than can ever have been appended and lost, so none is used twice.
const RUN_GAP: u64 = 1 << 32;

/// The last batch is written again in pieces of this size.
const REWRITE_CHUNK_BYTES: u64 = 1 << 20;

/// What was found in a data directory.
#[derive(Debug)]
pub struct Recovery {
    /// The key/value map.
    pub meta: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Queues that have messages or files, in the order of their ids.
    pub queues: Vec<RecoveredQueue>,
    /// Everything that is not as it was written. Nothing of it was deleted.
    pub damage: Vec<Damage>,
    /// The notes of a clean stop; `None` when the last stop was not clean.
    pub clean: Option<Vec<(QueueId, Vec<u8>)>>,
    /// Octets at the log's end that a crash left half-written and that were never confirmed, or damage that looks like that: cut off.
    pub torn_bytes: u64,
    /// No id below this one is given out from now on.
    pub next_id: MessageId,
}

/// Bytes that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Path inside the data directory.
    pub file: String,
    /// Where in the file, bytes.
    pub offset: u64,
    /// Whose messages they were; empty when that cannot be told.
    pub queues: Vec<QueueId>,
    /// What was found.
    pub what: String,
}

impl Store {
    /// Opens a data directory, or founds one in an empty folder.
    ///
    /// Reads the log files (never segment bodies); memory is index entries only.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was deleted or overwritten then.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovery), OpenError> {
        let claimed = claim(&*disk)?;
        let guard = GuardedDisk::new(disk);
        found_folders(&guard)?;
        let seed = Seed::new(claimed.id);
        let checkpoint = checkpoint::load(guard.raw(), seed)?;
        let mut scan = LogScan::new(seed, claimed.id, checkpoint);
        scan.read_all(guard.raw())?;
        scan.sync_newest(&guard)?;
        Opening { guard, claimed, options, scan }.finish()
    }
}

/// The folders every data directory has. Synced also when they exist: names that a killed process gave must be
/// durable before anything is built on them.
fn found_folders(guard: &GuardedDisk) -> Result<(), OpenError> {
    guard.sync_dir("").map_err(open_error)?;
    let names = guard.raw().list("")?;
    let mut missing = vec![LOG_DIR, queues_dir(false), queues_dir(true)];
    missing.retain(|dir| !names.iter().any(|name| name == dir));
    for dir in &missing {
        guard.create_dir(dir).map_err(open_error)?;
    }
    if !missing.is_empty() {
        guard.sync_dir("").map_err(open_error)?;
    }
    guard.sync_dir(LOG_DIR).map_err(open_error)
}

fn open_error(error: CommitError) -> OpenError {
    let kind = match error {
        CommitError::DiskFull => std::io::ErrorKind::StorageFull,
        CommitError::Failed(_) => std::io::ErrorKind::Other,
    };
    OpenError::Io(std::io::Error::new(kind, error))
}

/// The log files as they are read, one after another.
struct LogScan {
    seed: Seed,
    directory_id: u64,
    checkpoint: Checkpoint,
    meta: MetaMap,
    queues: BTreeMap<QueueId, QueueLog>,
    logs: Vec<LogFile>,
    headers: BTreeMap<LogFileNumber, LogHeader>,
    dropped: BTreeSet<QueueId>,
    bad_messages: BTreeMap<MessageId, Damage>,
    damage: Vec<Damage>,
    clean: Option<Vec<(QueueId, Vec<u8>)>>,
    torn_bytes: u64,
    end: Position,
    /// Of the newest log file.
    last_batch: Option<Range<u64>>,
}

impl LogScan {
    fn new(seed: Seed, directory_id: u64, mut checkpoint: Checkpoint) -> Self {
        let meta = std::mem::take(&mut checkpoint.meta);
        Self {
            seed,
            directory_id,
            checkpoint,
            meta,
            queues: BTreeMap::new(),
            logs: Vec::new(),
            headers: BTreeMap::new(),
            dropped: BTreeSet::new(),
            bad_messages: BTreeMap::new(),
            damage: Vec::new(),
            clean: None,
            torn_bytes: 0,
            end: 1,
            last_batch: None,
        }
    }

    fn read_all(&mut self, disk: &dyn Disk) -> Result<(), OpenError> {
        let names = disk.list(LOG_DIR)?;
        let mut numbers: Vec<_> = names.iter().filter_map(|name| parse_log_name(name)).collect();
        numbers.sort_unstable();
        let mut files = BTreeMap::new();
        for number in numbers {
            let file = disk.open(&log_path(number))?;
            if let Some(header) = log_reader::read_header(&*file, number, self.directory_id)? {
                self.headers.insert(number, header);
            }
            files.insert(number, file);
        }
        self.check_checkpoint(files.keys().next(), files.keys().next_back())?;
        let mut expected = self.checkpoint.settled_through.saturating_add(1);
        for (number, file) in files {
            if number.0 <= self.checkpoint.settled_through {
                continue;
            }
            if expected < number.0 {
                let what = format!("{} log files are missing from here on", number.0 - expected);
                self.add_damage(log_path(LogFileNumber(expected)), 0, Vec::new(), &what);
            }
            expected = number.0.saturating_add(1);
            self.read_file(number, file)?;
        }
        Ok(())
    }

    /// The log says how new the checkpoint must at least be, and the checkpoint that there must be a log.
    fn check_checkpoint(
        &self,
        oldest: Option<&LogFileNumber>,
        newest: Option<&LogFileNumber>,
    ) -> Result<(), OpenError> {
        let settled_through = self.checkpoint.settled_through;
        let never_written = settled_through == 0;
        let outdated = self.headers.values().any(|header| header.settled_through > settled_through);
        if outdated || never_written && oldest.is_some_and(|oldest| oldest.0 > 1) {
            return Err(checkpoint::damaged("missing, or older than the log"));
        }
        if !never_written && newest.is_none_or(|newest| newest.0 <= settled_through) {
            return Err(OpenError::Damaged {
                file: LOG_DIR.to_owned(),
                what: "the newest log files are missing",
            });
        }
        Ok(())
    }

    fn read_file(&mut self, number: LogFileNumber, file: Box<dyn DiskFile>) -> Result<(), OpenError> {
        // Only the very next file knows where this one ended.
        let next = self.headers.get(&LogFileNumber(number.0.saturating_add(1)));
        let limit = next.map(|header| header.previous_end);
        let damage_before = self.damage.len() + self.bad_messages.len();
        let start = self.start_of(number, &*file, limit)?;
        let (seed, path) = (self.seed, log_path(number));
        // A note of a clean stop counts only if nothing at all, not even an empty file, comes after it.
        self.clean = None;
        let end = log_reader::read_log(&*file, seed, start, limit, &mut |item| self.take(item, &path))?;
        self.torn_bytes += end.torn_bytes;
        self.end = self.end.max(end.end);
        self.last_batch = end.last_batch;
        self.check_capacity(number, &*file)?;
        let damaged = self.damage.len() + self.bad_messages.len() > damage_before;
        self.logs.push(LogFile { number, start, file, damaged: damaged.into() });
        Ok(())
    }

    /// A file keeps its reserved length until a clean stop trims it. The newest one has no successor that says
    /// where it ended, so this is how a lost tail is told from a torn one.
    fn check_capacity(&mut self, number: LogFileNumber, file: &dyn DiskFile) -> Result<(), OpenError> {
        let Some(header) = self.headers.get(&number) else { return Ok(()) };
        let newest = self.headers.keys().next_back() == Some(&number);
        let len = file.len()?;
        if newest && self.clean.is_none() && len < header.capacity {
            self.add_damage(log_path(number), len, Vec::new(), "the file was cut");
        }
        Ok(())
    }

    /// Where a file begins. Its header was synced before it got its name, so a bad one is damage, not a crash.
    fn start_of(
        &mut self,
        number: LogFileNumber,
        file: &dyn DiskFile,
        limit: Option<Position>,
    ) -> Result<Position, OpenError> {
        if let Some(header) = self.headers.get(&number) {
            return Ok(header.start);
        }
        self.add_damage(log_path(number), 0, Vec::new(), "bad log file header");
        let guess = log_reader::guess_start(file, self.seed, self.end)?;
        Ok(guess.or(limit).unwrap_or(self.end))
    }

    fn take(&mut self, item: LogItem, path: &str) {
        self.clean = None;
        match item {
            LogItem::Record(record) => self.apply(record),
            LogItem::BadMessage { transient: true, .. } => {}
            LogItem::BadMessage { id, queues, offset, .. } => {
                for queue in &queues {
                    self.queues.entry(*queue).or_default().damaged_message(id);
                }
                let what = "the payload's checksum is wrong".to_owned();
                self.bad_messages.insert(id, Damage { file: path.to_owned(), offset, queues, what });
            }
            LogItem::BadControl { queues, offset } => {
                self.add_damage(path.to_owned(), offset, queues, "a record's checksum is wrong");
            }
            LogItem::Gap { offset, what } => self.add_damage(path.to_owned(), offset, Vec::new(), what),
        }
    }

    fn apply(&mut self, record: LogRecord) {
        match record {
            LogRecord::Publish { transient: true, .. } => {}
            LogRecord::Publish { id, attributes, queues, len, .. } => {
                for queue in queues {
                    self.queues.entry(queue).or_default().publish(id, attributes, len);
                }
            }
            LogRecord::Ack { queue, ids } => {
                let log = self.queues.entry(queue).or_default();
                ids.into_iter().for_each(|id| log.ack(id));
            }
            LogRecord::Purge { queue, up_to, keep } => {
                self.queues.entry(queue).or_default().purge(up_to, keep)
            }
            LogRecord::Meta(changes) => meta::apply(&mut self.meta, changes),
            LogRecord::Drop(queue) => {
                self.dropped.insert(queue);
            }
            LogRecord::Clean(notes) => self.clean = Some(notes),
        }
    }

    fn add_damage(&mut self, file: String, offset: u64, queues: Vec<QueueId>, what: &str) {
        self.damage.push(Damage { file, offset, queues, what: what.to_owned() });
    }

    /// A killed process may have left the last batch in the page cache only. It counts from now on, so it must
    /// be durable from now on. It is written again, because after a failed sync the kernel may call pages clean
    /// that never reached the disk.
    fn sync_newest(&self, guard: &GuardedDisk) -> Result<(), OpenError> {
        let Some(log) = self.logs.last() else { return Ok(()) };
        let mut batch = self.last_batch.clone().unwrap_or(0..0);
        while !batch.is_empty() {
            let mut bytes = vec![0; (batch.end - batch.start).min(REWRITE_CHUNK_BYTES) as usize];
            read_exact_at(&*log.file, &mut bytes, batch.start)?;
            guard.write_at(&log.path(), &*log.file, &bytes, batch.start).map_err(open_error)?;
            batch.start += bytes.len() as u64;
        }
        guard.sync_data(&log.path(), &*log.file).map_err(open_error)
    }

    /// Queues, with the log's acks applied to the segments.
    fn finish_queues(&mut self, disk: &dyn Disk) -> Vec<RecoveredQueue> {
        self.drop_queues();
        let mut logs = std::mem::take(&mut self.queues);
        self.report_bad_messages(&logs);
        let mut rows: BTreeMap<QueueId, Vec<_>> = BTreeMap::new();
        for ((queue, number), row) in &self.checkpoint.segments {
            rows.entry(*queue).or_default().push((*number, row.clone()));
            logs.entry(*queue).or_default();
        }
        let mut queues = Vec::with_capacity(logs.len());
        for (queue, log) in logs {
            let segments = Segments::recovered(queue, rows.remove(&queue).unwrap_or_default().into_iter());
            let (recovered, errors) = log.finish(disk, segments);
            errors.into_iter().for_each(|error| self.add_segment_damage(queue, error));
            if !recovered.is_empty() {
                queues.push(recovered);
            }
        }
        queues
    }

    fn drop_queues(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        self.queues.retain(|queue, _| !dropped.contains(queue));
        self.checkpoint.segments.retain(|(queue, _), _| !dropped.contains(queue));
    }

    /// A damaged message that was acked everywhere is nobody's loss.
    fn report_bad_messages(&mut self, logs: &BTreeMap<QueueId, QueueLog>) {
        let mut losers: BTreeMap<MessageId, Vec<QueueId>> = BTreeMap::new();
        for (queue, log) in logs {
            log.damaged().for_each(|id| losers.entry(id).or_default().push(*queue));
        }
        for (id, damage) in std::mem::take(&mut self.bad_messages) {
            if let Some(queues) = losers.remove(&id) {
                self.damage.push(Damage { queues, ..damage });
            }
        }
    }

    fn add_segment_damage(&mut self, queue: QueueId, error: ReadError) {
        let (file, offset, what) = match error {
            ReadError::Damaged { file, offset, what } => (file, offset, what.to_owned()),
            other => (queue_dir(queue, false), 0, other.to_string()),
        };
        self.damage.push(Damage { file, offset, queues: vec![queue], what });
    }

    /// A position that was never given out: beyond everything any file mentions.
    fn next_start(&self) -> Position {
        let settled = self.checkpoint.segments.values().map(|row| row.entry.max_id).max().unwrap_or(0);
        let headers = self.headers.values().map(|header| header.start).max().unwrap_or(0);
        self.end.max(settled).max(headers).saturating_add(RUN_GAP)
    }

    fn next_number(&self) -> Result<LogFileNumber, OpenError> {
        let newest = self.logs.last().map_or(self.checkpoint.settled_through, |log| log.number.0);
        let next = newest.checked_add(1).map(LogFileNumber);
        next.ok_or_else(|| OpenError::Damaged {
            file: LOG_DIR.to_owned(),
            what: "no log file number is left",
        })
    }
}

/// Everything read; what is left is to begin the new log file and to tidy up.
struct Opening {
    guard: GuardedDisk,
    claimed: ClaimedDirectory,
    options: Options,
    scan: LogScan,
}

impl Opening {
    fn finish(mut self) -> Result<(Store, Recovery), OpenError> {
        let queues = self.scan.finish_queues(self.guard.raw());
        let (start, number) = (self.scan.next_start(), self.scan.next_number()?);
        let recovery = Recovery {
            meta: self.scan.meta.clone(),
            queues,
            damage: std::mem::take(&mut self.scan.damage),
            clean: self.scan.clean.take(),
            torn_bytes: self.scan.torn_bytes,
            next_id: MessageId(start),
        };
        let store = self.into_store(start, number)?;
        store.tidy_up(&recovery);
        Ok((store, recovery))
    }

    /// From here on the log no longer ends with the mark of a clean stop: what is delivered from now on counts
    /// as delivered even if nothing is written any more.
    fn into_store(self, start: Position, number: LogFileNumber) -> Result<Store, OpenError> {
        let Self { guard, claimed, mut options, scan } = self;
        options.segment_bytes = options.segment_bytes.min(Store::SEGMENT_BYTES_MAX);
        let settled_through = scan.checkpoint.settled_through;
        let store = Store {
            guard,
            directory_id: claimed.id,
            seed: scan.seed,
            gather: Mutex::new(Gather::new(start)),
            writing: RwLock::new(GatheredBatch::default()),
            committer: Mutex::new(Committer::new(0)),
            logs: RwLock::new(scan.logs.into_iter().map(Arc::new).collect()),
            spare: Mutex::new(None),
            rotation_wanted: AtomicBool::new(false),
            appended: AtomicU64::new(start),
            durable: AtomicU64::new(start),
            settled_through: AtomicU32::new(settled_through),
            meta: Mutex::new(scan.meta),
            table: Mutex::new(SegmentTable::new(scan.checkpoint.segments)),
            folders: Mutex::new(QueueFolders::default()),
            settler: Mutex::new(()),
            segment_files: SegmentFiles::default(),
            wake: OnceLock::new(),
            options,
            _lock: claimed.lock,
        };
        store.begin_first_log_file(number, start, scan.end).map_err(open_error)?;
        Ok(store)
    }
}

impl Store {
    /// Removes what no longer counts, unless something is damaged: then every byte may be wanted.
    fn tidy_up(&self, recovery: &Recovery) {
        let disk = self.guard.raw();
        for name in disk.list(queues_dir(true)).unwrap_or_default() {
            remove_dir_quietly(disk, &format!("{}/{name}", queues_dir(true)));
        }
        if !recovery.damage.is_empty() {
            return;
        }
        self.remove_settled_logs();
        for name in disk.list(queues_dir(false)).unwrap_or_default() {
            if let Some(queue) = parse_queue_dir(&name) {
                self.remove_orphan_segments(queue);
            }
        }
    }

    fn remove_settled_logs(&self) {
        let oldest = self.logs.read().first().map_or(0, |log| log.number.0);
        let names = self.guard.raw().list(LOG_DIR).unwrap_or_default();
        for number in names.iter().filter_map(|name| parse_log_name(name)) {
            if number.0 <= self.settled_through.load(Ordering::Acquire) && number.0 < oldest {
                self.guard.remove_quietly(&log_path(number));
            }
        }
    }

    /// Segments that no checkpoint counts: left by a settle that never ended, or by a removal that was lost.
    fn remove_orphan_segments(&self, queue: QueueId) {
        let dir = queue_dir(queue, false);
        let table = self.table.lock();
        for name in self.guard.raw().list(&dir).unwrap_or_default() {
            let number = parse_segment_name(&name);
            if number.is_some_and(|number| !table.rows().contains_key(&(queue, number))) {
                self.guard.remove_quietly(&format!("{dir}/{name}"));
            }
        }
    }
}
