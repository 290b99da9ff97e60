//! An AMQP 0-9-1 client for any broker and any transport.
//!
//! ```no_run
//! use leveret_client::{Connection, ConnectOptions, Consume, Publish, QueueDeclare};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ConnectOptions::parse("amqp://guest:guest@localhost:5672/%2f")?.name("example");
//! let connection = Connection::open(&options).await?;
//!
//! let confirmed = connection.confirm_channel().await?;
//! confirmed.channel().declare_queue(&QueueDeclare::durable("jobs")).await?;
//! confirmed.publish(&Publish::to_queue("jobs", b"work")).await?.await?; // sent, and then safe
//!
//! let channel = connection.channel().await?;
//! channel.prefetch(10).await?;
//! let mut jobs = channel.consume(&Consume::queue("jobs")).await?;
//! while let Some(job) = jobs.next().await {
//!     println!("{} octets", job.body.len());
//!     job.ack();
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Connection`] never comes back once it is lost, and everything in flight on it fails at once, saying what is
//! known: [`NotConfirmed::Lost`] tells whether a message can have arrived. A [`Link`] opens the next connection.
//!
//! ```text
//!   Link ─▶ Connection ─▶ Channel, ConfirmChannel ──append──▶ outbox ──▶ socket
//!              └ one task (driver): socket ─▶ session (sans-io) ─▶ waiters, consumers
//! ```
//!
//! Everything is bounded: publishers wait for room in the outbox, a full consumer stops reading from the socket, a
//! message larger than allowed ends the connection before it is in memory.

#![forbid(unsafe_code)]

mod call;
mod channel;
mod confirm;
mod connection;
mod consumer;
mod driver;
mod error;
mod link;
mod message;
mod options;
mod outbox;
mod recovering;
mod session;
mod shared;
mod tls;
mod topology;
mod transport;

pub use channel::Channel;
pub use confirm::{Confirm, ConfirmChannel, NotConfirmed};
pub use connection::{Connection, ServerProperties};
pub use consumer::{Consumer, ConsumerEnd};
pub use error::{By, ChannelError, Closed, ConnectError, Scope};
pub use link::{Link, LinkState};

pub use message::{Consume, ConsumerEvent, ConsumerTag, Delivery, Flush, Publish, Returned};
pub use options::{Backoff, ConnectOptions, Connecting, Connector, TlsFiles, Transport};
pub use recovering::{ConsumerPlan, RecoveringConsumer};
pub use topology::{ExchangeDeclare, QueueBinding, QueueDeclare, QueueDeclared, Topology};

/// For the fuzzer: octets from a broker gone mad, against a session in the middle of its work.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn fuzz_session(octets: &[u8]) {
    session::hostile::receive(octets);
}
