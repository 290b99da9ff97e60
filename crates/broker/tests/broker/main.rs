//! The broker as one piece, in one process: no sockets, a disk in memory.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod counts;
mod damage;
mod definitions;
mod parameters;
mod queue_actions;
mod race;
mod restart;
mod support;
mod vhosts;
