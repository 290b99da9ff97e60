//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::Config;
use crate::drive::{serve_stream, serve_tcp};
use crate::peer::Peer;
use crate::shared::Shared;
use crate::tls::tls_facts;

/// How long to wait when accepting fails, e.g. for want of file descriptors: the loop must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken on a listener.
#[derive(Clone, Copy)]
pub(crate) enum Transport {
    Tcp,
    /// With the certificate that is in force when a client comes.
    Tls,
}

/// Listens on an address, by a socket that is open already if there is one. The error names the address.
pub(crate) async fn listen(
    address: SocketAddr,
    open: &mut Vec<std::net::TcpListener>,
) -> io::Result<TcpListener> {
    let is_on_it = |socket: &std::net::TcpListener| socket.local_addr().is_ok_and(|own| own == address);
    match open.iter().position(is_on_it) {
        Some(place) => TcpListener::from_std(open.swap_remove(place)),
        None => bind(address).await,
    }
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    TcpListener::bind(address).await.map_err(named)
}

/// Accepts until the broker stops.
pub(crate) async fn accept(listener: TcpListener, transport: Transport, shared: Arc<Shared>) {
    let mut stopping = shared.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => return,
        };
        match accepted {
            Ok((socket, _)) => admit(socket, transport, &shared),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(socket: TcpStream, transport: Transport, shared: &Arc<Shared>) {
    if !shared.admit() {
        return;
    }
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let shared = shared.clone();
    match transport {
        Transport::Tcp => drop(tokio::spawn(serve_tcp(socket, shared))),
        Transport::Tls => drop(tokio::spawn(serve_tls(socket, shared))),
    }
}

async fn serve_tls(socket: TcpStream, shared: Arc<Shared>) {
    let peer = Peer::of_socket(&socket);
    match handshake(socket, &shared.config()).await {
        Ok(stream) => {
            let peer = peer.with_tls(tls_facts(stream.get_ref().1));
            serve_stream(stream, shared, peer).await;
        }
        Err(error) => {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            tracing::debug!(%error, "TLS handshake failed");
        }
    }
}

async fn handshake(socket: TcpStream, config: &Config) -> io::Result<TlsStream<TcpStream>> {
    let tls = config.tls.clone().ok_or_else(|| io::Error::other("there is no certificate"))?;
    let accepted = TlsAcceptor::from(tls).accept(socket);
    tokio::time::timeout(config.tls_handshake_timeout, accepted).await?
}
