//! The rules of the broker: virtual hosts, exchanges, queues, channels, users.
