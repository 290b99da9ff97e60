//! The peers to compare, each started on its own port with its own empty data directory, on loopback.

use super::{guard, nats, relay};
use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use leveret_bench::connection::Connection;
use leveret_bench::process::Process;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
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
    /// RabbitMQ's replicated queues (here of one node) in the place of durable ones.
    RabbitMqQuorum,
    Nats,
    /// NATS that syncs before it answers: what Leveret and RabbitMQ promise.
    NatsSync,
    /// No broker: the most that sockets allow (`relay`).
    Relay,
    Leveret,
}

impl Peer {
    pub(super) const ALL: [Peer; 6] =
        [Peer::RabbitMq, Peer::RabbitMqQuorum, Peer::Nats, Peer::NatsSync, Peer::Relay, Peer::Leveret];

    pub(super) fn parse(name: &str) -> Result<Peer> {
        let names = || Peer::ALL.map(Peer::name).join(", ");
        let found = Peer::ALL.into_iter().find(|peer| peer.name() == name);
        found.with_context(|| format!("unknown peer `{name}`: {}", names()))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Peer::RabbitMq => "rabbitmq",
            Peer::RabbitMqQuorum => "rabbitmq-quorum",
            Peer::Nats => "nats",
            Peer::NatsSync => "nats-sync",
            Peer::Relay => "relay",
            Peer::Leveret => "leveret",
        }
    }

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Peer::RabbitMq => "RabbitMQ",
            Peer::RabbitMqQuorum => "RabbitMQ, quorum queue",
            Peer::Nats => "NATS",
            Peer::NatsSync => "NATS, sync always",
            Peer::Relay => "relay",
            Peer::Leveret => "Leveret",
        }
    }

    pub(super) fn speaks_amqp(self) -> bool {
        matches!(self, Peer::RabbitMq | Peer::RabbitMqQuorum | Peer::Leveret)
    }

    /// Whether a client can be served: the first conversation is had and ended.
    fn converse(self, address: SocketAddr) -> Result<()> {
        match self {
            Peer::Nats | Peer::NatsSync => nats::Connection::open(address).map(drop),
            Peer::Relay => relay::pair(address).map(drop),
            Peer::RabbitMq | Peer::RabbitMqQuorum | Peer::Leveret => Ok(Connection::open(address)?.close()?),
        }
    }
}

/// A running server; stopped, and its data removed, when dropped.
pub(super) struct Server {
    pub(super) peer: Peer,
    pub(super) address: SocketAddr,
    pub(super) process: Process,
    /// From the start of the command to the first opened connection.
    pub(super) start_time: Duration,
    pub(super) directory: PathBuf,
    handle: Handle,
}

