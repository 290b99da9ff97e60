//! Sockets: who is listened to, and how long a connection may do nothing.
//!
//! ```text
//!   accept ── a slot each ──▶ connection ─▶ headers within 10 s, about 32 KiB ─▶ router
//!     │                          └ a peer that takes nothing for 60 s is dropped
//!   signal ─▶ no more connections, no more requests; what runs has 30 s
//! ```

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::stalled::Unstalled;
use crate::failure::Failure;

/// From the first octet of a request to the end of its headers; also how long a connection may wait for its next one.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(10);
/// The request line and all headers: nothing is read after so many octets, and hyper takes 100 headers.
const HEADERS_MAX_BYTES: usize = 32 << 10;
/// A peer that takes no octet of its answer for so long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECTIONS_MAX: usize = 4096;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// After the kernel had no descriptor for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens, on this machine only unless it is said who may come from elsewhere.
///
/// # Errors
/// [`Failure::Usage`]: not an address, or one that the world can reach. Else what the kernel says.
pub(super) async fn bind(address: &str, access: &Access) -> Result<TcpListener, Failure> {
    let usage = |what: String| Failure::Usage(format!("--http {address}: {what}"));
    let found = lookup_host(address).await.map_err(|error| usage(error.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    let reachable = found.iter().any(|found| !found.ip().is_loopback());
    if reachable && !access.is_for_networks() {
        let what = "other machines can reach this; say who may call with --token FILE, or --allow-anonymous";
        return Err(usage(what.to_owned()));
    }
    Ok(TcpListener::bind(&found[..]).await.with_context(|| format!("--http {address}"))?)
}

/// Serves until `stop` is ready, and then what has begun; `hurry` ends that too.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) {
    let (stopping, seen) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            (stream, slot) = accept(&listener, &slots) => {
                connections.spawn(converse(stream, router.clone(), seen.clone(), slot));
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
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => return (stream, slot),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: TcpStream,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    _slot: Option<OwnedSemaphorePermit>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "answers may be delayed");
    }
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
