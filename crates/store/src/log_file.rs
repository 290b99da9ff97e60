//! One file of the log: name, header, and which positions it holds. Drawn in `docs/format.md`, "Log file".

use std::sync::atomic::AtomicBool;

use crate::bytes::{Fields, PutFields};
use crate::checksum::{Seed, verify};
use crate::disk::DiskFile;
use crate::place::{LogFileNumber, LogSpan, MessageId, Position};

/// Folder of the log files.
pub(crate) const LOG_DIR: &str = "log";
/// Bytes before the first batch.
pub(crate) const LOG_HEADER_BYTES: u64 = 56;
const LOG_MAGIC: [u8; 4] = *b"LvLg";

/// Path of a log file that has no number yet. Its name says that nothing in it counts.
pub(crate) const NEXT_LOG_PATH: &str = "log/next.tmp";

/// Path of a log file.
pub(crate) fn log_path(number: LogFileNumber) -> String {
    format!("{LOG_DIR}/{:08x}.log", number.0)
}

/// Path under which a damaged log file is kept when it would have been removed.
pub(crate) fn damaged_log_path(number: LogFileNumber) -> String {
    format!("{LOG_DIR}/damaged-{:08x}.log", number.0)
}

/// The number in a log file's name; `None` for any other name.
pub(crate) fn parse_log_name(name: &str) -> Option<LogFileNumber> {
    let digits = name.strip_suffix(".log").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(LogFileNumber)
}

/// What the first bytes of a log file say. Synced before the file gets its numbered name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogHeader {
    pub(crate) number: LogFileNumber,
    /// Position of the first batch.
    pub(crate) start: Position,
    /// Where the log ended when this file was begun. What older files hold from there on was torn, and cut.
    pub(crate) previous_end: Position,
    /// The newest log file that the checkpoint had replaced when this file was begun.
    pub(crate) settled_through: u32,
    /// Bytes reserved for the file. It is shorter only after a clean stop; else it was cut.
    pub(crate) capacity: u64,
}

impl LogHeader {
    pub(crate) fn encode(&self, directory_id: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LOG_HEADER_BYTES as usize);
        bytes.put(&LOG_MAGIC);
        bytes.put_u32(self.number.0);
        bytes.put_u64(self.start);
        bytes.put_u64(self.previous_end);
        bytes.put_u32(self.settled_through);
        bytes.put_u32(0);
        bytes.put_u64(directory_id);
        bytes.put_u64(self.capacity);
        bytes.put_u32(0);
        let crc = Seed::new(directory_id).of(&bytes);
        bytes.put_u32(crc);
        bytes
    }

    /// `None` unless the header is whole and belongs to this file of this directory.
    pub(crate) fn decode(bytes: &[u8], number: LogFileNumber, directory_id: u64) -> Option<Self> {
        let bytes = bytes.get(..LOG_HEADER_BYTES as usize)?;
        let mut fields = Fields::new(bytes);
        if fields.array()? != LOG_MAGIC || fields.u32()? != number.0 {
            return None;
        }
        let (start, previous_end) = (fields.u64()?, fields.u64()?);
        let settled_through = fields.u32()?;
        fields.take(12)?;
        let capacity = fields.u64()?;
        fields.take(4)?;
        verify(fields.u32()?, Seed::new(directory_id).of(&bytes[..LOG_HEADER_BYTES as usize - 4])).ok()?;
        Some(Self { number, start, previous_end, settled_through, capacity })
    }
}

/// A log file that is open.
pub(crate) struct LogFile {
    pub(crate) number: LogFileNumber,
    pub(crate) start: Position,
    pub(crate) file: Box<dyn DiskFile>,
    /// Kept under another name instead of removed when it is retired.
    pub(crate) damaged: AtomicBool,
}

impl LogFile {
    /// Offset in the file of a position at or after its start.
    pub(crate) fn offset(&self, position: Position) -> u64 {
        position - self.start + LOG_HEADER_BYTES
    }

    pub(crate) fn path(&self) -> String {
        log_path(self.number)
    }

    pub(crate) fn span(&self, end: Position) -> LogSpan {
        LogSpan { number: self.number, start: MessageId(self.start), end: MessageId(end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_valid_in_its_own_file_and_directory_only() {
        let number = LogFileNumber(3);
        let header = LogHeader { number, start: 1 << 40, previous_end: 99, settled_through: 1, capacity: 7 };
        let bytes = header.encode(5);
        assert_eq!(bytes.len() as u64, LOG_HEADER_BYTES);
        assert_eq!(LogHeader::decode(&bytes, number, 5), Some(header));
        assert_eq!(LogHeader::decode(&bytes, LogFileNumber(4), 5), None);
        assert_eq!(LogHeader::decode(&bytes, number, 6), None);
    }

    #[test]
    fn only_log_names_are_log_files() {
        assert_eq!(parse_log_name("0000002a.log"), Some(LogFileNumber(42)));
        for name in ["damaged-0000002a.log", "2a.log", "0000002a.tmp", "zzzzzzzz.log"] {
            assert_eq!(parse_log_name(name), None, "{name}");
        }
    }
}
