//! What is counted of messages, so that somebody can ask.
//!
//! Everything only grows; rates are for whoever asks twice. Nothing global is written per message: a number lives where
//! a lock is held anyway, or with the task that alone writes it, and sums are made by whoever reads.
//!
//! ```text
//!   channel's task ─► PublishCounts   publish, return, get, ack, sizes  ─┐
//!   deliveries lock ─► deliver, redeliver        confirms lock ─► confirm├─► MessageCounts of the channel
//!   queue's lock ─► QueueCounts                                          │     └─► connection ─► virtual host
//!   channel's task ─► Path (one for each exchange it publishes to) ──────┴─► ExchangeCounts
//! ```
//!
//! What ends hands its numbers to what it was part of, so sums never shrink.

mod churn;
mod counter;
mod deaths;
mod exchange;
mod messages;
mod publishes;
mod queue;
mod sizes;

pub(crate) use churn::Churn;
pub use churn::ChurnCounts;
pub(crate) use counter::Counter;
pub use deaths::DeathCounts;
pub use exchange::ExchangeCounts;
pub(crate) use exchange::{Path, Paths};
pub use messages::MessageCounts;
pub(crate) use publishes::{PublishCounts, Published};
pub(crate) use queue::QueueCounters;
pub use queue::QueueCounts;
pub use sizes::SizeHistogram;
