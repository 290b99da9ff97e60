//! The log of a block device: what QEMU's `blklogwrites` wrote down of every request, in the format of the kernel's
//! dm-log-writes.
//!
//! ```text
//!   sector 0        magic u64 │ version u64 │ entries u64 │ sector size u32        little-endian
//!   then, for each  sector u64 │ sectors u64 │ flags u64 │ data length u64 │ …     one sector
//!                   the data                                                        as many as it says; a discard has none
//! ```
//!
//! The device is exported one request at a time, so the order of the log is the order of the device: when a flush is
//! in it, everything in front of it had been written.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(super) const SECTOR_BYTES: u64 = 512;
const MAGIC: u64 = 0x6a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// A log, as far as it has been read.
pub(super) struct WriteLog {
    file: File,
    entries: Vec<Entry>,
    next_byte: u64,
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Write { first_byte: u64, bytes: u64, data_at: u64 },
    Discard { first_byte: u64, bytes: u64 },
    Flush,
}

impl WriteLog {
    pub(super) fn open(path: &Path) -> Result<WriteLog> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(WriteLog { file, entries: Vec::new(), next_byte: SECTOR_BYTES })
    }

    /// Reads what has been added; returns the number of entries.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn catch_up(&mut self) -> Result<usize> {
        while let Some((entry, next_byte)) = self.entry_at(self.next_byte)? {
            self.entries.push(entry);
            self.next_byte = next_byte;
        }
        Ok(self.entries.len())
    }

    fn entry_at(&self, byte: u64) -> Result<Option<(Entry, u64)>> {
        let mut header = [0; 24];
        match self.file.read_exact_at(&mut header, byte) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            outcome => outcome.context("the device's log")?,
        }
        if header == [0; 24] {
            return Ok(None);
        }
        let [sector, sectors, flags] = [0, 8, 16].map(|at| number(&header, at));
        let data_at = byte + SECTOR_BYTES;
        let (first_byte, bytes) = (sector * SECTOR_BYTES, sectors * SECTOR_BYTES);
        Ok(Some(match flags {
            _ if flags & DISCARD != 0 => (Entry::Discard { first_byte, bytes }, data_at),
            _ if flags & FLUSH != 0 && sectors == 0 => (Entry::Flush, data_at),
            _ => (Entry::Write { first_byte, bytes, data_at }, data_at + bytes),
        }))
    }

    /// All of a log that is complete: as many entries as its first sector says.
    ///
    /// # Errors
    /// It is not such a log, or has other entries than it says.
    pub(super) fn complete(mut self) -> Result<WriteLog> {
        let mut head = [0; 24];
        self.file.read_exact_at(&mut head, 0)?;
        ensure!(number(&head, 0) == MAGIC, "not a log of writes");
        let (said, found) = (number(&head, 16), self.catch_up()? as u64);
        ensure!(said == found, "the device's log says {said} entries and has {found}");
        Ok(self)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What a write wrote.
    pub(super) fn data(&self, data_at: u64, bytes: u64) -> Result<Vec<u8>> {
        let mut data = vec![0; bytes as usize];
        self.file.read_exact_at(&mut data, data_at).context("the device's log")?;
        Ok(data)
    }
}

fn number(bytes: &[u8; 24], at: usize) -> u64 {
    let mut octets = [0; 8];
    octets.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sector: u64, sectors: u64, flags: u64) -> Vec<u8> {
        let mut header: Vec<u8> = [sector, sectors, flags].into_iter().flat_map(u64::to_le_bytes).collect();
        header.resize(SECTOR_BYTES as usize, 0);
        header
    }

    #[test]
    fn a_log_is_read_as_it_grows() {
        let path = std::env::temp_dir().join(format!("leveret-write-log-{}", std::process::id()));
        let mut bytes = header(MAGIC, 1, 3);
        bytes.extend(header(9, 1, 0));
        bytes.extend([7; SECTOR_BYTES as usize]);
        std::fs::write(&path, &bytes).unwrap();
        let mut log = WriteLog::open(&path).unwrap();
        assert_eq!(log.catch_up().unwrap(), 1);
        bytes.extend(header(0, 0, FLUSH));
        bytes.extend(header(4, 8, DISCARD));
        std::fs::write(&path, &bytes).unwrap();
        let log = log.complete().unwrap();
        std::fs::remove_file(&path).unwrap();
        let write = Entry::Write { first_byte: 9 * 512, bytes: 512, data_at: 1024 };
        assert_eq!(log.entries(), [write, Entry::Flush, Entry::Discard { first_byte: 2048, bytes: 4096 }]);
        assert_eq!(log.data(1024, 512).unwrap(), [7; 512]);
    }
}
