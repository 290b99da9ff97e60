//! A broker for this run: started by the script of its kind, on a free loopback port, with a data folder of its own.

use super::{Folders, quiet};
use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The kinds of broker that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Leveret,
    RabbitMq,
}

impl Peer {
    pub(crate) fn parse(name: &str) -> Result<Peer> {
        match name {
            "leveret" => Ok(Peer::Leveret),
            "rabbitmq" => Ok(Peer::RabbitMq),
            unknown => bail!("--against leveret or rabbitmq, not `{unknown}`"),
        }
    }

    fn script(self, root: &Path) -> PathBuf {
        root.join("interop").join(match self {
            Peer::Leveret => "leveret.sh",
            Peer::RabbitMq => "rabbitmq.sh",
        })
    }
}

/// A kind of broker that is ready to be started.
pub(crate) struct Server {
    pub(crate) peer: Peer,
    /// Leveret's program; RabbitMQ's is where Debian puts it.
    pub(crate) binary: PathBuf,
}

impl Server {
    /// Builds or installs the broker.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn prepare(peer: Peer, root: &Path) -> Result<Server> {
        match peer {
            Peer::Leveret => {
                let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
                quiet(Command::new(cargo).current_dir(root).args([
                    "build",
                    "--release",
                    "-p",
                    "leveret-cli",
                ]))?;
            }
            Peer::RabbitMq => quiet(Command::new(peer.script(root)).arg("version"))?,
        }
        Ok(Server { peer, binary: super::target_directory(root).join("release").join("leveret") })
    }
}

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
    management_port: u16,
    url: String,
}

impl Address {
    fn loopback(port: u16, management_port: u16) -> Address {
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2F");
        Address { host: "127.0.0.1".to_owned(), port, management_port, url }
    }

    /// The address in an AMQP URL; the HTTP listener is assumed 10000 above, as the brokers' defaults have it.
    pub(crate) fn parse(url: &str) -> Result<Address> {
        let rest =
            url.strip_prefix("amqp://").with_context(|| format!("`{url}` does not begin with amqp://"))?;
        let authority = rest.split('/').next().unwrap_or_default();
        let place = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) => {
                (host, port.parse::<u16>().with_context(|| format!("the port of `{url}`"))?)
            }
            None => (place, 5672),
        };
        Ok(Address {
            host: if host.is_empty() { "127.0.0.1".to_owned() } else { host.to_owned() },
            port,
            management_port: port.saturating_add(10_000),
            url: url.to_owned(),
        })
    }

    /// Tells a program where the broker is.
    pub(crate) fn export(&self, command: &mut Command) {
        command
            .env("AMQP_HOST", &self.host)
            .env("AMQP_PORT", self.port.to_string())
            .env("MGMT_PORT", self.management_port.to_string())
            .env("AMQP_URL", &self.url);
    }
}

/// A running broker. Stopped when dropped, loudly by `stop`.
pub(crate) struct Broker {
    script: PathBuf,
    directory: PathBuf,
    address: Address,
    binary: PathBuf,
    running: bool,
}

impl Broker {
    /// Starts a broker called `name`, whose files are in the folder of that name.
    ///
    /// # Errors
    /// When it does not serve in time.
    pub(crate) fn start(server: &Server, name: &str, folders: &Folders) -> Result<Broker> {
        let [port, management_port, distribution_port, mapper_port] = free_ports()?;
        let mut broker = Broker {
            script: server.peer.script(&folders.root),
            directory: folders.brokers.join(name),
            address: Address::loopback(port, management_port),
            binary: server.binary.clone(),
            running: false,
        };
        let mut command = broker.control("start");
        command.env("RABBITMQ_DIST_PORT", distribution_port.to_string());
        command.env("RABBITMQ_EPMD_PORT", mapper_port.to_string());
        // A server that lives on keeps its output open: let it be a file, or waiting for the script would wait for it.
        let log = std::fs::File::create(folders.logs.join(format!("broker-{name}.log")))?;
        let status = command.stdout(log.try_clone()?).stderr(log).status().context("start the broker")?;
        if !status.success() {
            let log = std::fs::read_to_string(folders.logs.join(format!("broker-{name}.log")))?;
            bail!("the broker did not start: {log}");
        }
        broker.running = true;
        Ok(broker)
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Lets a program stop and start this broker itself: `$BROKER_STOP`, `$BROKER_KILL`, `$BROKER_START`.
    pub(crate) fn export_control(&self, command: &mut Command) {
        let script = self.script.display();
        let directory = self.directory.display();
        let environment =
            format!("LEVERET='{}' MGMT_PORT={}", self.binary.display(), self.address.management_port);
        command
            .env(
                "BROKER_START",
                format!("{environment} '{script}' start {} '{directory}'", self.address.port),
            )
            // For those that start more of them.
            .env("LEVERET", &self.binary)
            .env("BROKER_STOP", format!("'{script}' stop '{directory}'"))
            .env("BROKER_KILL", format!("'{script}' kill '{directory}'"));
    }

    /// Stops the broker and waits for its end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.running = false;
        quiet(&mut self.control("stop"))
    }

    fn control(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.arg(verb);
        if verb == "start" {
            command.arg(self.address.port.to_string());
        }
        command.arg(&self.directory).env("LEVERET", &self.binary);
        command.env("MGMT_PORT", self.address.management_port.to_string());
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.running
            && let Err(error) = quiet(&mut self.control("stop"))
        {
            eprintln!("a broker is left behind in {}: {error:#}", self.directory.display());
        }
    }
}

/// Ports nobody listens on now. They are held together, so that they differ.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("look for a free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port) in [
            ("amqp://guest:guest@127.0.0.1:5673/%2F", "127.0.0.1", 5673),
            ("amqp://localhost", "localhost", 5672),
            ("amqp://u:p%40@[::1]:99/x", "[::1]", 99),
            ("amqp://", "127.0.0.1", 5672),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{url}");
        }
        for url in ["http://localhost", "amqp://h:port"] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn free_ports_differ() {
        let [a, b, c] = free_ports().unwrap();
        assert!(a != b && b != c && a != c && a > 0);
    }
}
