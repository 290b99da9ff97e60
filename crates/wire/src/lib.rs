//! AMQP 0-9-1 bytes to values and back, for both sides, without I/O.
//!
//! A connection is a sequence of frames; a frame carries a method, a content header, a piece of a
//! body, or nothing (heartbeat). This crate cuts a read buffer into frames, decodes what they carry
//! without copying it, and writes the same things back:
//!
//! ```text
//!  octets ──split_frame──▶ RawFrame ──Method::decode─────────▶ Method<'a>      (borrows the octets)
//!                                   ──parse_header / Assembler▶ Content        (a whole message)
//!  octets ◀──write_method, write_content, write_deliver, write_ack, write_heartbeat
//! ```
//!
//! Whatever the octets are, nothing here panics, recurses without a bound, or reserves memory for a
//! size that was only announced. Errors carry RabbitMQ's code and text, because clients match on them.
//!
//! Methods and constants are generated from RabbitMQ's machine-readable specification
//! (`cargo xtask codegen`); how fields are read and written is in `reader` and `writer`.

#![forbid(unsafe_code)]

mod constants;
pub mod content;
mod erlang;
mod error;
pub mod frame;
mod generated;
pub mod handshake;
pub mod method;
pub mod properties;
mod reader;
pub mod sasl;
mod secret;
pub mod table;
pub mod uri;
mod value;
mod writer;

pub use constants::*;
pub use content::{Assembler, Content, ContentHeader, Progress, parse_header, whole_content};
pub use error::{EncodeError, WireError};
pub use frame::{
    DEFAULT_FRAME_MAX, FRAME_OVERHEAD, FrameKind, INITIAL_FRAME_MAX, PROTOCOL_HEADER, RawFrame, split_frame,
    write_ack, write_content, write_deliver, write_heartbeat, write_method,
};
pub use handshake::{ProtocolHeader, TuneLimits, negotiate_client, negotiate_server, protocol_header};
pub use method::Method;
pub use properties::{Properties, RawProperties};
pub use secret::Secret;
pub use table::{FieldTable, FieldValue, MAX_TABLE_DEPTH, RawTable};
pub use uri::{AmqpUri, UriError};
