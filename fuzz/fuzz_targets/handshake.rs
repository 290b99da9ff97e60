//! What a stranger can send before it has logged in: protocol header and SASL responses.
//!
//! Finds: panics; responses that do not come back after building them again.
#![no_main]

use leveret_wire::{protocol_header, sasl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Some(header) = octets.first_chunk::<8>() {
        let _ = protocol_header(header);
    }
    for mechanism in ["PLAIN", "AMQPLAIN", "EXTERNAL", "ANONYMOUS"] {
        if let Err(error) = sasl::parse(mechanism, octets) {
            assert!(error.reply_text().len() <= 255);
        }
    }
    if let Ok(credentials) = sasl::parse_plain(octets) {
        assert_eq!(sasl::build_plain(&credentials.user, &credentials.password), octets);
    }
    if let Ok(credentials) = sasl::parse_amqplain(octets) {
        let built = sasl::build_amqplain(&credentials.user, &credentials.password).expect("was received");
        let again = sasl::parse_amqplain(&built).expect("was built");
        assert_eq!(again.password.expose(), credentials.password.expose());
        assert_eq!(again.user, credentials.user);
    }
});
