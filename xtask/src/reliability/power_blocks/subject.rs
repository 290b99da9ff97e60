//! Whose disk it is: a broker that keeps its data where it is told to.

use anyhow::{Context, Result};
use leveret_testkit::supervisor::{Launcher, Server, log_tail};
use leveret_wire::{FieldTable, FieldValue};
use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::disks::succeed;
use crate::workspace_root;

const START_MAX: Duration = Duration::from_secs(30);
const LOG_LINES: usize = 12;
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// Nodes that start at once, here or in other campaigns, look from so many places.
const PORTS_APART: u32 = 5000;
static SEARCHES: AtomicU32 = AtomicU32::new(0);
/// Everything RabbitMQ keeps belongs to a node of this name.
const NODE_NAME: &str = "leveret-power@localhost";
/// The alarm at 50 MB would leave nothing of a small disk.
const RABBITMQ_SETTINGS: &str = "disk_free_limit.absolute = 1MB\n";

/// Small, so that a recording has many: each is given a name, settles and goes.
const LOG_FILE_BYTES: u64 = 2 << 20;

/// A broker that is started again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// A program that starts ours: [`Subject::leveret`].
    Leveret(PathBuf),
    RabbitMqClassic,
    RabbitMqQuorum,
    /// Its queues were declared a moment ago, and nobody has synced the disk since.
    RabbitMqNewQuorum,
}

/// When the disk of a new broker is synced for it, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstSync {
    Never,
    BeforeQueues,
    AfterQueues,
}

impl Subject {
    /// The broker `binary`, started by a script in `folder` that says what it cannot be told by arguments.
    pub(super) fn leveret(binary: &Path, folder: &Path) -> Result<Subject> {
        let path = folder.join("broker.sh");
        let broker = binary.display();
        let script = format!("#!/bin/sh\nLEVERET_LOG_FILE_BYTES={LOG_FILE_BYTES} exec '{broker}' \"$@\"\n");
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Subject::Leveret(path))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Subject::Leveret(_) => "Leveret",
            Subject::RabbitMqClassic => "RabbitMQ, classic queues",
            Subject::RabbitMqQuorum => "RabbitMQ, quorum queues",
            Subject::RabbitMqNewQuorum => "RabbitMQ, new quorum queues",
        }
    }

    /// What its images are counted as.
    pub(super) fn images(&self) -> &'static str {
        match self {
            Subject::Leveret(_) => "images of Leveret",
            Subject::RabbitMqClassic => "images with classic queues",
            Subject::RabbitMqQuorum => "images with quorum queues",
            Subject::RabbitMqNewQuorum => "images with new quorum queues",
        }
    }

    /// Its name, fit for a file.
    pub(super) fn file_name(&self) -> &'static str {
        match self {
            Subject::Leveret(_) => "leveret",
            Subject::RabbitMqClassic => "classic",
            Subject::RabbitMqQuorum => "quorum",
            Subject::RabbitMqNewQuorum => "new-quorum",
        }
    }

    /// Whether its data are only found under the path where they were written. RabbitMQ 3.10.8 writes the absolute path into the
    /// `config` of each quorum queue; anywhere else the node starts, and the queue answers 541 `noproc`.
    pub(super) fn stays_in_place(&self) -> bool {
        !matches!(self, Subject::Leveret(_))
    }

    /// Whether an answered change of the topology, and a transaction with acknowledgements, are all or nothing.
    pub(super) fn promises_changes(&self) -> bool {
        matches!(self, Subject::Leveret(_))
    }

    /// Faults of the ledger that are none by its own promises: P3, P4 and P6 are ours.
    pub(super) fn never_promised(&self) -> &'static [&'static str] {
        match self {
            Subject::Leveret(_) => &[],
            _ => &[
                "recovered without `redelivered`",
                "delivered again without `redelivered`",
                "acknowledged before a confirmed publish and back",
                "out of order",
            ],
        }
    }

    /// RabbitMQ 3.10.8 leaves to the kernel to write what it makes on its first start. It does not start again if the power goes in
    /// the seconds until then: the `.config` of its virtual host is empty. Nothing about messages could be learned from such disks.
    /// It leaves to the kernel, too, which of its logs is whose (`names.dets`, written half a second after a quorum queue was
    /// declared, and never synced): what comes of that is seen apart from what comes of messages.
    pub(super) fn first_sync(&self) -> FirstSync {
        match self {
            Subject::Leveret(_) => FirstSync::Never,
            Subject::RabbitMqClassic | Subject::RabbitMqQuorum => FirstSync::AfterQueues,
            Subject::RabbitMqNewQuorum => FirstSync::BeforeQueues,
        }
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        match self {
            Subject::Leveret(_) => 128 << 20,
            _ => 512 << 20,
        }
    }

    /// Arguments of the queues.
    pub(super) fn queue_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::new();
        if matches!(self, Subject::RabbitMqQuorum | Subject::RabbitMqNewQuorum) {
            arguments.insert("x-queue-type", FieldValue::LongString(b"quorum".to_vec()));
        }
        arguments
    }

    /// Starts it on `data_dir` and waits until it serves; logs and settings are in `folder`, one broker at a time. RabbitMQ knows
    /// `data_dir` by a link in `folder` only.
    ///
    /// # Errors
    /// It does not: with the end of its log.
    pub(super) fn start(&self, data_dir: PathBuf, folder: &Path) -> Result<Running> {
        match self {
            Subject::Leveret(binary) => {
                let log = folder.join("broker.log");
                let launcher = Launcher { binary: binary.clone(), data_dir, log };
                let started = launcher.start(START_MAX);
                let server = started
                    .with_context(|| format!("failed start\n{}", log_tail(&launcher.log, LOG_LINES)))?;
                Ok(Running::Leveret(server))
            }
            _ => Node::start(&data_dir, folder).map(Running::RabbitMq),
        }
    }
}

