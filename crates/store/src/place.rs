//! Names of things: messages, queues, log files, and where a message lies.

/// A point in the endless log stream, in bytes. Grows for the life of the data directory, never reused.
///
/// What was appended at position `p` is durable when `store.durable() > p`.
pub type Position = u64;

/// Opaque bytes of the caller that travel with a message, in the log and in segments.
pub type Attributes = [u8; 16];

/// A message: the position of its record in the log stream. Never 0, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// A queue, as numbered by the caller. A number must never be used for a second queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// The number in a log file's name; log files are numbered without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogFileNumber(pub u32);

/// The ids whose records are in one log file: `start <= id < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSpan {
    /// The file.
    pub number: LogFileNumber,
    /// First id that can be in it.
    pub start: MessageId,
    /// First id after it.
    pub end: MessageId,
}

/// Where a message's payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the log: still gathered, being written, or in a log file.
    Log {
        /// The message.
        id: MessageId,
        /// Payload length, bytes.
        len: u32,
    },
    /// Settled in a segment file of its queue.
    Segment {
        /// In a folder that does not survive a restart.
        transient: bool,
        /// Number in the segment's file name.
        segment: u32,
        /// Index of the record in the segment.
        index: u32,
        /// Offset of the record's head in the file, bytes.
        head: u32,
        /// Payload length, bytes.
        len: u32,
    },
}

impl Place {
    /// Payload length, bytes.
    #[allow(clippy::len_without_is_empty)] // a length of 0 is an ordinary message
    pub fn len(&self) -> u32 {
        match *self {
            Self::Log { len, .. } | Self::Segment { len, .. } => len,
        }
    }
}
