//! HTTP/1.1 as far as sockets go: limits of size and time, before anybody knows what is asked for.

pub mod body;
mod server;
mod stalled;

use std::net::IpAddr;

pub use server::{Listener, serve};

/// Who sent a request: an extension of each.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);
