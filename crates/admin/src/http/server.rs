//! Sockets: who is listened to, and how long a connection may do nothing.
//!
//! ```text
//!   accept ── a slot each ──▶ connection ─▶ headers within 10 s, about 32 KiB ─▶ router
//!     │                          └ a peer that takes nothing for 60 s is dropped
//!   signal ─▶ no more connections, no more requests; what runs has 30 s
//! ```

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Peer;
use super::stalled::Unstalled;

/// From the first octet of a request to the end of its headers; also how long a connection may wait for its next one.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// The request line and all headers: nothing is read after so many octets, and hyper takes 100 headers.
const HEADERS_MAX_BYTES: usize = 32 << 10;
/// A peer that takes no octet of its answer for so long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS_MAX: usize = 4096;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// After the kernel had no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener, and what its connections are encrypted with.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Certificate>,
}

/// Can change; each connection gets the newest. Nothing yet is a listener that closes every connection.
type Certificate = watch::Receiver<Option<Arc<ServerConfig>>>;

impl Listener {
    /// In the clear.
    pub fn plain(socket: TcpListener) -> Listener {
        Listener { socket, tls: None }
    }

    /// Over TLS.
    pub fn tls(socket: TcpListener, certificate: Certificate) -> Listener {
        Listener { socket, tls: Some(certificate) }
    }

    /// Where it is.
    ///
    /// # Errors
    /// The kernel does not know.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl From<TcpListener> for Listener {
    fn from(socket: TcpListener) -> Listener {
        Listener::plain(socket)
    }
}

/// Serves until `stop` is ready, and then what has begun; `hurry` ends that too. Each request carries its [`Peer`].
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) {
    let listener = listener.into();
    let (stopping, seen) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            ((stream, peer), slot) = accept(&listener.socket, &slots) => {
                let router = router.clone().layer(Extension(Peer(peer)));
                connections.spawn(converse(stream, listener.tls.clone(), router, seen.clone(), slot));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        outcome = timeout(DRAIN_TIMEOUT, drained) => if outcome.is_err() {
            tracing::warn!("requests are still running; they are called off");
        },
        () = hurry => {}
    }
    // Dropped calls tell their workers to stop.
    connections.shutdown().await;
}

/// The next connection, when there is room for one.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> ((TcpStream, IpAddr), Option<OwnedSemaphorePermit>) {
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return ((stream, peer.ip()), slot),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    tls: Option<Certificate>,
    router: Router,
    stopping: watch::Receiver<bool>,
    _slot: Option<OwnedSemaphorePermit>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may be delayed");
    }
    let Some(tls) = tls else { return converse_over(stream, router, stopping).await };
    let handshake = timeout(TLS_HANDSHAKE_TIMEOUT, handshake(stream, &tls));
    match handshake.await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
        Ok(stream) => converse_over(stream, router, stopping).await,
        Err(error) => tracing::debug!(%error, "TLS handshake failed"),
    }
}

async fn handshake(stream: TcpStream, tls: &Certificate) -> io::Result<TlsStream<TcpStream>> {
    let newest = tls.borrow().clone();
    let newest = newest.ok_or_else(|| io::Error::other("there is no certificate"))?;
    TlsAcceptor::from(newest).accept(stream).await
}

async fn converse_over<S>(stream: S, router: Router, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let io = TokioIo::new(Unstalled::new(stream, STALL_TIMEOUT));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT).max_buf_size(HEADERS_MAX_BYTES);
    let mut connection = std::pin::pin!(http.serve_connection(io, TowerToHyperService::new(router)));
    let stop = async { drop(stopping.wait_for(|stopping| *stopping).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
