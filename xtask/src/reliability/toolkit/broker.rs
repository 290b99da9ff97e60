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
    pub(super) fn leveret(launcher: Launcher) -> Broker {
        Broker::Leveret { launcher, server: None }
    }

    /// Starts it, where it is not running; where it serves. Leveret comes back on another port.
    pub(super) fn start(&mut self) -> Result<SocketAddr> {
        match self {
            Broker::RabbitMq(node) => {
                node.start_again()?;
                Ok(node.addr())
            }
            Broker::Leveret { launcher, server } => {
                let started = launcher.start(START_TIMEOUT).context("the broker does not start")?;
                let address = started.address();
                *server = Some(started);
                Ok(address)
            }
        }
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
