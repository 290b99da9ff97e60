//! How many arguments somebody may make us keep: a value of one octet on the wire takes thirty in memory.

use leveret_wire::{FieldTable, RawTable};

use crate::error::Refusal;

/// Octets that the arguments of one declaration, binding or consumer may take on the wire. RabbitMQ takes as many as
/// fit into a frame.
pub const ARGUMENTS_MAX_BYTES: usize = 16 << 10;

/// The arguments of a method, for keeping.
///
/// # Errors
/// 406 if they are longer than [`ARGUMENTS_MAX_BYTES`].
pub fn read_arguments(received: RawTable<'_>) -> Result<FieldTable, Refusal> {
    match received.as_bytes().len() {
        0..=ARGUMENTS_MAX_BYTES => Ok(received.to_table()),
        size_bytes => Err(Refusal::precondition(format!(
            "arguments of {size_bytes} octets are more than {ARGUMENTS_MAX_BYTES}"
        ))),
    }
}
