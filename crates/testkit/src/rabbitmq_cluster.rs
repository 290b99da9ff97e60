//! Three RabbitMQ nodes for tests in which nodes go and come back: started by `interop/rabbitmq-cluster.sh` (which
//! installs Debian's package where it is missing), killed by their pids when dropped.
//!
//! Starting takes some 15 s on two cores, bringing a node back some 5 s, everything else is immediate: share a cluster
//! among the steps of one test.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::rabbitmq::{new_dir, succeed};

/// Nodes of a cluster.
pub const NODES: usize = 3;

/// What the script needs, one behind the other.
const PORTS: u16 = 7;
/// Below the ports of outgoing connections, one of which might get in between: the nodes alone make dozens.
const PORT_RANGE: std::ops::Range<u16> = 20_000..32_000;
/// Runs of ports between two calls; processes are one apart, since that is what their ids are.
const CALL_STRIDE: usize = 97;

/// A running cluster. Nodes are named by their index in [`Self::addresses`]. Dropping it kills the nodes and removes
/// their files.
#[derive(Debug)]
pub struct RabbitMqCluster {
    first_port: u16,
    dir: PathBuf,
}

impl RabbitMqCluster {
    /// Starts the nodes and waits until all have joined.
    ///
    /// # Errors
    /// RabbitMQ can neither be found nor installed, or a node does not come up in 90 s; nothing is left running.
    pub fn start() -> io::Result<RabbitMqCluster> {
        let first_port = free_ports()?;
        let cluster = RabbitMqCluster { first_port, dir: new_dir()? };
        succeed(
            Command::new(script_path())
                .args(["start", &first_port.to_string()])
                .arg(&cluster.dir)
                .output()?,
        )?;
        Ok(cluster)
    }

    /// Where the nodes speak AMQP. They stay the same when a node is killed and restarted.
    pub fn addresses(&self) -> [SocketAddr; NODES] {
        std::array::from_fn(|node| (Ipv4Addr::LOCALHOST, self.first_port + node as u16).into())
    }

    /// The same as AMQP URLs, with user and password.
    pub fn urls(&self) -> [String; NODES] {
        self.addresses().map(|address| format!("amqp://guest:guest@{address}/%2f"))
    }

    /// Kills a node (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// There is no such node.
    pub fn kill(&self, node: usize) -> io::Result<()> {
        self.run("kill", node, &[]).map(drop)
    }

    /// Lets a node run no further (SIGSTOP): its sockets stay open, and it answers nobody until [`thaw`](Self::thaw).
    ///
    /// # Errors
    /// There is no such node, or it does not run.
    pub fn freeze(&self, node: usize) -> io::Result<()> {
        self.run("freeze", node, &[]).map(drop)
    }

    /// Ends a [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// There is no such node, or it does not run.
    pub fn thaw(&self, node: usize) -> io::Result<()> {
        self.run("thaw", node, &[]).map(drop)
    }

    /// Starts a killed node again and waits until it has joined. Its quorum queues catch up on their own; RabbitMQ
    /// does not say when.
    ///
    /// # Errors
    /// There is no such node, it runs, or it does not come up in 90 s: when all were killed, the last one must be the
    /// first to come back.
    pub fn restart(&self, node: usize) -> io::Result<()> {
        self.run("restart", node, &[]).map(drop)
    }

    /// Runs `rabbitmqctl` on a node and returns what it printed.
    ///
    /// # Errors
    /// What the command says.
    pub fn ctl(&self, node: usize, args: &[&str]) -> io::Result<String> {
        self.run("ctl", node, args)
    }

    fn run(&self, verb: &str, node: usize, args: &[&str]) -> io::Result<String> {
        let mut command = Command::new(script_path());
        command.arg(verb).arg(&self.dir).arg((node + 1).to_string()).args(args);
        succeed(command.output()?)
    }
}

impl Drop for RabbitMqCluster {
    fn drop(&mut self) {
        let _a_test_cannot_repair_it = Command::new(script_path()).arg("stop").arg(&self.dir).status();
        let _leftovers_are_harmless = std::fs::remove_dir_all(&self.dir);
    }
}

/// The first of the ports that a cluster needs, all free at this moment. Every call, in whatever process, starts looking
/// in another place, as the nodes take their ports only seconds later.
fn free_ports() -> io::Result<u16> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let calls = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut blocks: Vec<u16> = PORT_RANGE.step_by(PORTS.into()).collect();
    let start = (std::process::id() as usize + calls * CALL_STRIDE) % blocks.len();
    blocks.rotate_left(start);
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let free = blocks.into_iter().find(|first| (*first..first + PORTS).all(is_free));
    free.ok_or_else(|| io::Error::other("no run of free ports for a cluster"))
}

fn script_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../interop/rabbitmq-cluster.sh")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Target, check, parse};

    const DECLARED: &str = "
        scenario a-quorum-queue
          1: queue.declare queue=three-nodes durable arguments={x-queue-type=quorum}
    ";
    const CONFIRMED: &str = "
        scenario two-are-enough
          1: confirm.select
          1> basic.publish routing-key=three-nodes props={delivery-mode=2} body=kept
          1 acked 1..1
    ";
    const KEPT: &str = "
        scenario still-there
          1> basic.get queue=three-nodes
          1< basic.get-ok delivery-tag=1 routing-key=three-nodes props={delivery-mode=2, ...} body=kept ...
          1> basic.ack delivery-tag=1
    ";

    fn play(address: SocketAddr, text: &str) {
        for scenario in parse("cluster", text).unwrap() {
            check(&scenario, &Target::new(address, true), "unused")
                .unwrap_or_else(|failure| panic!("{failure}"));
        }
    }

    fn running(cluster: &RabbitMqCluster, asked: usize) -> usize {
        let status = cluster.ctl(asked, &["-q", "cluster_status", "--formatter", "json"]).unwrap();
        let (_, nodes) = status.split_once("\"running_nodes\":[").unwrap();
        nodes.split(']').next().unwrap().split(',').count()
    }

    #[test]
    #[ignore = "starts three RabbitMQ nodes, 20 s: cargo test -p leveret-testkit rabbitmq_cluster -- --ignored"]
    fn a_node_goes_and_comes_back_while_a_quorum_queue_serves() {
        let cluster = RabbitMqCluster::start().unwrap();
        let addresses = cluster.addresses();
        assert_eq!(running(&cluster, 0), NODES);
        play(addresses[2], DECLARED);
        cluster.kill(0).unwrap();
        play(addresses[1], CONFIRMED);
        assert_eq!(running(&cluster, 1), NODES - 1);
        cluster.restart(0).unwrap();
        assert_eq!(running(&cluster, 1), NODES);
        cluster.kill(1).unwrap();
        play(addresses[0], KEPT);
        assert!(cluster.kill(NODES).is_err(), "there is no such node");
    }
}
