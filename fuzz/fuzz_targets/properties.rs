//! The properties of a content, checked and unchecked.
//!
//! Finds: panics in accessors on damaged octets; properties that change when they are written and read
//! again.
#![no_main]

use leveret_wire::RawProperties;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let damaged = RawProperties::from_validated(octets).to_properties();
    let Ok(raw) = RawProperties::parse(octets) else { return };
    assert_eq!(raw.as_bytes(), octets);
    let written = raw.to_properties().encode().expect("what was decoded can be encoded");
    assert_eq!(written.len(), octets.len());
    let again = RawProperties::parse(&written).expect("what was encoded can be decoded");
    assert_eq!(again.to_properties().encode().as_ref(), Ok(&written));
    assert_eq!(damaged.encode().as_ref(), Ok(&written));
});
