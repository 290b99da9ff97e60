//! The broker of one lane: Leveret from this workspace, or a RabbitMQ node. It can be killed and comes back.

use anyhow::{Context, Result};
use leveret_testkit::rabbitmq::RabbitMq;
use leveret_testkit::supervisor::{Launcher, Server};
use std::net::SocketAddr;
use std::time::Duration;

const START_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) enum Broker {
    Leveret { launcher: Launcher, server: Option<Server> },
    RabbitMq(RabbitMq),
}

impl Broker {
    /// Starts Leveret.
    pub(super) fn leveret(launcher: Launcher) -> Result<Broker> {
        let mut broker = Broker::Leveret { launcher, server: None };
        broker.start_again()?;
        Ok(broker)
    }

    /// Starts a RabbitMQ node.
    pub(super) fn rabbitmq() -> Result<Broker> {
        Ok(Broker::RabbitMq(RabbitMq::start()?))
    }

    /// Where it serves; `None` while it does not.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Broker::Leveret { server, .. } => server.as_ref().map(Server::address),
            Broker::RabbitMq(node) => Some(node.addr()),
        }
    }

    /// Starts it after a kill. Leveret comes back on another port.
    pub(super) fn start_again(&mut self) -> Result<()> {
        match self {
            Broker::RabbitMq(node) => node.start_again()?,
            Broker::Leveret { launcher, server } => {
                *server = Some(launcher.start(START_TIMEOUT).context("the broker does not start")?);
            }
        }
        Ok(())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) -> Result<()> {
        match self {
            Broker::RabbitMq(node) => node.kill()?,
            Broker::Leveret { server, .. } => {
                if let Some(server) = server.take() {
                    server.kill()?;
                }
            }
        }
        Ok(())
    }

    /// How long everything may take to be well again after a fault.
    pub(super) fn recovery_bound(&self) -> Duration {
        match self {
            Broker::Leveret { .. } => Duration::from_secs(15),
            Broker::RabbitMq(_) => Duration::from_secs(30),
        }
    }

    /// Resident memory in octets, where we can tell.
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        match self {
            Broker::Leveret { server, .. } => server.as_ref()?.resident_bytes().ok(),
            Broker::RabbitMq(_) => None,
        }
    }
}
