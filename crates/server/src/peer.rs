//! Who is at the other end of a connection, as far as its transport tells.

use std::net::IpAddr;
use std::sync::Arc;

use leveret_broker::attempts::Door;
use leveret_broker::roster::{Over, TlsFacts, Traffic};
use tokio::net::TcpStream;

use crate::logins::Visitor;
use crate::proxy_protocol::Carried;
use crate::shared::is_loopback;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// How it reaches us.
    pub(crate) over: Over,
    /// Whether that is encrypted, and how.
    pub(crate) tls: Option<Box<TlsFacts>>,
    /// What came and went.
    pub(crate) traffic: Arc<Traffic>,
    /// The user that its certificate names, or for whom this process vouches.
    pub(crate) certificate_user: Option<String>,
    is_loopback: bool,
}

impl Peer {
    /// The peer of a socket; unknown if the socket is gone already.
    pub(crate) fn of_socket(socket: &TcpStream) -> Self {
        match (socket.peer_addr(), socket.local_addr()) {
            (Ok(peer), Ok(host)) => Self::new(Over::Tcp { peer, host }, is_loopback(peer.ip())),
            _ => Self::new(Over::Nothing, false),
        }
    }

    /// A client in the same process.
    pub(crate) fn in_memory() -> Self {
        Self::new(Over::Memory, true)
    }

    /// A part of this process that acts for a user: it logs in without a password.
    pub(crate) fn on_behalf_of(user: &str) -> Self {
        Self { certificate_user: Some(user.to_owned()), ..Self::in_memory() }
    }

    fn new(over: Over, is_loopback: bool) -> Self {
        Self { over, tls: None, traffic: Arc::default(), certificate_user: None, is_loopback }
    }

    /// Whoever came by this peer, a proxy. It is on this machine only if both are: what a proxy elsewhere calls its
    /// own machine is not ours.
    pub(crate) fn carrying(self, carried: Carried) -> Self {
        match carried {
            Carried::Client { peer, host } => {
                let is_loopback = self.is_loopback && is_loopback(peer.ip());
                Self { over: Over::Tcp { peer, host }, is_loopback, ..self }
            }
            Carried::Nobody => Self { is_loopback: false, ..self },
        }
    }

    /// The same peer, after a TLS handshake.
    pub(crate) fn with_tls(self, tls: TlsFacts, certificate_user: Option<String>) -> Self {
        Self { tls: Some(Box::new(tls)), certificate_user, ..self }
    }

    /// Its address; `None`: it is in this process, or gone.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.over {
            Over::Tcp { peer, .. } => Some(peer.ip()),
            Over::Memory | Over::Nothing => None,
        }
    }

    /// Somebody who wants to log in.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor { door: Door::Amqp, address: self.address(), is_loopback: self.is_loopback }
    }
}
