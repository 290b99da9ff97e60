//! Who is at the other end of a connection, as far as its transport tells.

use std::sync::Arc;

use leveret_broker::roster::{Over, TlsFacts, Traffic};
use tokio::net::TcpStream;

use crate::shared::is_loopback;

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// How it reaches us.
    pub(crate) over: Over,
    /// Whether that is encrypted, and how.
    pub(crate) tls: Option<TlsFacts>,
    /// What came and went.
    pub(crate) traffic: Arc<Traffic>,
}

impl Peer {
    /// The peer of a socket; unknown if the socket is gone already.
    pub(crate) fn of_socket(socket: &TcpStream) -> Self {
        let over = match (socket.peer_addr(), socket.local_addr()) {
            (Ok(peer), Ok(host)) => Over::Tcp { peer, host },
            _ => Over::Nothing,
        };
        Self { over, tls: None, traffic: Arc::default() }
    }

    /// A client in the same process.
    pub(crate) fn in_memory() -> Self {
        Self { over: Over::Memory, tls: None, traffic: Arc::default() }
    }

    /// The same peer, after a TLS handshake.
    pub(crate) fn with_tls(self, tls: TlsFacts) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        match self.over {
            Over::Tcp { peer, .. } => is_loopback(peer.ip()),
            Over::Memory => true,
            Over::Nothing => false,
        }
    }
}
