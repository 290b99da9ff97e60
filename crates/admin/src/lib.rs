//! The HTTP API, the metrics and the web console.
//!
//! ```text
//!   socket ─▶ http (limits) ─▶ door ─▶ login ─▶ access ─▶ handler (api/<resource>) ─▶ leveret_broker operations
//!                                                                │
//!   socket ◀── answer, once what it changed is on the disk ◀─────┘
//! ```
//!
//! Paths, bodies and status codes are RabbitMQ's management plugin's, so that its tools work unmodified. Everything that
//! acts on queues, exchanges and messages goes through a [`Channel`](leveret_broker::Channel) of the caller: the same operations,
//! the same argument checks and the same permissions as over AMQP. What the API needs of the process around the rules, it asks of a
//! [`Host`]; the program that has both the server and this crate implements it.

#![expect(dead_code, reason = "lifted with the first lists of connections")]

mod access;
mod answer;
mod api;
mod binding_key;
mod bodies;
mod console;
mod context;
pub mod definitions;
mod door;
mod error;
mod federation;
mod fields;
mod host;
pub mod http;
mod journal;
mod json_table;
mod listing;
mod memory;
mod message_json;
mod message_stats;
mod metrics;
mod moment;
mod node;
mod queue_json;
mod rates;
mod request;
mod route;
mod shovels;
mod sight;
mod socketless;
mod surface;
mod table_json;
mod totals;

pub use access::Access;
pub use door::routers;
pub use federation::{FederationLinks, LinkStatus};
pub use host::{Host, LoggedIn};
pub use journal::Journal;
pub use node::{DiskWork, Listening, NodeFacts};
pub use route::{Method, Route, routes};
pub use shovels::{ShovelStatus, Shovels};
pub use surface::Surface;
