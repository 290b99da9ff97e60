//! The Tokio shell around the broker: sockets, TLS, timers, committer, embedding.
//!
//! ```text
//!   listener ─► drive (one task per connection) ─► session (protocol, no socket) ─► leveret_broker
//!                 ▲                                                                     │
//!                 └──────────── outbox (unsent octets, written by whoever fills them) ◄─┘
//!   committer, settler, watchdog: threads that touch the disk; no connection ever waits inside one
//! ```

mod alarms;
mod committer;
mod config;
mod counted_disk;
mod drive;
mod embed;
mod facts;
mod handle;
mod identity;
mod listener;
mod outbox;
mod peer;
mod session;
mod shared;
mod timekeeper;
mod tls;

pub use alarms::Alarms;
pub use config::{Config, Tune, Watermarks};
pub use counted_disk::{DiskFacts, DiskWork};
pub use embed::{Broker, Builder, Condition, StartError};
pub use facts::{Listening, NodeFacts};
pub use handle::Handle;
pub use leveret_broker::Limits;
pub use tls::{TlsError, load_tls};
