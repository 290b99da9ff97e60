//! A load generator for any AMQP 0-9-1 broker that is not what it measures: plain threads, blocking sockets, frames
//! written and read by hand (`frames` says why).
//!
//! ```text
//!  frames       bytes of the few methods a load needs
//!  connection   handshake, declarations, the two halves a load takes
//!  load         numbered batches, counters, histogram, the observer
//!  flows, rpc   the ends of a load: publisher, consumer; requester, responder
//!  process      CPU time and memory of the broker, from the kernel
//! ```
//!
//! A load fails rather than lie: every message has a number, and one that is lost, doubled or out of order is an
//! [`Error`], not a fast message.

pub mod connection;
mod error;
pub mod flows;
pub mod frames;
pub mod load;
pub mod process;
pub mod rpc;

pub use error::{Error, Result};
