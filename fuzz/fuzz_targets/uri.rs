//! Broker addresses from flags, environment and configuration.
//!
//! Finds: panics on odd text; an address that means something else after printing it.
#![no_main]

use leveret_wire::AmqpUri;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(uri) = AmqpUri::parse(text) else { return };
    let printed = uri.to_string();
    let again = AmqpUri::parse(&printed).expect("what was printed can be read");
    assert_eq!((again.tls, again.port), (uri.tls, uri.port));
    assert_eq!((&again.user, &again.host, &again.vhost), (&uri.user, &uri.host, &uri.vhost));
    assert_eq!(again.to_string(), printed);
});
