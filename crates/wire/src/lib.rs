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
//! ```
//! use leveret_wire::method::BasicPublish;
//! use leveret_wire::{DEFAULT_FRAME_MAX, Method, Properties, RawProperties};
//! use leveret_wire::{split_frame, whole_content, write_content};
//!
//! let publish = BasicPublish { exchange: "amq.topic", routing_key: "news.ohio", ..Default::default() };
//! let properties = Properties { delivery_mode: Some(2), ..Default::default() }.encode()?;
//! let mut octets = Vec::new();
//! let properties = RawProperties::parse(&properties)?;
//! write_content(&mut octets, 1, &publish.into(), properties, b"hello", DEFAULT_FRAME_MAX)?;
//!
//! let (frame, size_bytes) = split_frame(&octets, DEFAULT_FRAME_MAX)?.expect("a whole frame");
//! assert_eq!(Method::decode(frame.payload)?, Method::BasicPublish(publish));
//! let (header, body, _) =
//!     whole_content(&octets[size_bytes..], 1, 60, DEFAULT_FRAME_MAX, 1024).expect("a whole content");
//! assert_eq!((header.properties.delivery_mode(), body), (Some(2), &b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Methods and constants are generated from RabbitMQ's machine-readable specification
//! (`cargo xtask codegen`); how fields are read and written is in `reader` and `writer`.

#![forbid(unsafe_code)]

mod constants;
pub mod content;
mod erlang;
mod error;
mod extra_header;
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
pub use erlang::print_term;
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
