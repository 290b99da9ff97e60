//! A private RabbitMQ node for tests: started by `interop/rabbitmq.sh` (which installs Debian's package where
//! it is missing), with the users and vhosts of `conformance/fixture.json`, stopped by its pid when dropped.

mod operator;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// The plugins whose exchange types we have built in.
const PLUGINS: &str = "rabbitmq_federation,rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange,rabbitmq_recent_history_exchange,\
                       rabbitmq_sharding";

/// A running node. Dropping it stops the node and removes its files.
#[derive(Debug)]
pub struct RabbitMq {
    addr: SocketAddr,
    dir: PathBuf,
}

impl RabbitMq {
    /// Starts a node on a free port and waits until it serves. Fails when RabbitMQ can neither be found nor
    /// installed, or does not come up in 90 s.
    pub fn start() -> io::Result<RabbitMq> {
        let port = free_port()?;
        let dir = new_dir()?;
        let node = RabbitMq { addr: (Ipv4Addr::LOCALHOST, port).into(), dir };
        let definitions = format!("load_definitions = {}\n", fixture_path().display());
        std::fs::write(node.extra_conf(), definitions)?;
        node.start_again()?;
        Ok(node)
    }

    /// Ends the node with SIGKILL. Its data and its port stay.
    pub fn kill(&self) -> io::Result<()> {
        succeed(Command::new(script_path()).arg("kill").arg(&self.dir).output()?).map(drop)
    }

    /// Starts the node after a [`kill`](Self::kill), with its data, and waits until it serves.
    pub fn start_again(&self) -> io::Result<()> {
        let mut start = Command::new(script_path());
        start.args(["start", &self.addr.port().to_string()]).arg(&self.dir);
        start.env("RABBITMQ_EXTRA_CONF", self.extra_conf()).env("EXTRA_PLUGINS", PLUGINS);
        succeed(start.output()?).map(drop)
    }

    fn extra_conf(&self) -> PathBuf {
        self.dir.join("fixture.conf")
    }

    /// Where the node speaks AMQP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs `rabbitmqctl` on the node and returns what it printed.
    pub fn ctl(&self, args: &[&str]) -> io::Result<String> {
        let output = Command::new(script_path()).arg("ctl").arg(&self.dir).args(args).output()?;
        succeed(output)
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let _a_test_cannot_repair_it = Command::new(script_path()).arg("stop").arg(&self.dir).status();
        let _leftovers_are_harmless = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

pub(crate) fn new_dir() -> io::Result<PathBuf> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let number = STARTED.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("leveret-peer-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

pub(crate) fn succeed(output: Output) -> io::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The definitions (users, vhosts, permissions) that the scenarios count on.
pub fn fixture_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/fixture.json")
}

fn script_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/rabbitmq.sh")
}
