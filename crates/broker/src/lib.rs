//! The rules of the broker: virtual hosts, exchanges, queues, channels, users.
//!
//! Nothing in here opens a socket or asks for the time. A door (AMQP over TCP, the HTTP API, an embedding
//! program) opens a [`Connection`] for an authenticated user, opens [`Channel`]s on it and calls their
//! operations ([`ops`]); what they set in motion goes up through an [`Outlet`] and leaves when the door
//! finishes its [`Batch`]. Durability is the store's: [`Broker::committed`] is called when the log has
//! advanced, and lets confirms leave.
//!
//! ```text
//!   door ─► Connection / Channel ─► ops ─► exchange (routing) ─► store (log) ─► queue (who takes it)
//!                                                                                │
//!   socket ◄─ Outlet ◄─ ConnectionPort ◄─ ChannelPort (tags, credit) ◄───────────┘
//! ```

mod arguments;
pub mod attempts;
pub mod authority;
mod broker;
mod channel;
mod connection;
pub mod counts;
mod deadlines;
pub mod dedup;
pub mod definitions;
mod delay;
mod deliveries;
mod error;
pub mod exchange;
pub mod federation;
mod feeding;
mod life;
mod listing;
mod message;
pub mod ops;
mod parameter_error;
pub mod parameters;
mod pattern;
pub mod policies;
mod port;
pub mod queue;
mod quotas;
mod records;
mod recover;
mod reply_token;
pub mod roster;
pub mod services;
pub mod settings;
mod settling;
mod stamp;
mod standing;
pub mod users;
pub mod vhost;
mod vhost_metadata;

pub use arguments::{ARGUMENTS_MAX_BYTES, read_arguments};
pub use broker::{Broker, Limits, Logging};
pub use channel::Channel;
pub use connection::{Connection, Resource};
pub use deadlines::Deadlines;
pub use error::{Blame, Refusal, Scope};
pub use listing::{QueueCondition, QueueRecord};
pub use message::{Message, MessageView, ResidentBytes};
pub use parameter_error::ParameterError;
pub use port::{Batch, Cancelled, ConnectionId, ConnectionPort, Delivery, Doomed, Outlet, Verdict};
pub use quotas::{UserLimits, VHostLimits};
pub use recover::{OpenFailed, Opened};
pub use standing::Standing;
pub use vhost_metadata::VHostMetadata;
