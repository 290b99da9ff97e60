//! What the disk itself needs, measured in the same run and on the same file system as the brokers' data.

use anyhow::{Context, Result};
use leveret_bench::load::Histogram;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const FILE: &str = "sync-probe";

/// Appends `bytes` to a file and calls `fdatasync`, again and again for `time`: how long both together took. Nobody
/// who confirms what is on this disk can be faster with one message at a time.
pub(super) fn append_and_sync(directory: &Path, bytes: usize, time: Duration) -> Result<Histogram> {
    let path = directory.join(FILE);
    let mut file = File::create(&path).with_context(|| format!("{}", path.display()))?;
    let (message, begin) = (vec![b'.'; bytes], Instant::now());
    let mut took = Histogram::default();
    while begin.elapsed() < time {
        let start = Instant::now();
        file.write_all(&message)?;
        file.sync_data()?;
        took.record(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_takes_some_time() {
        let directory = std::env::temp_dir().join(format!("bench-disk-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let took = append_and_sync(&directory, 100, Duration::from_millis(5)).unwrap();
        assert!(took.quantile_us(0.5) > 0.0);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
