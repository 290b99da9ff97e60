//! The properties of a content, checked and unchecked.
//!
//! Finds: panics in accessors on damaged octets; properties that change when they are written and read
//! again; an added header that harms the others.
#![no_main]

use leveret_wire::{FieldTable, FieldValue, RawProperties};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let mut out = Vec::new();
    let added = RawProperties::from_validated(octets).with_header("added", &FieldValue::I64(1), &mut out);
    assert!(added.is_ok());
    let damaged = RawProperties::from_validated(octets).to_properties();
    let Ok(raw) = RawProperties::parse(octets) else { return };
    assert_eq!(raw.as_bytes(), octets);
    let written = raw.to_properties().encode().expect("what was decoded can be encoded");
    assert_eq!(written.len(), octets.len());
    let again = RawProperties::parse(&written).expect("what was encoded can be decoded");
    assert_eq!(again.to_properties().encode().as_ref(), Ok(&written));
    let added = RawProperties::parse(&out).expect("one more header is sound");
    let mut without = added.to_properties();
    let mut expected = raw.to_properties();
    for headers in [&mut without.headers, &mut expected.headers].into_iter().flatten() {
        headers.0.retain(|(key, _)| key != "added");
    }
    // Octets are compared, because NaN equals nothing.
    let octets = |headers: Option<FieldTable>| headers.unwrap_or_default().raw_bytes();
    assert_eq!(octets(without.headers), octets(expected.headers));
    assert_eq!(added.cluster_id(), raw.cluster_id());
    assert_eq!(damaged.encode().as_ref(), Ok(&written));
});
