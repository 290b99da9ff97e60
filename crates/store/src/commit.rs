//! The committer: takes what has gathered, writes it as one batch, syncs, and only then moves `durable()`.
//!
//! The append lock is held for a pointer swap only; appends go on while the disk works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::DiskFile;
use crate::error::{CommitError, StoreFailed};
use crate::log_file::{LOG_DIR, LOG_HEADER_BYTES, LogFile, LogHeader, NEXT_LOG_PATH, log_path};
use crate::place::{LogFileNumber, Position, QueueId};
use crate::store::Store;

/// A gather buffer that grew beyond this is given back instead of reused.
const RECYCLED_BYTES_MAX: usize = 8 << 20;

/// What only the committer touches.
pub(crate) struct Committer {
    /// Bytes that the current log file may grow to.
    pub(crate) capacity: u64,
    recycled: Vec<u8>,
}

impl Committer {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, recycled: Vec::new() }
    }
}

/// The next log file, made ahead so that a rotation need not wait for the file system.
pub(crate) struct SpareFile {
    file: Box<dyn DiskFile>,
    capacity: u64,
}

impl Store {
    /// Makes everything durable that was appended before the call, and returns [`Store::durable`].
    ///
    /// # Errors
    /// [`CommitError::DiskFull`]: the bytes stay, first in line, for a later call. [`CommitError::Failed`]: the
    /// store has stopped for good.
    pub fn commit(&self) -> Result<Position, CommitError> {
        let mut committer = self.committer.lock();
        self.guard.check()?;
        // A batch that a full disk left behind goes first; what gathered since then is a batch of its own.
        if !self.writing.read().is_empty() {
            self.write_batch(&mut committer)?;
        }
        self.take_gathered(&mut committer);
        if !self.writing.read().is_empty() {
            self.write_batch(&mut committer)?;
        }
        if self.rotation_wanted.load(Ordering::Acquire) && self.current_log_has_batches() {
            self.begin_log_file(&mut committer, self.durable(), 0)?;
        }
        Ok(self.durable())
    }

    /// Asks the next commit to begin a new log file behind what it writes, so that everything appended so far
    /// can be settled.
    pub fn rotate(&self) {
        self.rotation_wanted.store(true, Ordering::Release);
    }

    /// Asks for a new log file as [`rotate`](Self::rotate) does, unless a full one still waits to be settled. For a disk that is
    /// low: each log file takes its whole length of it at once, and only settling gives anything back.
    pub fn rotate_when_settled(&self) {
        if self.rotated_files() == 0 {
            self.rotate();
        }
    }

    /// Makes the next log file ahead of its time, if that has not been done. For the settler thread: the
    /// committer does without, only a little slower.
    ///
    /// # Errors
    /// As for [`Store::commit`]; a full disk may be ignored.
    pub fn prepare_next_file(&self) -> Result<(), CommitError> {
        self.guard.check()?;
        let mut spare = self.spare.lock();
        if spare.is_none() {
            *spare = Some(self.create_spare(0)?);
        }
        Ok(())
    }

    /// Commits everything and marks the log as cleanly ended, with the caller's notes per queue. The store
    /// accepts nothing afterwards.
    ///
    /// # Errors
    /// When the disk is full or the store has stopped: the stop is not clean then.
    pub fn close(&self, notes: &[(QueueId, Vec<u8>)]) -> Result<(), CommitError> {
        self.commit()?;
        self.append_clean(notes)?;
        // A file after the mark would say that the store went on.
        self.rotation_wanted.store(false, Ordering::Release);
        self.commit()?;
        self.trim_current_log()?;
        self.guard.stop(StoreFailed::Closed);
        Ok(())
    }

    /// Cuts the reserved space behind the mark. Durably: a newest file that has its full length and no mark was
    /// not closed, one that is shorter and has none has lost its end, and is reported.
    fn trim_current_log(&self) -> Result<(), CommitError> {
        let log = self.current_log();
        self.guard.set_len(&log.path(), &*log.file, log.offset(self.durable()))?;
        self.guard.sync_data(&log.path(), &*log.file)?;
        if self.spare.lock().take().is_some() {
            self.guard.remove_quietly(NEXT_LOG_PATH);
        }
        Ok(())
    }

    /// Moves the gathered records into `writing`; readers find them in one or the other at every moment.
    fn take_gathered(&self, committer: &mut Committer) {
        let mut gather = self.gather.lock();
        if gather.is_empty() {
            return;
        }
        let mut writing = self.writing.write();
        *writing = gather.take(std::mem::take(&mut committer.recycled));
        drop(gather);
        writing.seal(self.seed);
    }

