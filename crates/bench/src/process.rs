//! What the kernel says about a server process: the same question for every peer, answered by the same witness.

use crate::{Error, Result};
use std::time::Duration;

/// Units of the times in `/proc/PID/stat`; fixed by Linux for user space.
const TICKS_PER_SECOND: f64 = 100.0;
const GONE: Error = Error::Process("the broker's process is gone");

/// A process on this machine, by its pid.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// Who listens on this TCP port of this machine; None where nobody does, or the kernel does not tell us.
    pub fn listening_on(port: u16) -> Option<Process> {
        let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|table| std::fs::read_to_string(table).ok())
            .flat_map(|table| listeners(&table, port))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| !sockets.is_empty() && has_one_open(*pid, &sockets)).map(Process)
    }

    /// User and system time of all threads since the start, seconds.
    pub fn cpu_seconds(self) -> Result<f64> {
        let stat = self.read("stat")?;
        // The name in parentheses may hold anything; what follows it is numbers, utime the 12th, stime the 13th.
        let (_, numbers) = stat.rsplit_once(')').ok_or(Error::Process("odd /proc stat"))?;
        let fields: Vec<&str> = numbers.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).ok_or(Error::Process("odd /proc stat"))?;
        Ok((user + system) / TICKS_PER_SECOND)
    }

    /// Resident memory, MiB.
    pub fn resident_mib(self) -> Result<f64> {
        Ok(status_number(&self.read("status")?, "VmRSS:")? / 1024.0)
    }

    /// How often all threads together went to sleep and were woken, per second, observed over `time`.
    pub fn wakeups_per_second(self, time: Duration) -> Result<f64> {
        let before = self.voluntary_switches()?;
        std::thread::sleep(time);
        Ok((self.voluntary_switches()? - before).max(0.0) / time.as_secs_f64())
    }

    fn voluntary_switches(self) -> Result<f64> {
        let mut sum = 0.0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0)).map_err(|_| GONE)? {
            // A thread may end while we look.
            if let Ok(status) = std::fs::read_to_string(task.map_err(|_| GONE)?.path().join("status")) {
                sum += status_number(&status, "voluntary_ctxt_switches:")?;
            }
        }
        Ok(sum)
    }

    fn read(self, file: &str) -> Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.0)).map_err(|_| GONE)
    }
}

/// Inodes of the sockets that listen on `port`, from a table of the kernel's.
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows.filter(|row| {
        row.get(1).is_some_and(|address| address.ends_with(&port)) && row.get(3) == Some(&LISTEN)
    });
    listening.filter_map(|row| row.get(9).map(|inode| (*inode).to_owned())).collect()
}

fn has_one_open(pid: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let targets = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}

fn status_number(status: &str, key: &str) -> Result<f64> {
    let value =
        status.lines().find_map(|line| line.strip_prefix(key)).ok_or(Error::Process("odd /proc status"))?;
    value
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .ok_or(Error::Process("odd /proc status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(Process::listening_on(port).map(|process| process.0), Some(std::process::id()));
        drop(listener);
        assert!(Process::listening_on(port).is_none());
    }

    #[test]
    fn this_process_can_be_observed() {
        let process = Process(std::process::id());
        assert!(process.cpu_seconds().unwrap() >= 0.0);
        assert!(process.resident_mib().unwrap() > 0.5);
        assert!(process.wakeups_per_second(Duration::from_millis(5)).unwrap() >= 0.0);
        assert!(Process(u32::MAX).cpu_seconds().is_err());
    }
}
