//! What the kernel says about a process under attack.

use std::time::Duration;

use anyhow::{Context, Result};

/// Units of the times in `/proc/PID/stat`; fixed by Linux for user space.
const TICKS_PER_SECOND: u64 = 100;
/// Written to `clear_refs`: forget the peak.
const FORGET_PEAK: &str = "5";

/// A process of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Witness {
    pid: u32,
}

impl Witness {
    pub(super) fn of(pid: u32) -> Witness {
        Witness { pid }
    }

    /// Resident memory, octets.
    pub(super) fn resident_bytes(self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most it was resident with since [`forget_peak`](Self::forget_peak), octets.
    pub(super) fn peak_bytes(self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    pub(super) fn forget_peak(self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.pid), FORGET_PEAK)?)
    }

    /// User and system time of all its threads.
    pub(super) fn cpu_time(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold anything; what follows it is numbers, utime the 12th, stime the 13th.
        let (_, numbers) = stat.rsplit_once(')').context("odd /proc stat")?;
        let ticks = numbers.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    fn memory(self, key: &str) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("odd /proc status")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    fn read(self, file: &str) -> Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).context("the process is gone")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_after_it_is_over() {
        let witness = Witness::of(std::process::id());
        witness.forget_peak().unwrap();
        let before = witness.resident_bytes().unwrap();
        drop(std::hint::black_box(vec![1_u8; 64 << 20]));
        assert!(witness.peak_bytes().unwrap() > before + (60 << 20));
        assert!(witness.cpu_time().is_ok());
    }
}
