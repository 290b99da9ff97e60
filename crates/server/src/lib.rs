//! The Tokio shell around the broker: sockets, TLS, timers, committer, embedding.
//!
//! ```text
//!   listener ─► drive (one task per connection) ─► session (protocol, no socket) ─► leveret_broker
//!                 ▲                                                                     │
//!                 └──────────── outbox (unsent octets, written by whoever fills them) ◄─┘
//!   committer, settler, watchdog: threads that touch the disk; no connection ever waits inside one
//! ```

mod alarms;
mod buffers;
mod certificate;
mod chronicle;
mod committer;
mod config;
mod counted_disk;
mod drive;
mod embed;
mod facts;
mod handle;
mod identity;
#[cfg(feature = "interleavings")]
#[doc(hidden)]
pub mod interleavings;
mod listener;
mod lobby;
mod logins;
mod network;
mod outbox;
mod peer;
pub mod proxy_protocol;
mod session;
mod shared;
mod timekeeper;
mod tls;
pub mod vigil;

pub use alarms::Alarms;
pub use certificate::{NoName, UserFrom, user_of};
pub use config::{Config, Tune, Watermarks};
pub use counted_disk::{DiskFacts, DiskWork};
pub use embed::{Broker, Builder, Condition, StartError};
pub use facts::{Listening, NodeFacts};
pub use handle::Handle;
pub use identity::NODE_NAME;
pub use leveret_broker::Limits;
pub use lobby::LobbyLimits;
pub use network::Network;
pub use tls::{ClientTrust, TlsError, chain_expires_at_s, load_mutual_tls, load_tls};