enum Handle {
    /// Started by this script of `interop/`, which knows the directory.
    Script(&'static str),
    Child(Child),
}

/// How a server goes down before it comes up again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// SIGTERM: it may do its last work.
    Asked,
    /// SIGKILL.
    Killed,
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
        let (handle, process, start_time) = launch(peer, address, &directory)?;
        Ok(Server { peer, address, process, start_time, directory, handle })
    }

    /// Ends the process and starts it again on its data; says how long until it served.
    ///
    /// # Errors
    /// Only what is started without a script can be restarted.
    pub(super) fn restart(&mut self, ending: Ending) -> Result<Duration> {
        let Handle::Child(child) = &mut self.handle else {
            bail!("{} cannot be restarted", self.peer.name())
        };
        match ending {
            Ending::Asked => terminate(child)?,
            Ending::Killed => {
                child.kill()?;
                child.wait()?;
            }
        }
        (self.handle, self.process, self.start_time) = launch(self.peer, self.address, &self.directory)?;
        Ok(self.start_time)
    }

    /// The end of what it wrote to stderr, for a reader who asks why it failed.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.join(STDERR_FILE)).unwrap_or_default();
        let skipped = log.lines().count().saturating_sub(LAST_WORDS_LINES);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    fn stop(&mut self) -> Result<()> {
        match &mut self.handle {
            Handle::Script(script) => {
                let status = interop(script).arg("stop").arg(&self.directory).status()?;
                ensure!(status.success(), "{script} stop: {status}");
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

/// What the script of `interop/` says about the version of a peer.
pub(super) fn version(script: &'static str) -> Result<String> {
    let output = interop(script).arg("version").env("NATS_HOME", nats_home()?).output().context(script)?;
    ensure!(output.status.success(), "{script} version: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn launch(peer: Peer, address: SocketAddr, directory: &Path) -> Result<(Handle, Process, Duration)> {
    match peer {
        Peer::RabbitMq | Peer::RabbitMqQuorum => {
            let ports = [("RABBITMQ_DIST_PORT", free_port()?), ("RABBITMQ_EPMD_PORT", free_port()?)];
            start_script("rabbitmq.sh", &ports, peer, address, directory)
        }
        Peer::Nats => start_script("nats.sh", &[], peer, address, directory),
        Peer::NatsSync => {
            let always = [("SYNC_INTERVAL", "always".to_owned())];
            start_script("nats.sh", &always, peer, address, directory)
        }
        Peer::Leveret => start_child(leveret(address, directory)?, peer, address, directory),
        Peer::Relay => start_child(relay_process(address)?, peer, address, directory),
    }
}

/// A peer's default configuration, but for `settings`.
fn start_script(
    script: &'static str,
    settings: &[(&str, String)],
    peer: Peer,
    address: SocketAddr,
    directory: &Path,
) -> Result<(Handle, Process, Duration)> {
    let begin = Instant::now();
    let mut command = interop(script);
    guard::mark(&mut command, scratch_of(directory));
    let mut starter = command
        .args(["start", &address.port().to_string()])
        .arg(directory)
        .env("NATS_HOME", nats_home()?)
        .env("START_TIMEOUT", START_TIMEOUT.as_secs().to_string())
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .current_dir(directory) // a node that crashes leaves its dump where it stands
        .stdout(Stdio::piped())
        .spawn()
        .context(script)?;
    let start_time = wait_until_open(peer, address, begin, &mut starter, |status| status.success());
    let output = starter.wait_with_output()?;
    ensure!(output.status.success(), "{script} start: {}", output.status);
    let pid = String::from_utf8_lossy(&output.stdout).trim().parse();
    Ok((Handle::Script(script), Process(pid.context("the script printed no pid")?), start_time?))
}

/// Every server has a directory in that of the comparison.
fn scratch_of(directory: &Path) -> &Path {
    directory.parent().unwrap_or(directory)
}

fn interop(script: &str) -> Command {
    Command::new(workspace_root().join("interop").join(script))
}

fn nats_home() -> Result<PathBuf> {
    Ok(target_directory()?.join("interop").join("nats"))
}

fn leveret(address: SocketAddr, directory: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("leveret"));
    command.arg("serve").arg("--data-dir").arg(directory.join("data"));
    command.args(["--listen", &address.to_string(), "--http", &free_address()?.to_string()]);
    Ok(command)
}

fn relay_process(address: SocketAddr) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", super::RELAY_FLAG, &address.to_string()]);
    Ok(command)
}

fn start_child(
    mut command: Command,
    peer: Peer,
    address: SocketAddr,
    directory: &Path,
) -> Result<(Handle, Process, Duration)> {
    let begin = Instant::now();
    let log = directory.join(STDERR_FILE);
    guard::mark(&mut command, scratch_of(directory));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    let start_time = wait_until_open(peer, address, begin, &mut child, |_| false).or_else(|error| {
        terminate(&mut child)?;
        Err(error.context(std::fs::read_to_string(&log)?))
    })?;
    let process = Process(child.id());
    Ok((Handle::Child(child), process, start_time))
}

/// `may_end` says of a starter that has ended whether it has done its work.
fn wait_until_open(
    peer: Peer,
    address: SocketAddr,
    begin: Instant,
    starter: &mut Child,
    may_end: impl Fn(ExitStatus) -> bool,
) -> Result<Duration> {
    let mut refusal = None;
    while begin.elapsed() < START_TIMEOUT {
        match peer.converse(address) {
            Ok(()) => return Ok(begin.elapsed()),
            Err(error) => refusal = Some(error),
        }
        if let Some(status) = starter.try_wait()?
            && !may_end(status)
        {
            bail!("the server ended at once: {status}");
        }
        std::thread::sleep(START_POLL);
    }
    bail!("the server did not start in {START_TIMEOUT:?}: {:#}", refusal.context("it was never asked")?)
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

fn free_port() -> Result<String> {
    Ok(free_address()?.port().to_string())
}
