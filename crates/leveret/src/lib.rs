//! Request/response over AMQP: call a service like a function, serve with anything, on any broker.
//!
//! ```
//! use leveret::{Client, Context, Failure};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Place {
//!     city: String,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // `amqp://…` for a broker somewhere; this one lives inside the process.
//! let client = Client::connect("embedded:").await?;
//!
//! let forecast = leveret::handler(|_cx: Context, place: Place| async move {
//!     match place.city.as_str() {
//!         "Columbus" => Ok("sunny"),
//!         other => Err(Failure::not_found(format!("no city called {other}"))),
//!     }
//! });
//! let worker = client.serve("weather.ohio", forecast).start().await?;
//!
//! let answer: String = client.call("weather.ohio", &Place { city: "Columbus".into() }).await?;
//! assert_eq!(answer, "sunny");
//! worker.drain().await;
//! # Ok(())
//! # }
//! ```
//!
//! A service is a durable queue of its name: a plain pika, Java, Go or Node client calls it without any library of
//! ours, and a plain server of theirs is called. `docs/features/profile.md` has the wire format.
//!
//! - [`Client::call`]: one question, one answer, with a deadline that travels, typed errors that say why
//!   ([`CallError`]), retries, hedging; dropping the future stops the work.
//! - [`Client::serve`]: a handler behind a queue; the attribute `service` makes one of a trait.
//! - [`Client::task`]: work without an answer, with retries and a parking lot.
//! - [`Client::gather`], [`Client::stream`]: many answers.
//! - `outbox`: messages that leave when the caller's database transaction commits, and only then; `inbox`: work done
//!   once per message (features `postgres`, `sqlite`).

mod call_error;
mod client;
mod code;
pub mod content;
mod context;
pub mod dialect;
#[cfg(feature = "embedded")]
mod embedded;
mod failure;
mod handler;
mod ids;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod inbox;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub mod outbox;
mod payload;
mod profile;
mod request;
mod serve;
mod telemetry;
pub mod trace;
mod wait_queue;

pub use call_error::{CallError, Ran};
pub use client::{
    Call, Client, ClientBuilder, Decode, Gather, Gathered, Replies, Reply, StreamCall, Task, TaskError, Until,
};
pub use code::Code;
pub use context::Context;
pub use failure::{Failure, IntoFailure};
pub use handler::{HandlerFn, HandlerFuture, blocking, handler, raw};
pub use leveret_client::{ConnectError, ConnectOptions};
pub use leveret_wire::{FieldTable, FieldValue, Properties};
pub use payload::Payload;
pub use request::{Answer, AnswerStream, Request};
pub use serve::{Description, Handler, QueueKind, RetryPolicy, Serve, ServeError, Worker, WorkerStats};

#[cfg(feature = "macros")]
pub use leveret_macros::service;

#[doc(hidden)]
pub mod __private;

/// The examples of the README are tests.
#[cfg(all(doctest, feature = "embedded", feature = "macros"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
