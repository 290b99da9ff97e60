//! `FORMAT`: the first file of a data directory, says that it is one. Drawn in `docs/format.md`, "FORMAT".

use std::io;

use crate::bytes::{Fields, PutFields};
use crate::checksum::{Seed, random_u64, verify};
use crate::disk::{Disk, read_full_at};
use crate::error::OpenError;

const FORMAT_PATH: &str = "FORMAT";
const FORMAT_TMP: &str = "FORMAT.tmp";
const LOCK_PATH: &str = "lock";
const FORMAT_MAGIC: [u8; 8] = *b"LEVERET\n";
const FORMAT_BYTES: usize = 24;
/// The format this program writes, and the newest it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Names that do not make a directory foreign: our own first files, and what `mkfs` leaves behind.
const HARMLESS_NAMES: [&str; 3] = [FORMAT_TMP, LOCK_PATH, "lost+found"];

/// A data directory that is ours to read and write.
pub(crate) struct ClaimedDirectory {
    /// Random number of the directory; seeds every checksum of the log.
    pub(crate) id: u64,
    /// Held as long as the store lives.
    pub(crate) lock: Box<dyn Send + Sync>,
}

/// Checks, locks and if needed founds the data directory. Changes nothing unless it is ours or empty.
pub(crate) fn claim(disk: &dyn Disk) -> Result<ClaimedDirectory, OpenError> {
    let found = inspect(disk)?;
    if found.is_none() {
        disk.create_dir("")?;
    }
    let lock = disk.lock(LOCK_PATH).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::Io(error),
    })?;
    // Looked at again under the lock: another process may have founded it meanwhile.
    let id = match inspect(disk)? {
        Some(id) => id,
        None => found_directory(disk)?,
    };
    Ok(ClaimedDirectory { id, lock })
}

/// The directory's id, or `None` when it is empty and may be founded.
fn inspect(disk: &dyn Disk) -> Result<Option<u64>, OpenError> {
    let names = disk.list("")?;
    if names.iter().any(|name| name == FORMAT_PATH) {
        return read_format(disk).map(Some);
    }
    match names.into_iter().find(|name| !HARMLESS_NAMES.contains(&name.as_str())) {
        Some(found) => Err(OpenError::ForeignDirectory { found }),
        None => Ok(None),
    }
}

fn read_format(disk: &dyn Disk) -> Result<u64, OpenError> {
    let file = disk.open(FORMAT_PATH)?;
    let mut bytes = [0; FORMAT_BYTES];
    let filled = read_full_at(&*file, &mut bytes, 0)?;
    decode_format(&bytes[..filled])
}

/// The version is looked at before the checksum: a later version may have changed everything behind it.
fn decode_format(bytes: &[u8]) -> Result<u64, OpenError> {
    let damaged = |what| OpenError::Damaged { file: FORMAT_PATH.to_owned(), what };
    let mut fields = Fields::new(bytes);
    if fields.array() != Some(FORMAT_MAGIC) {
        return Err(damaged("not a Leveret data directory"));
    }
    let version = fields.u32().ok_or_else(|| damaged("cut short"))?;
    if version > FORMAT_VERSION {
        return Err(OpenError::NewerFormat { found: version, supported: FORMAT_VERSION });
    }
    let (body, crc) = bytes.split_last_chunk().ok_or_else(|| damaged("cut short"))?;
    let id = fields.u64().ok_or_else(|| damaged("cut short"))?;
    verify(u32::from_le_bytes(*crc), format_crc(body)).map_err(|_| damaged("the checksum is wrong"))?;
    Ok(id)
}

fn format_crc(bytes: &[u8]) -> u32 {
    Seed::new(0).of(bytes)
}

fn encode_format(id: u64) -> Vec<u8> {
    let mut bytes = FORMAT_MAGIC.to_vec();
    bytes.put_u32(FORMAT_VERSION);
    bytes.put_u64(id);
    let crc = format_crc(&bytes);
    bytes.put_u32(crc);
    bytes
}

fn found_directory(disk: &dyn Disk) -> Result<u64, OpenError> {
    let id = random_u64();
    let file = disk.create(FORMAT_TMP)?;
    file.write_at(&encode_format(id), 0)?;
    file.sync_data()?;
    disk.rename(FORMAT_TMP, FORMAT_PATH)?;
    disk.sync_dir("")?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem_disk::MemDisk;

    fn write(disk: &MemDisk, path: &str, bytes: &[u8]) {
        disk.create(path).unwrap().write_at(bytes, 0).unwrap();
    }

    #[test]
    fn a_directory_is_founded_once_and_keeps_its_id() {
        let disk = MemDisk::new();
        let first = claim(&disk).map(|claimed| claimed.id).unwrap();
        assert_eq!(claim(&disk).map(|claimed| claimed.id).unwrap(), first);
    }

    #[test]
    fn what_is_not_ours_is_refused_and_not_touched() {
        let mut newer = encode_format(1);
        newer[8] = 9;
        let mut flipped = encode_format(1);
        flipped[13] ^= 1;
        let cases: [(&str, &[u8], &str); 6] = [
            ("holiday.jpg", b"x", "ForeignDirectory"),
            ("FORMAT", &newer, "NewerFormat"),
            ("FORMAT", &flipped, "Damaged"),
            ("FORMAT", b"", "Damaged"),
            ("FORMAT", b"LEVERET\n", "Damaged"),
            ("FORMAT", &encode_format(1)[..18], "Damaged"),
        ];
        for (name, bytes, expected) in cases {
            let disk = MemDisk::new();
            write(&disk, name, bytes);
            let error = claim(&disk).map(|claimed| claimed.id).unwrap_err();
            assert!(format!("{error:?}").starts_with(expected), "{name}: {error:?}");
            assert_eq!(disk.list("").unwrap(), [name]);
        }
    }

    #[test]
    fn a_second_holder_is_told_that_it_is_in_use() {
        let disk = MemDisk::new();
        let held = claim(&disk).unwrap();
        assert!(matches!(claim(&disk), Err(OpenError::InUse)));
        drop(held);
        assert!(claim(&disk).is_ok());
    }
}