    fn write_batch(&self, committer: &mut Committer) -> Result<(), CommitError> {
        let end = {
            let batch = self.writing.read();
            let log = self.log_with_room(committer, batch.start(), batch.bytes().len() as u64)?;
            let path = log.path();
            self.guard.write_at(&path, &*log.file, batch.bytes(), log.offset(batch.start()))?;
            self.guard.sync_data(&path, &*log.file)?; // mutation: log-sync
            batch.end()
        };
        self.durable.store(end, Ordering::Release);
        let buffer = std::mem::take(&mut *self.writing.write()).into_bytes();
        if buffer.capacity() <= RECYCLED_BYTES_MAX {
            committer.recycled = buffer;
        }
        Ok(())
    }

    fn log_with_room(
        &self,
        committer: &mut Committer,
        start: Position,
        len: u64,
    ) -> Result<Arc<LogFile>, CommitError> {
        let current = self.current_log();
        let fits = current.offset(start) + len <= committer.capacity;
        if fits { Ok(current) } else { self.begin_log_file(committer, start, len) }
    }

    /// The next file of the log, for a batch of `len` bytes at `start`.
    fn begin_log_file(
        &self,
        committer: &mut Committer,
        start: Position,
        len: u64,
    ) -> Result<Arc<LogFile>, CommitError> {
        let number = LogFileNumber(self.current_log().number.0 + 1);
        let log = self.add_log_file(committer, number, start, start, len)?;
        self.rotation_wanted.store(false, Ordering::Release);
        Ok(log)
    }

    /// The file that an open begins: the log goes on at `start`, a gap behind `previous_end`.
    pub(crate) fn begin_first_log_file(
        &self,
        number: LogFileNumber,
        start: Position,
        previous_end: Position,
    ) -> Result<(), CommitError> {
        self.add_log_file(&mut self.committer.lock(), number, start, previous_end, 0).map(drop)
    }

    /// Header synced, then the name, then the folder synced, and only then batches: so a file with a number in
    /// its name has a whole header and its full length, whenever the power goes.
    fn add_log_file(
        &self,
        committer: &mut Committer,
        number: LogFileNumber,
        start: Position,
        previous_end: Position,
        len: u64,
    ) -> Result<Arc<LogFile>, CommitError> {
        let mut spare = self.spare.lock();
        let next = match spare.take() {
            Some(next) if next.capacity >= LOG_HEADER_BYTES + len => next,
            _ => self.create_spare(len)?,
        };
        let (settled_through, capacity) = (self.settled_through.load(Ordering::Acquire), next.capacity);
        let header = LogHeader { number, start, previous_end, settled_through, capacity };
        self.guard.write_at(NEXT_LOG_PATH, &*next.file, &header.encode(self.directory_id), 0)?;
        self.guard.sync_data(NEXT_LOG_PATH, &*next.file)?;
        self.guard.rename(NEXT_LOG_PATH, &log_path(number))?;
        self.guard.sync_dir(LOG_DIR)?;
        let log = Arc::new(LogFile { number, start, file: next.file, damaged: AtomicBool::new(false) });
        self.logs.write().push(log.clone());
        committer.capacity = capacity;
        Ok(log)
    }

    /// Creates and preallocates the next log file, under a name that does not count.
    fn create_spare(&self, len: u64) -> Result<SpareFile, CommitError> {
        let file = self.guard.create(NEXT_LOG_PATH)?;
        let needed = LOG_HEADER_BYTES + len;
        let wanted = self.options.log_file_bytes.max(needed);
        match self.guard.allocate(NEXT_LOG_PATH, &*file, wanted) {
            Ok(()) => Ok(SpareFile { file, capacity: wanted }),
            // The last bytes of a nearly full disk are better used for acks than not at all.
            Err(CommitError::DiskFull) => {
                self.guard.allocate(NEXT_LOG_PATH, &*file, needed)?;
                Ok(SpareFile { file, capacity: needed })
            }
            Err(failed) => Err(failed),
        }
    }

    pub(crate) fn current_log(&self) -> Arc<LogFile> {
        self.logs.read().last().cloned().expect("a store has a current log file from open to drop")
    }

    fn current_log_has_batches(&self) -> bool {
        self.durable() > self.current_log().start
    }
}
