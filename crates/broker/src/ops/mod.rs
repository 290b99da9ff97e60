//! What can be done to the broker: one file for each kind of operation, each with all its checks.
//!
//! Every door (AMQP, the HTTP API, the command line, an embedding program) calls these and nothing else, so no
//! rule exists twice.

pub mod bind;
pub mod browse;
pub mod consume;
mod consumer_timeout;
mod dead_letter;
mod deduplicate;
mod define;
mod define_parameters;
mod delayed;
pub mod exchange;
pub mod get;
mod history;
mod internal_queue;
mod limits;
mod login;
mod orphans;
pub mod parameter;
mod pause;
pub mod policy;
pub mod publish;
pub mod queue;
pub mod reply_to;
mod revoke;
mod routed;
pub mod services;
pub mod settle;
mod stream;
mod together;
pub mod transfer;
pub mod tx;
mod vhost;
