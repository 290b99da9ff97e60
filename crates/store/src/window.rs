//! Reads a file front to back in chunks, whatever the lengths in it claim.

use std::io;

use crate::checksum::Seed;
use crate::disk::{DiskFile, read_full_at};

const CHUNK_BYTES: usize = 256 * 1024;

/// A sliding view of a file. Never allocates more than a chunk, or what is asked for and really there.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    file_len: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> io::Result<Self> {
        Ok(Self { file, file_len: file.len()?, start: 0, buffer: Vec::new() })
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Exactly `len` bytes at `offset`; `None` when the file ends before.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        let end = offset.saturating_add(len as u64);
        if end > self.file_len {
            return Ok(None);
        }
        if offset < self.start || end > self.start + self.buffer.len() as u64 {
            self.load(offset, len)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.buffer.get(from..from + len))
    }

    /// As much as is at hand from `offset` on, at least one byte; `None` at the end of the file.
    pub(crate) fn some(&mut self, offset: u64, limit: u64) -> io::Result<Option<&[u8]>> {
        if self.bytes(offset, 1)?.is_none() {
            return Ok(None);
        }
        let tail = &self.buffer[(offset - self.start) as usize..];
        let wanted = limit.saturating_sub(offset).min(tail.len() as u64) as usize;
        Ok((wanted > 0).then_some(&tail[..wanted]))
    }

    /// Checksum of `len` bytes at `offset`; `None` when the file ends before.
    pub(crate) fn checksum(&mut self, seed: Seed, offset: u64, len: u64) -> io::Result<Option<u32>> {
        let end = offset.saturating_add(len);
        let mut running = seed.start();
        let mut at = offset;
        while at < end {
            let Some(bytes) = self.some(at, end)? else { return Ok(None) };
            running.add(bytes);
            at += bytes.len() as u64;
        }
        Ok(Some(running.finish()))
    }

    fn load(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let wanted = (self.file_len - offset).min(len.max(CHUNK_BYTES) as u64) as usize;
        self.start = offset;
        self.buffer.resize(wanted, 0);
        let filled = read_full_at(self.file, &mut self.buffer, offset)?;
        self.buffer.truncate(filled);
        Ok(())
    }
}
