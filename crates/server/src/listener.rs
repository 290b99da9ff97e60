//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::user_of;
use crate::config::Config;
use crate::drive::{serve_stream, serve_tcp};
use crate::lobby::Guest;
use crate::peer::Peer;
use crate::proxy_protocol::{Carried, Progress, parse};
use crate::shared::Shared;
use crate::tls::{client_certificate, tls_facts};

/// How long to wait when accepting fails, e.g. for want of file descriptors: the loop must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Looked at in one go of what a proxy has sent; most headers are shorter.
const PROXY_PEEK_BYTES: usize = 256;

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
    tokio::spawn(receive(socket, transport, shared.clone()));
}

/// Hands the client over to a task that lasts until it is gone: memory for getting there is not kept that long.
async fn receive(mut socket: TcpStream, transport: Transport, shared: Arc<Shared>) {
    let Some((peer, guest)) = arrive(&mut socket, &shared).await else {
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        return;
    };
    match transport {
        Transport::Tcp => tokio::spawn(serve_tcp(socket, shared, peer, guest)),
        Transport::Tls => tokio::spawn(serve_tls(socket, shared, peer, guest)),
    };
}

/// Who it is, also if it comes by a proxy, and its place among those who have not logged in yet.
async fn arrive(socket: &mut TcpStream, shared: &Shared) -> Option<(Peer, Guest)> {
    let config = shared.config();
    let mut peer = Peer::of_socket(socket);
    let by_proxy = |address| config.proxies.iter().any(|proxy| proxy.contains(address));
    if peer.address().is_some_and(by_proxy) {
        let header = tokio::time::timeout(config.handshake_timeout, read_proxy_header(socket)).await;
        match header.map_err(io::Error::from).flatten() {
            Ok(carried) => peer = peer.carrying(carried),
            Err(error) => {
                tracing::warn!(%error, proxy = ?peer.address(), "connection refused: no PROXY header");
                return None;
            }
        }
    }
    let address = peer.address()?;
    let Some(guest) = shared.lobby.enter(address) else {
        tracing::warn!(%address, "connection refused: too many have not logged in yet");
        return None;
    };
    Some((peer, guest))
}

/// Reads as much as belongs to the header, and no octet of what follows it.
async fn read_proxy_header(socket: &mut TcpStream) -> io::Result<Carried> {
    let mut header = Vec::new();
    loop {
        let before = header.len();
        header.resize(before + PROXY_PEEK_BYTES, 0);
        let ahead = socket.peek(&mut header[before..]).await?;
        if ahead == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        header.truncate(before + ahead);
        let progress = parse(&header).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        let end = match progress {
            Progress::Incomplete => header.len(),
            Progress::Done(octets, _) => octets,
        };
        socket.read_exact(&mut header[before..end]).await?;
        if let Progress::Done(_, carried) = progress {
            return Ok(carried);
        }
    }
}

async fn serve_tls(socket: TcpStream, shared: Arc<Shared>, peer: Peer, guest: Guest) {
    let config = shared.config();
    match handshake(socket, &config).await {
        Ok(stream) => {
            let connection = stream.get_ref().1;
            let facts = tls_facts(connection);
            let user = client_certificate(connection).map(|shown| user_of(shown, config.tls_user_from));
            let user = user.transpose().unwrap_or_else(|error| {
                tracing::info!(%error, subject = ?facts.peer_cert_subject, "the certificate names no user");
                None
            });
            drop(config);
            serve_stream(stream, shared, peer.with_tls(facts, user), Some(guest)).await;
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
