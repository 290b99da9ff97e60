//! Field tables: nesting, lying lengths, unknown types; and octets that were never checked.
//!
//! Finds: stack overflow, panics, a table that changes when it is written and read again, a lookup
//! that disagrees with the decoded table.
#![no_main]

use leveret_wire::{RawProperties, RawTable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    // Flags say "headers only": reads the octets as a table without a check.
    let unchecked = [&[0x20, 0][..], &(octets.len() as u32).to_be_bytes(), octets].concat();
    let garbage = RawProperties::from_validated(&unchecked).headers().map(RawTable::to_table);
    let Ok(raw) = RawTable::parse(octets) else { return };

    let table = raw.to_table();
    let written = table.raw_bytes().expect("what was decoded can be encoded");
    assert_eq!(written.len(), octets.len());
    // Octets are compared, because NaN equals nothing.
    let again = RawTable::parse(&written).expect("what was encoded can be decoded").to_table();
    assert_eq!(again.raw_bytes().as_ref(), Ok(&written));
    assert_eq!(garbage.map(|table| table.raw_bytes()), Some(Ok(written)));
    for (key, value) in &table {
        let found = raw.find(key).expect("every key is found");
        let first = table.get(key).expect("every key is found");
        assert_eq!((found.type_name(), value.type_name().is_empty()), (first.type_name(), false));
    }
});
