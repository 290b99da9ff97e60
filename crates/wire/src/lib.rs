//! AMQP 0-9-1 bytes to values and back, for both sides, without I/O.
