//! Runs `leveret serve` as a process of its own and ends it the way a test wants: killed, stopped in order, or by
//! its own failure.
//!
//! ```text
//!   Launcher ──spawn──► Starting ──wait_ready──► Server ──kill, terminate, wait──► ExitStatus
//!                          └──kill──► gone
//! ```
//!
//! A process is killed and reaped when its value is dropped, so that no test leaves one behind.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often an ending process is looked at.
const EXIT_POLL: Duration = Duration::from_millis(2);

/// Which program is the broker, and where its processes keep their files.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The `leveret` binary.
    pub binary: PathBuf,
    /// Given to `serve --data-dir`; made if it is missing.
    pub data_dir: PathBuf,
    /// What the processes write to stderr, one after the other.
    pub log: PathBuf,
}

/// Why a started process does not serve.
#[derive(Debug)]
pub enum StartFailure {
    /// It ended.
    Exited(ExitStatus),
    /// It named no listener in time.
    Silent(Duration),
    /// It could not be started or watched.
    Io(io::Error),
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "the broker ended instead of serving: {status}"),
            Self::Silent(waited) => write!(f, "the broker named no listener in {waited:?}"),
            Self::Io(error) => write!(f, "the broker's process: {error}"),
        }
    }
}

impl std::error::Error for StartFailure {}

impl From<io::Error> for StartFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Launcher {
    /// Starts a process on a loopback port of the kernel's choice. It need not serve yet.
    ///
    /// # Errors
    /// The program or the log file cannot be opened.
    pub fn spawn(&self) -> io::Result<Starting> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut child = Command::new(&self.binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(&self.data_dir)
            .env_remove("LEVERET_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = child.stdout.take();
        let process = Process { child, since: Instant::now() };
        let stdout = stdout.ok_or_else(|| io::Error::other("a piped stdout is missing"))?;
        Ok(Starting { process, listener: listeners(stdout) })
    }

    /// Starts a process and waits until it serves.
    ///
    /// # Errors
    /// It ends, or names no listener before `timeout`; it is then gone.
    pub fn start(&self, timeout: Duration) -> Result<Server, StartFailure> {
        self.spawn()?.wait_ready(timeout)
    }
}

/// Reads the listeners off stdout until it ends, so that the process never waits for a reader.
fn listeners(stdout: impl Read + Send + 'static) -> Receiver<SocketAddr> {
    let (found, listener) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = amqp_address(&line) {
                let _nobody_waits_any_more = found.send(address);
            }
        }
    });
    listener
}

/// The address in `amqp://[user[:password]@]HOST:PORT[/vhost]`.
fn amqp_address(line: &str) -> Option<SocketAddr> {
    let authority = line.strip_prefix("amqp://")?.split(['/', ' ']).next()?;
    authority.rsplit('@').next()?.parse().ok()
}

/// A process that may not serve yet.
#[derive(Debug)]
pub struct Starting {
    process: Process,
    listener: Receiver<SocketAddr>,
}

impl Starting {
    /// Waits for its listener line.
    ///
    /// # Errors
    /// It ends, or names no listener before `timeout`; it is then gone.
    pub fn wait_ready(mut self, timeout: Duration) -> Result<Server, StartFailure> {
        match self.listener.recv_timeout(timeout) {
            Ok(address) => {
                let start_time = self.process.since.elapsed();
                Ok(Server { process: self.process, address, start_time })
            }
            Err(RecvTimeoutError::Disconnected) => Err(StartFailure::Exited(self.process.child.wait()?)),
            Err(RecvTimeoutError::Timeout) => Err(StartFailure::Silent(timeout)),
        }
    }

    /// SIGKILL, whatever it was doing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(mut self) -> io::Result<ExitStatus> {
        self.process.kill()
    }
}

/// A process that serves.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
    start_time: Duration,
}

impl Server {
    /// Where it speaks AMQP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From the start of the process to its listener line: recovery and all.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Resident memory, octets.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| io::Error::other("no VmRSS"))? * 1024)
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.process.child.try_wait()?.is_none())
    }

    /// SIGKILL. It is gone when this returns.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(mut self) -> io::Result<ExitStatus> {
        self.process.kill()
    }

    /// Asks it to stop in order (SIGTERM); its end is seen by [`Server::wait`].
    ///
    /// # Errors
    /// There is no shell.
    pub fn terminate(&self) -> io::Result<()> {
        // std can only kill; the shell's builtin can ask.
        let ask = format!("kill -TERM {}", self.pid());
        Command::new("sh").args(["-c", &ask]).stderr(Stdio::null()).status().map(drop)
    }

    /// Waits for its end; `None` if it still runs after `timeout`, and is then killed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.process.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(EXIT_POLL);
        }
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    since: Instant,
}

impl Process {
    fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _it_may_be_gone_already = self.kill();
    }
}

/// The last lines of a log, for an error report.
pub fn log_tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A program that behaves like the script says, in place of the broker.
    fn launcher(name: &str, script: &str) -> Launcher {
        let directory =
            std::env::temp_dir().join(format!("leveret-supervisor-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let binary = directory.join("broker");
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
        Launcher { binary, data_dir: directory.join("data"), log: directory.join("log") }
    }

    const SECOND: Duration = Duration::from_secs(5);

    #[test]
    fn listener_lines_are_found() {
        let check = |line, expected: Option<&str>| {
            assert_eq!(amqp_address(line), expected.map(|address| address.parse().unwrap()), "{line}");
        };
        check("amqp://127.0.0.1:5672", Some("127.0.0.1:5672"));
        check("amqp://guest:guest@127.0.0.1:99/%2f and more", Some("127.0.0.1:99"));
        check("amqps://127.0.0.1:5671", None);
        check("ready", None);
    }

    #[test]
    fn a_server_is_awaited_asked_and_reaped() {
        let broker =
            launcher("asked", "trap 'exit 3' TERM\necho amqp://127.0.0.1:1\nwhile :; do sleep 0.01; done");
        let server = broker.start(SECOND).unwrap();
        assert_eq!(server.address().port(), 1);
        assert!(server.resident_bytes().unwrap() > 0);
        server.terminate().unwrap();
        assert_eq!(server.wait(SECOND).unwrap().and_then(|status| status.code()), Some(3));
    }

    #[test]
    fn a_process_that_does_not_serve_is_reported() {
        let ended = launcher("ended", "echo oops >&2; exit 7");
        let failure = ended.start(SECOND).unwrap_err();
        assert!(matches!(failure, StartFailure::Exited(status) if status.code() == Some(7)), "{failure}");
        assert_eq!(log_tail(&ended.log, 1), "oops");
        let silent = launcher("silent", "exec sleep 60");
        let failure = silent.start(Duration::from_millis(50)).unwrap_err();
        assert!(matches!(failure, StartFailure::Silent(_)), "{failure}");
    }
}
