//! The committer: takes what has gathered, writes it as one batch, syncs, and only then moves `durable()`.
//!
//! The append lock is held for a pointer swap only; appends go on while the disk works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::disk::DiskFile;
use crate::error::{CommitError, StoreFailed};
use crate::log_file::{LOG_DIR, LOG_HEADER_BYTES, LogFile, LogHeader, log_path};
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
    number: LogFileNumber,
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

    /// Makes the next log file ahead of its time, if that has not been done. For the settler thread: the
    /// committer does without, only a little slower.
    ///
    /// # Errors
    /// As for [`Store::commit`]; a full disk may be ignored.
    pub fn prepare_next_file(&self) -> Result<(), CommitError> {
        self.guard.check()?;
        let mut spare = self.spare.lock();
        if spare.is_none() {
            *spare = Some(self.create_log_file(self.current_log().number, 0)?);
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
        self.commit()?;
        self.trim_current_log();
        self.guard.stop(StoreFailed::Closed);
        Ok(())
    }

    /// A clean start need not read the unused end of the last file. Only a convenience: no sync, no error.
    fn trim_current_log(&self) {
        let log = self.current_log();
        let _ = log.file.set_len(log.offset(self.durable()));
        if let Some(spare) = self.spare.lock().take() {
            self.guard.remove_quietly(&log_path(spare.number));
        }
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

    /// The next file of the log, beginning at `start`. Its name and header are durable before any batch is in it.
    fn begin_log_file(
        &self,
        committer: &mut Committer,
        start: Position,
        len: u64,
    ) -> Result<Arc<LogFile>, CommitError> {
        let mut spare = self.spare.lock();
        let next = match spare.take() {
            Some(next) if next.capacity >= LOG_HEADER_BYTES + len => next,
            _ => self.create_log_file(self.current_log().number, len)?,
        };
        let settled_through = self.settled_through.load(Ordering::Acquire);
        let (number, capacity) = (next.number, next.capacity);
        let header = LogHeader { number, start, previous_end: start, settled_through, capacity };
        let log = self.add_log_file(committer, next, &header)?;
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
        let next = self.create_log_file(LogFileNumber(number.0 - 1), 0)?;
        let (settled_through, capacity) = (self.settled_through.load(Ordering::Acquire), next.capacity);
        let header = LogHeader { number, start, previous_end, settled_through, capacity };
        self.add_log_file(&mut self.committer.lock(), next, &header).map(drop)
    }

    /// Writes and syncs the header, and only then lets batches go there.
    fn add_log_file(
        &self,
        committer: &mut Committer,
        next: SpareFile,
        header: &LogHeader,
    ) -> Result<Arc<LogFile>, CommitError> {
        let path = log_path(header.number);
        self.guard.write_at(&path, &*next.file, &header.encode(self.directory_id), 0)?;
        self.guard.sync_data(&path, &*next.file)?;
        committer.capacity = next.capacity;
        let log = Arc::new(LogFile {
            number: header.number,
            start: header.start,
            file: next.file,
            damaged: AtomicBool::new(false),
        });
        self.logs.write().push(log.clone());
        Ok(log)
    }

    /// Creates and preallocates the file after `last`, and makes its name durable.
    fn create_log_file(&self, last: LogFileNumber, len: u64) -> Result<SpareFile, CommitError> {
        let number = LogFileNumber(last.0 + 1);
        let path = log_path(number);
        let file = self.guard.create(&path)?;
        let needed = LOG_HEADER_BYTES + len;
        let wanted = self.options.log_file_bytes.max(needed);
        let capacity = match self.guard.allocate(&path, &*file, wanted) {
            // The last bytes of a nearly full disk are better used for acks than not at all.
            Err(CommitError::DiskFull) => self.guard.allocate(&path, &*file, needed).map(|()| needed),
            other => other.map(|()| wanted),
        };
        let capacity = capacity.inspect_err(|_| self.guard.remove_quietly(&path))?;
        self.guard.sync_dir(LOG_DIR)?;
        Ok(SpareFile { number, file, capacity })
    }

    pub(crate) fn current_log(&self) -> Arc<LogFile> {
        self.logs.read().last().cloned().expect("a store has a current log file from open to drop")
    }

    fn current_log_has_batches(&self) -> bool {
        self.durable() > self.current_log().start
    }
}
