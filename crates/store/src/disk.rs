//! The whole contact with the disk: two traits.
//!
//! Everything above them is deterministic, so a simulated disk that loses, tears and reorders what was not
//! synced runs the very same code as a real one. Paths are relative, `/`-separated and made by the store only;
//! no user text ever becomes a file name. The empty path is the data directory itself.

use std::io;

/// A directory tree on some medium.
///
/// A create, rename or remove is durable only after [`Disk::sync_dir`] of the directory that holds the name.
pub trait Disk: Send + Sync + 'static {
    /// Makes a directory; fine if it exists. The parent must exist, except for the data directory itself.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Names in a directory, in no order; empty when the directory is missing.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Creates a file, or empties the one that is there.
    fn create(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and writing; `NotFound` when it is missing.
    fn open(&self, path: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Renames a file, replacing the target atomically. Both names are in the same directory.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes creates, renames and removes in this directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Takes the exclusive advisory lock; `WouldBlock` while another holder lives. Dropping releases it.
    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>>;
    /// Bytes that can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file. All calls may come from several threads.
pub trait DiskFile: Send + Sync {
    /// Length in bytes, including what was only allocated.
    fn len(&self) -> io::Result<u64>;
    /// True when the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads up to `buf.len()` bytes; 0 at or after the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `data`, extending the file when needed.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves space so that the file is at least `len` bytes long; new bytes read as zero.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
}

/// Reads exactly `buf.len()` bytes; `UnexpectedEof` when the file is shorter.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<()> {
    let filled = read_full_at(file, buf, offset)?;
    if filled < buf.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends; returns how many bytes were read.
pub(crate) fn read_full_at(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
