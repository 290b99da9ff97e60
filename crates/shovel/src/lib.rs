//! Moves messages from one AMQP 0-9-1 broker to another, in order, and loses none.
//!
//! ```text
//!   source ──deliver──► Transfer ──publish──► destination
//!   source ◄───ack───── Transfer ◄──confirm── destination
//! ```
//!
//! A [`Transfer`] is one run over two connections; a [`Shovel`] connects, runs it, and does so again after whatever went
//! wrong. A message is acknowledged at the source when the destination has confirmed it, so one that was on its way when
//! a process died is delivered again by the source, marked `redelivered`: the second copy, if it is one, can say so (see
//! [`Changes::mark_redelivered`]).
//!
//! A transfer with a [`Federation`] is a link: it asks the rules of the broker that it moves messages to what may come, and
//! when. From a queue it takes only while messages are wanted; from an exchange, as what is bound there asks for
//! ([`UpstreamExchange`]).
//!
//! Both ends are foreign brokers to this crate. Memory is bounded by the prefetch count and the client's outbox.

#![forbid(unsafe_code)]

mod changes;
mod federation;
mod in_flight;
mod intake;
mod progress;
mod shovel;
mod transfer;
mod upstream;

pub use changes::{Changes, MIGRATED_HEADER};
pub use federation::{Bindings, Federation};
pub use progress::Progress;
pub use shovel::{Shovel, Status, Supervised};
pub use transfer::{AckMode, Broken, Ended, Give, Side, Take, Transfer, Until};
pub use upstream::UpstreamExchange;
