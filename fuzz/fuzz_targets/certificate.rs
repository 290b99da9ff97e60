//! The user that a certificate names. Rustls has verified it before, but its issuer may be anybody's intern.
//!
//! Finds: panics on odd DER; names that users cannot have.
#![no_main]

use leveret_server::{UserFrom, user_of};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    for (_, from) in UserFrom::NAMES {
        if let Ok(name) = user_of(octets, from) {
            assert!(!name.is_empty() && name.len() <= 255 && !name.contains(char::is_control));
        }
    }
});
