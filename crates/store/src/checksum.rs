//! CRC-32C over everything on disk, seeded so that stale bytes never parse.
//!
//! A seed mixes in what identifies the place: the data directory, and the position in the log stream or the
//! segment's random birth number and the offset in it. Log positions are never reused, so a batch or record
//! header from another file, another place or an earlier life of the same disk block has a wrong checksum.

/// The start value of a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// Seed of one data directory or one segment file, from its random number.
    pub(crate) fn new(identity: u64) -> Self {
        Self(crc32c::crc32c(&identity.to_le_bytes()))
    }

    pub(crate) fn of(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }

    /// Checksum of `bytes` as found at `place` (a log position or a file offset).
    pub(crate) fn at(self, bytes: &[u8], place: u64) -> u32 {
        add_place(self.of(bytes), place)
    }

    /// A checksum over bytes that come in parts.
    pub(crate) fn start(self) -> Running {
        Running(self.0)
    }
}

/// Adds the place to a checksum computed before the place was known (outside the append lock).
pub(crate) fn add_place(crc: u32, place: u64) -> u32 {
    crc32c::crc32c_append(crc, &place.to_le_bytes())
}

/// A checksum in progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running(u32);

impl Running {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    pub(crate) fn finish(self) -> u32 {
        self.0
    }
}

/// The stored and the computed checksum differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// The one place where any checksum is judged.
#[rustfmt::skip] // one line each: the mutation check removes it
pub(crate) fn verify(stored: u32, computed: u32) -> Result<(), Mismatch> {
    if stored != computed { return Err(Mismatch); } // mutation: crc-check
    Ok(())
}

/// A random number that needs no device: the keys that the standard library seeds its maps with.
pub(crate) fn random_u64() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8)
}