pub(super) enum Running {
    Leveret(Server),
    RabbitMq(Node),
}

impl Running {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Running::Leveret(server) => server.address(),
            Running::RabbitMq(node) => node.address,
        }
    }

    /// SIGKILL.
    pub(super) fn kill(self) -> Result<()> {
        match self {
            Running::Leveret(server) => Ok(server.kill().map(drop)?),
            Running::RabbitMq(node) => {
                drop(node);
                Ok(())
            }
        }
    }
}

/// A node of RabbitMQ. Dropping it kills it.
pub(super) struct Node {
    folder: PathBuf,
    address: SocketAddr,
}

impl Node {
    fn start(data_dir: &Path, folder: &Path) -> Result<Node> {
        let folder = folder.join("node");
        std::fs::create_dir_all(&folder)?;
        std::fs::create_dir_all(data_dir)?;
        let link = folder.join("data");
        if link.is_symlink() {
            std::fs::remove_file(&link)?;
        }
        symlink(data_dir, &link)?;
        let settings = folder.join("power.conf");
        std::fs::write(&settings, RABBITMQ_SETTINGS)?;
        let [port, distribution, mapper] = free_ports()?;
        let node = Node { folder, address: (Ipv4Addr::LOCALHOST, port).into() };
        let mut start = Command::new(script());
        start.args(["start", &port.to_string()]).arg(&node.folder);
        start.env("RABBITMQ_NODENAME", NODE_NAME).env("RABBITMQ_EXTRA_CONF", settings);
        start.env("RABBITMQ_DIST_PORT", distribution.to_string());
        start.env("RABBITMQ_EPMD_PORT", mapper.to_string());
        succeed(&mut start).context("failed start")?;
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = succeed(Command::new(script()).arg("kill").arg(&self.folder)) {
            eprintln!("a node may be left in {}: {error:#}", self.folder.display());
        }
    }
}

/// Three neighbours below those that outgoing connections take: a busy machine has thousands of these, and Erlang's
/// distribution does not start if one of them has its port.
fn free_ports() -> Result<[u16; 3]> {
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let place = std::process::id() + SEARCHES.fetch_add(1, Ordering::Relaxed);
    let from = PORTS.start + (place % PORTS_APART) as u16 * 3;
    let bases = (from..PORTS.end).step_by(3).map(|base| [base, base + 1, base + 2]);
    let mut free = bases.filter(|ports| ports.iter().copied().all(is_free));
    free.next().context("no three free ports")
}

fn script() -> PathBuf {
    workspace_root().join("interop/rabbitmq.sh")
}
