//! The threads that meet in the broker, in orders that a machine would rarely choose.
//!
//! ```text
//!   publishers ──► log buffer, queues ──► outboxes ──► connections' tasks, readers
//!        │              │
//!        └── hurry ──► committer (write, flush) ──► confirms        settler (empties full log files)
//! ```
//!
//! The code of broker, store and server is compiled unchanged; only `parking_lot` is replaced, by locks that ask a scheduler
//! who goes on. A thread that waits for ever is a deadlock, and so a wake-up that got lost is found as one.

mod disk;
mod explore;
mod house;
mod marks;
mod pipe;
mod publisher;

pub use disk::{Flushed, WatchedDisk};
pub use explore::{draw, explore};
pub use house::{DiskThreads, House};
pub use marks::{Marks, mark};
pub use pipe::Pipe;
pub use publisher::Publisher;
