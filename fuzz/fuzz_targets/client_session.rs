//! Octets from a broker gone mad, against the client's session in the middle of its work: calls that wait, a consumer, a
//! channel in confirm mode, one that is being closed.
//!
//! Finds: panics, a message larger than allowed, octets taken twice or never.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| leveret_client::fuzz_session(octets));
