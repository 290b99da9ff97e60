//! A load generator for any AMQP 0-9-1 broker that is not what it measures: plain threads, blocking sockets, frames
//! written and read by hand (`frames` says why).
//!
//! ```text
//!  Plan, Span ──► Run::execute ──► Outcome         what is wanted; where, how long, who watches; what came of it
//!
//!  run, calls, churn    one load each: declare, let it happen, delete
//!  crew                 producers and consumers with their connections, ready to begin
//!  produce, consume     the two ends, a thread per connection; pacer, messages, sequence serve them
//!  caller, rpc          the same for calls
//!  stage, observe       what threads share; who watches them, and the broker's process, and the generator itself
//!  topology             what is declared
//!  frames, connection   bytes of the few methods a load needs; handshake and calls
//!  transport            the socket below them, with TLS or without
//!  flows, load          smaller ends without a plan, for programs that compare in their own way
//! ```
//!
//! Every message has a number and the time when it should have left: what is lost, doubled or out of order is counted
//! as that and not as a fast message, and with a rate the wait of a message that could not leave is part of its
//! latency.

mod caller;
mod calls;
mod churn;
pub mod connection;
mod consume;
mod crew;
mod error;
pub mod figure;
pub mod flows;
pub mod frames;
pub mod generator;
pub mod load;
mod messages;
pub mod observe;
pub mod outcome;
pub mod pacer;
pub mod plan;
pub mod process;
mod produce;
pub mod rpc;
mod run;
mod sequence;
mod stage;
mod target;
mod topology;
mod transport;

pub use error::{Error, Result};
pub use run::Run;
pub use target::Target;
