//! Another implementation as judge: amq-protocol, the codec of lapin, reads what we write and writes
//! what we read.

use amq_protocol::frame::{AMQPFrame, gen_frame, parse_frame};
use leveret_wire::{FieldTable, FieldValue, Method, split_frame, write_method};
use proptest::prelude::*;

use crate::round_trip::value;
use crate::spec;

/// amq-protocol sorts tables and drops duplicates.
fn is_shared(value: &FieldValue) -> bool {
    match value {
        FieldValue::Array(values) => values.iter().all(is_shared),
        FieldValue::Table(table) => is_sorted(table) && table.iter().all(|(_, value)| is_shared(value)),
        _ => true,
    }
}

fn is_sorted(table: &FieldTable) -> bool {
    table.0.is_sorted_by(|(a, _), (b, _)| a < b)
}

fn table() -> BoxedStrategy<Vec<u8>> {
    let entries = prop::collection::btree_map(spec::short_text(), value(), 0..5);
    entries
        .prop_map(|entries| entries.into_iter().collect::<FieldTable>())
        .prop_filter("a table amq-protocol can hold", |table| is_shared(&FieldValue::Table(table.clone())))
        .prop_map(|table| table.raw_bytes().unwrap())
        .boxed()
}

/// Fields that have one value only (as in access.request-ok, where it is 1): amq-protocol reads over them and writes them blank.
const RESERVED: [&str; 8] = [
    "ticket",
    "out-of-band",
    "channel-id",
    "capabilities",
    "insist",
    "known-hosts",
    "cluster-id",
    "prefetch-size",
];

fn method() -> BoxedStrategy<Vec<u8>> {
    let tables = table();
    let payloads = spec::methods().into_iter().filter(|method| method.name != "access.request-ok");
    let payloads = payloads.map(move |mut method| {
        for field in &mut method.fields {
            field.is_blank = RESERVED.contains(&field.name.as_str());
        }
        spec::payload(&method, tables.clone())
    });
    prop::strategy::Union::new(payloads).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn both_read_and_write_the_same_frames(payload in method(), channel: u16) {
        let ours = Method::decode(&payload).unwrap();
        let mut frame = Vec::new();
        write_method(&mut frame, channel, &ours).unwrap();
        let (rest, theirs) = parse_frame(frame.as_slice()).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert!(matches!(theirs, AMQPFrame::Method(found, _) if found == channel), "{theirs:?}");
        let written = gen_frame(&theirs)(Vec::new().into()).unwrap().write;
        prop_assert_eq!(&written, &frame);
        let (split, _) = split_frame(&written, 0).unwrap().unwrap();
        prop_assert_eq!(Method::decode(split.payload).unwrap(), ours);
    }
}
