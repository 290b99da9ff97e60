//! Deduplication: a message whose key was seen lately is dropped, as if it had been taken.
//!
//! An exchange or a queue that deduplicates has a [`Window`]: the keys of the latest messages it took, bounded in number
//! and in time. Whether the message is still somewhere does not matter: consuming, purging and expiring leave the window
//! as it is. How messages come to a window is told in `ops::deduplicate`.
//!
//! ```text
//!   x-message-deduplication: true     on a queue, or on an exchange of any type; the exchange type
//!                                     x-message-deduplication is one by itself
//!   x-cache-size                      keys in the window
//!   x-cache-ttl                       how long a key stays, ms; the header x-cache-ttl overrides it for a message
//!   x-deduplication-header            the header that holds the key, if not x-deduplication-header
//!   x-cache-persistence               disk (default) or memory
//! ```

mod arguments;
mod deduplicator;
mod key;
mod window;

pub(crate) use arguments::check;
pub use arguments::{BadDeduplication, CACHE_SIZE_MAX, Deduplication};
pub use deduplicator::Deduplicator;
pub(crate) use window::{Admission, Noted};
pub use window::{Verdict, Window};
