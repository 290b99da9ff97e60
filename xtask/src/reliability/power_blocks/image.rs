//! What a disk may hold after a power cut.
//!
//! ```text
//!   w w F w w w F w w w w F          at a flush: everything up to it
//!   ─────────────► ? ? ? ?           between two: everything up to the first, and of the others
//!            durable  any of them    none, all, the first ones, any of them; some with only part of their sectors
//! ```

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::disks::copy_sparse;
use super::write_log::{Entry, SECTOR_BYTES, WriteLog};

/// A moment at which the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) number: u64,
    /// So many entries are on the disk for certain: there is a flush behind them.
    pub(super) durable: usize,
    /// So many had been asked for.
    pub(super) until: usize,
}

impl Cut {
    pub(super) fn is_at_flush(self) -> bool {
        self.durable == self.until
    }
}

/// Cuts behind entry `from`: every second one at a flush, every fourth between two, spread over the whole log, and every
/// fourth when there were as many entries as one of `moments` says, which may be earlier. In the order of the log, so that one pass over it makes
/// them all.
pub(super) fn cuts(
    entries: &[Entry],
    from: usize,
    moments: &[usize],
    count: u64,
    random: &mut Random,
) -> Vec<Cut> {
    let is_flush = |at: &usize| entries[*at] == Entry::Flush;
    let flushes: Vec<usize> = (from..entries.len()).filter(is_flush).collect();
    let Some(last) = flushes.len().checked_sub(1) else { return Vec::new() };
    let stride = (last as u64).div_ceil(count).max(1);
    let cut = |number: u64| {
        let moment = moments.iter().cycle().nth(number as usize / 4);
        if let Some(&until) = moment.filter(|_| number % 4 == 3) {
            let flush = (0..until).rev().find(is_flush);
            return Cut { number, durable: flush.map_or(0, |flush| flush + 1), until };
        }
        let at = (number * last as u64 / count + random.below(stride)).min(last as u64) as usize;
        let durable = flushes[at] + 1;
        match flushes.get(at + 1) {
            // The last moment before the next flush: whoever did not wait for it is found out.
            Some(next) if number % 2 == 1 => Cut { number, durable, until: *next },
            _ => Cut { number, durable, until: durable },
        }
    };
    let mut cuts: Vec<Cut> = (0..count).map(cut).collect();
    cuts.sort_by_key(|cut| (cut.durable, cut.number));
    cuts
}

/// A disk as it is at some flush, on its way through the log.
pub(super) struct Disk<'a> {
    log: &'a WriteLog,
    path: PathBuf,
    file: File,
    applied: usize,
}

impl<'a> Disk<'a> {
    /// An empty one, at `path`.
    pub(super) fn empty(log: &'a WriteLog, size_bytes: u64, path: PathBuf) -> Result<Disk<'a>> {
        let file = File::create(&path)?;
        file.set_len(size_bytes)?;
        Ok(Disk { log, path, file, applied: 0 })
    }

    /// Writes to `image` what the disk may hold after `cut`. Cuts must come in the order of the log.
    ///
    /// # Errors
    /// No room, most likely.
    pub(super) fn cut(&mut self, cut: Cut, random: &mut Random, image: &Path) -> Result<()> {
        for entry in &self.log.entries()[self.applied..cut.durable] {
            self.apply(&self.file, *entry, None)?;
        }
        self.applied = cut.durable;
        copy_sparse(&self.path, image)?;
        let file = OpenOptions::new().write(true).open(image).context("an image")?;
        let tearing = random.chance(1, 2);
        for entry in random.some_of(self.log.entries()[cut.durable..cut.until].to_vec()) {
            let torn = tearing && random.chance(1, 4);
            self.apply(&file, entry, torn.then_some(&mut *random))?;
        }
        Ok(())
    }

    /// Writes an entry; if it is `torn`, each of its sectors or not.
    fn apply(&self, disk: &File, entry: Entry, torn: Option<&mut Random>) -> Result<()> {
        let (first_byte, data) = match entry {
            Entry::Flush => return Ok(()),
            Entry::Discard { first_byte, bytes } => (first_byte, vec![0; bytes as usize]),
            Entry::Write { first_byte, bytes, data_at } => (first_byte, self.log.data(data_at, bytes)?),
        };
        let Some(random) = torn else { return Ok(disk.write_all_at(&data, first_byte)?) };
        for (sector, octets) in (0..).zip(data.chunks(SECTOR_BYTES as usize)) {
            if random.chance(1, 2) {
                disk.write_all_at(octets, first_byte + sector * SECTOR_BYTES)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_at_flushes_and_between_them() {
        let write = Entry::Discard { first_byte: 0, bytes: 512 };
        let entries: Vec<Entry> = (0..300).map(|at| if at % 3 == 2 { Entry::Flush } else { write }).collect();
        let cuts = cuts(&entries, 30, &[17, 101, 102], 40, &mut Random::new(1));
        assert_eq!(cuts.len(), 40);
        assert!(cuts.iter().filter(|cut| [17, 101, 102].contains(&cut.until)).count() >= 10);
        assert!(cuts.is_sorted_by_key(|cut| cut.durable));
        for cut in &cuts {
            assert!(cut.durable > 12 && entries[cut.durable - 1] == Entry::Flush, "{cut:?}");
            let unsure = &entries[cut.durable..cut.until];
            assert!(!unsure.contains(&Entry::Flush), "{cut:?}");
            assert!(cut.is_at_flush() || unsure.len() == 2, "{cut:?}");
        }
        assert!(cuts.iter().filter(|cut| cut.is_at_flush()).count() >= 20);
        assert!(cuts.iter().filter(|cut| !cut.is_at_flush()).count() >= 10);
    }
}
