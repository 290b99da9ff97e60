//! What can go wrong, by operation: the type says who is to blame and what still works.

use std::fmt;
use std::io;
use std::sync::Arc;

/// The store accepts nothing more (or, for the last two, not this).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreFailed {
    /// A sync, or a write other than "disk full", failed. Never retried: after a failed sync the kernel may
    /// call lost pages clean. No confirm may be sent; the process should end and be started again.
    Latched(Arc<str>),
    /// [`Store::close`](crate::Store::close) was called.
    Closed,
    /// One record would exceed [`Store::RECORD_BYTES_MAX`](crate::Store::RECORD_BYTES_MAX). Nothing latched.
    RecordTooLarge,
    /// [`Store::GATHER_BYTES_MAX`](crate::Store::GATHER_BYTES_MAX) wait for a full disk. Nothing latched.
    GatherFull,
}

impl fmt::Display for StoreFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latched(what) => write!(f, "the store stopped after a disk error: {what}"),
            Self::Closed => f.write_str("the store is closed"),
            Self::RecordTooLarge => f.write_str("the record is too large for the log"),
            Self::GatherFull => f.write_str("too many bytes wait for the disk"),
        }
    }
}

impl std::error::Error for StoreFailed {}

/// Why bytes did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitError {
    /// No space. Nothing is lost and nothing latched: call again when there is space.
    DiskFull,
    /// The store stopped.
    Failed(StoreFailed),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskFull => f.write_str("no space left on the disk"),
            Self::Failed(failed) => failed.fmt(f),
        }
    }
}

impl std::error::Error for CommitError {}

impl From<StoreFailed> for CommitError {
    fn from(failed: StoreFailed) -> Self {
        Self::Failed(failed)
    }
}

/// Why a stored message cannot be read. Only its queue is concerned.
#[derive(Debug)]
pub enum ReadError {
    /// The disk refused.
    Io(io::Error),
    /// The bytes are not what was written: never delivered, never deleted.
    Damaged {
        /// Path inside the data directory.
        file: String,
        /// Where in the file, bytes.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// The place is in no file, e.g. its log file was retired.
    Missing,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the disk refused to read: {error}"),
            Self::Damaged { file, offset, what } => write!(f, "{file} is damaged at {offset}: {what}"),
            Self::Missing => f.write_str("no file holds this message"),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Why a data directory was not opened. Nothing in it was deleted or overwritten.
#[derive(Debug)]
pub enum OpenError {
    /// The folder holds files that are not ours, and no `FORMAT`.
    ForeignDirectory {
        /// One of the names found.
        found: String,
    },
    /// Written by a later version.
    NewerFormat {
        /// The version in `FORMAT`.
        found: u32,
        /// The newest version this program reads.
        supported: u32,
    },
    /// Another process has the directory open.
    InUse,
    /// A file without which nothing can be trusted (`FORMAT`, `checkpoint`) is damaged or missing.
    Damaged {
        /// Path inside the data directory.
        file: String,
        /// What was found.
        what: &'static str,
    },
    /// The disk refused.
    Io(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignDirectory { found } => {
                write!(f, "the folder is not a data directory: it holds {found:?} and no FORMAT file")
            }
            Self::NewerFormat { found, supported } => {
                // Bit rot in the version looks the same: it is read before the checksum is judged.
                write!(
                    f,
                    "the file FORMAT says format {found}, and this program reads up to {supported}: written by a newer one, or damaged; \
                     nothing was changed"
                )
            }
            Self::InUse => f.write_str("the data directory is in use by another process"),
            Self::Damaged { file, what } => write!(f, "{file}: {what}; nothing was changed"),
            Self::Io(error) => write!(f, "the disk refused: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
