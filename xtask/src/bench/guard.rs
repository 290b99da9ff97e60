//! Nothing of a comparison outlives it, however it ends: by Ctrl-C, SIGTERM or SIGKILL. A guard, a process of its own,
//! holds the other end of a pipe; when that closes, it ends every process that carries the comparison's mark, and removes
//! its data.
//!
//! ```text
//!  xtask bench ──pipe──► guard          both know the scratch directory
//!      └─ scripts ─ servers ─ …         all of them have the mark in their environment, which nobody drops on the way
//! ```

use anyhow::{Context, Result};
use std::io::{ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// With a scratch directory behind it: be the guard.
pub(super) const FLAG: &str = "--be-guard";
const MARK: &str = "BENCH_SCRATCH";
/// A script that is just starting a server may have children that were not seen.
const SWEPT_FOR: Duration = Duration::from_secs(10);

/// The other process; it ends when this is dropped.
pub(super) struct Guard(Child);

impl Guard {
    /// Guards the comparison that has this scratch directory.
    pub(super) fn start(scratch: &Path) -> Result<Guard> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", FLAG]).arg(scratch);
        // Ctrl-C is for the group of the terminal, which the guard must survive.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(Guard(command.spawn().context("the guard")?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            eprintln!("waiting for the guard: {error}");
        }
    }
}

/// Marks a process, and whoever descends from it, as part of the comparison.
pub(super) fn mark(command: &mut Command, scratch: &Path) {
    command.env(MARK, scratch);
}

/// Waits until the comparison has ended, then clears away what is left.
///
/// # Errors
/// The data cannot be removed.
pub(super) fn serve(scratch: &str) -> Result<()> {
    let scratch = Path::new(scratch);
    // Nothing is ever written: what ends the wait is that nobody holds the other end any more.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    sweep(scratch)?;
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| scratch.display().to_string())
        }
        _ => Ok(()),
    }
}

/// Kills whoever has the mark. Their data goes with them, so there is nothing to save.
fn sweep(scratch: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        let left = marked(scratch)?;
        if left.is_empty() || begin.elapsed() > SWEPT_FOR {
            return Ok(());
        }
        // Whoever has ended by itself since is no failure.
        Command::new("sh")
            .args(["-c", &format!("kill -KILL {}", left.join(" "))])
            .stderr(Stdio::null())
            .status()?;
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Ids of the processes that have the mark and are not just waiting to be reaped.
fn marked(scratch: &Path) -> Result<Vec<String>> {
    let mark = format!("{MARK}={}", scratch.display());
    let has_mark = |pid: &String| {
        // Gone, or somebody else's: not ours in either case. A process that has ended shows an empty environment.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|octet| *octet == 0).any(|variable| variable == mark.as_bytes())
    };
    let names =
        std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.bytes().all(|octet| octet.is_ascii_digit())).filter(has_mark).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn whoever_has_the_mark_is_ended_and_nobody_else() {
        let scratch = Path::new("/nowhere/leveret-guard-test");
        let start = |scratch: &Path, script: &str| {
            let mut command = Command::new("sh");
            mark(command.args(["-c", script]), scratch);
            command.spawn().unwrap()
        };
        // The second one is a descendant that has left the group and the session.
        let mut marked_one = start(scratch, "setsid sleep 600 & wait");
        let mut other = start(&scratch.join("other"), "exec sleep 600");
        while marked(scratch).unwrap().len() < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        sweep(scratch).unwrap();
        assert_eq!(marked_one.wait().unwrap().signal(), Some(9));
        assert!(marked(scratch).unwrap().is_empty() && other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
