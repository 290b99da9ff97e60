//! The codec against witnesses that share no code with it: a recorded RabbitMQ, an encoder that knows
//! only the specification, and another library.

#![allow(clippy::unwrap_used)] // tests may, helpers of tests included

mod golden;
mod oracle;
mod refused;
mod round_trip;
mod spec;
