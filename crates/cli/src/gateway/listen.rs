//! Where the gateway listens.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::{TcpListener, lookup_host};

use super::access::Access;
use crate::failure::Failure;

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
