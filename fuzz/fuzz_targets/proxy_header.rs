//! The header that a proxy puts in front of a connection.
//!
//! Finds: panics; a header without an end; a header that means something else once more octets have come.
#![no_main]

use leveret_server::proxy_protocol::{HEADER_MAX_BYTES, Progress, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    match parse(octets) {
        Ok(Progress::Incomplete) => assert!(octets.len() < HEADER_MAX_BYTES),
        Ok(Progress::Done(end, carried)) => {
            assert!(end <= octets.len() && end <= HEADER_MAX_BYTES);
            assert_eq!(parse(&octets[..end]), Ok(Progress::Done(end, carried)));
            (0..end).for_each(|cut| assert_eq!(parse(&octets[..cut]), Ok(Progress::Incomplete)));
        }
        Err(_) => {}
    }
});
