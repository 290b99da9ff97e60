//! The brokers to compare, each started on its own port with its own empty data directory, on loopback.

use crate::workspace_root;
use anyhow::{Context, Result, bail, ensure};
use leveret_bench::connection::Connection;
use leveret_bench::process::Process;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(120);
const STDERR_FILE: &str = "stderr.log";
const LAST_WORDS_LINES: usize = 20;
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Start times are known this precisely.
const START_POLL: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    RabbitMq,
    Leveret,
    /// No broker: the most that sockets allow (`relay`).
    Relay,
}

impl Peer {
    pub(super) fn parse(name: &str) -> Result<Peer> {
        match name {
            "rabbitmq" => Ok(Peer::RabbitMq),
            "leveret" => Ok(Peer::Leveret),
            "relay" => Ok(Peer::Relay),
            other => bail!("unknown peer `{other}`: rabbitmq, leveret, relay"),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::RabbitMq => "rabbitmq",
            Peer::Leveret => "leveret",
            Peer::Relay => "relay",
        }
    }
}

/// A running broker; stopped, and its data removed, when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) process: Process,
    /// From the start of the command to the first opened connection.
    pub(super) start_time: Duration,
    directory: PathBuf,
    handle: Handle,
}

enum Handle {
    /// Started by `interop/rabbitmq.sh`, which knows the directory.
    Script,
    Child(Child),
}

impl Server {
    /// Where the toolkit connects.
    pub(super) fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// Starts `peer` with an empty data directory below `scratch`.
    pub(super) fn start(peer: Peer, scratch: &Path) -> Result<Server> {
        let address = free_address()?;
        let directory = scratch.join(format!("{}-{}", peer.name(), address.port()));
        std::fs::create_dir_all(&directory)?;
        let begin = Instant::now();
        let (handle, process, start_time) = match peer {
            Peer::RabbitMq => start_rabbitmq(address, &directory, begin)?,
            Peer::Leveret => start_child(leveret(address, &directory)?, address, &directory, begin)?,
            Peer::Relay => start_child(relay(address)?, address, &directory, begin)?,
        };
        Ok(Server { address, process, start_time, directory, handle })
    }

    /// The end of what it wrote to stderr, for a reader who asks why it failed.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join(STDERR_FILE)).unwrap_or_default();
        let skipped = log.lines().count().saturating_sub(LAST_WORDS_LINES);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    fn stop(&mut self) -> Result<()> {
        match &mut self.handle {
            Handle::Script => {
                let status = rabbitmq_script().arg("stop").arg(&self.directory).status()?;
                ensure!(status.success(), "rabbitmq.sh stop: {status}");
            }
            Handle::Child(child) => terminate(child)?,
        }
        Ok(std::fs::remove_dir_all(&self.directory)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("stopping the server in {}: {error:#}", self.directory.display());
        }
    }
}

/// RabbitMQ's default configuration without plugins.
fn start_rabbitmq(
    address: SocketAddr,
    directory: &Path,
    begin: Instant,
) -> Result<(Handle, Process, Duration)> {
    let mut script = rabbitmq_script()
        .args(["start", &address.port().to_string()])
        .arg(directory)
        .current_dir(directory) // a node that crashes leaves its dump where it stands
        .stdout(Stdio::piped())
        .spawn()
        .context("interop/rabbitmq.sh")?;
    let start_time = wait_until_open(address, begin, &mut script, |status| status.success());
    let output = script.wait_with_output()?;
    ensure!(output.status.success(), "rabbitmq.sh start: {}", output.status);
    let pid = String::from_utf8_lossy(&output.stdout).trim().parse().context("rabbitmq.sh printed no pid")?;
    Ok((Handle::Script, Process(pid), start_time?))
}

fn rabbitmq_script() -> Command {
    Command::new(workspace_root().join("interop/rabbitmq.sh"))
}

fn leveret(address: SocketAddr, directory: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("leveret"));
    command.arg("serve").arg("--data-dir").arg(directory.join("data"));
    command.args(["--listen", &address.to_string(), "--http", &free_address()?.to_string()]);
    Ok(command)
}

fn relay(address: SocketAddr) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", super::RELAY_FLAG, &address.to_string()]);
    Ok(command)
}

fn start_child(
    mut command: Command,
    address: SocketAddr,
    directory: &Path,
    begin: Instant,
) -> Result<(Handle, Process, Duration)> {
    let log = directory.join(STDERR_FILE);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let start_time = wait_until_open(address, begin, &mut child, |_| false).or_else(|error| {
        terminate(&mut child)?;
        Err(error.context(std::fs::read_to_string(&log)?))
    })?;
    let process = Process(child.id());
    Ok((Handle::Child(child), process, start_time))
}

/// `may_end` says of a starter that has ended whether it has done its work.
fn wait_until_open(
    address: SocketAddr,
    begin: Instant,
    starter: &mut Child,
    may_end: impl Fn(std::process::ExitStatus) -> bool,
) -> Result<Duration> {
    let mut refusal = None;
    while begin.elapsed() < START_TIMEOUT {
        match Connection::open(address) {
            Ok(connection) => {
                let start_time = begin.elapsed();
                connection.close()?;
                return Ok(start_time);
            }
            Err(error) => refusal = Some(error),
        }
        if let Some(status) = starter.try_wait()?
            && !may_end(status)
        {
            bail!("the server ended at once: {status}");
        }
        std::thread::sleep(START_POLL);
    }
    bail!("the server did not start in {START_TIMEOUT:?}: {}", refusal.context("it was never asked")?)
}

/// Asks a process to end with SIGTERM, and insists after a while.
fn terminate(child: &mut Child) -> Result<()> {
    // std can only kill; the shell's builtin can ask.
    Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())]).stderr(Stdio::null()).status()?;
    let begin = Instant::now();
    while child.try_wait()?.is_none() {
        if begin.elapsed() > STOP_TIMEOUT {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A port that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
