//! Properties: what is encoded decodes to the same, and no octets do harm.

use leveret_wire::{
    Assembler, FieldTable, FieldValue, Method, Progress, Properties, RawProperties, RawTable, parse_header,
    split_frame, whole_content, write_content,
};
use proptest::prelude::*;

use crate::spec::{self, MethodSpec};

/// Any value that survives a round trip (`U64` comes back as `I64`; NaN equals nothing).
pub(crate) fn value() -> BoxedStrategy<FieldValue> {
    let octets = || prop::collection::vec(any::<u8>(), 0..20);
    let leaf = prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i8>().prop_map(FieldValue::I8),
        any::<u8>().prop_map(FieldValue::U8),
        any::<i16>().prop_map(FieldValue::I16),
        any::<u16>().prop_map(FieldValue::U16),
        any::<i32>().prop_map(FieldValue::I32),
        any::<u32>().prop_map(FieldValue::U32),
        any::<i64>().prop_map(FieldValue::I64),
        prop::num::f32::NORMAL.prop_map(FieldValue::F32),
        prop::num::f64::NORMAL.prop_map(FieldValue::F64),
        any::<(u8, i32)>().prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        octets().prop_map(FieldValue::LongString),
        octets().prop_map(FieldValue::Bytes),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ];
    let nested = |inner: BoxedStrategy<FieldValue>| {
        let array = prop::collection::vec(inner.clone(), 0..4).prop_map(FieldValue::Array);
        let entries = prop::collection::vec((spec::short_text(), inner), 0..4);
        prop_oneof![array, entries.prop_map(|entries| FieldValue::Table(FieldTable(entries)))]
    };
    leaf.prop_recursive(4, 24, 4, nested).boxed()
}

fn table() -> BoxedStrategy<FieldTable> {
    prop::collection::vec((spec::short_text(), value()), 0..5).prop_map(FieldTable).boxed()
}

fn properties() -> BoxedStrategy<Properties> {
    let text = || prop::option::of(prop::collection::vec(any::<u8>(), 0..30));
    let first = (text(), text(), prop::option::of(table()), any::<Option<u8>>(), any::<Option<u8>>());
    let middle = (text(), text(), text(), text(), any::<Option<u64>>());
    let last = (text(), text(), text(), text());
    (first, middle, last)
        .prop_map(|(first, middle, last)| Properties {
            content_type: first.0,
            content_encoding: first.1,
            headers: first.2,
            delivery_mode: first.3,
            priority: first.4,
            correlation_id: middle.0,
            reply_to: middle.1,
            expiration: middle.2,
            message_id: middle.3,
            timestamp: middle.4,
            kind: last.0,
            user_id: last.1,
            app_id: last.2,
            cluster_id: last.3,
        })
        .boxed()
}

/// Any method, packed by the specification.
fn any_method() -> BoxedStrategy<(MethodSpec, Vec<u8>)> {
    let tables = table().prop_map(|table| table.raw_bytes().unwrap()).boxed();
    let payloads = spec::methods().into_iter().map(move |method| {
        let payload = spec::payload(&method, tables.clone());
        payload.prop_map(move |payload| (method.clone(), payload)).boxed()
    });
    prop::strategy::Union::new(payloads).boxed()
}

#[test]
fn the_specification_has_all_methods() {
    assert_eq!(spec::methods().len(), 66);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn methods_are_read_and_written_as_specified((method, payload) in any_method()) {
        let decoded = Method::decode(&payload).unwrap();
        let ids = (decoded.class_id(), decoded.method_id(), decoded.name(), decoded.has_content());
        prop_assert_eq!(ids, (method.class_id, method.method_id, method.name.as_str(), method.has_content));
        let mut encoded = Vec::new();
        decoded.encode(&mut encoded).unwrap();
        prop_assert_eq!(encoded, payload);
    }

    #[test]
    fn every_prefix_of_a_method_is_refused((_, payload) in any_method(), end: prop::sample::Index) {
        let end = end.index(payload.len());
        prop_assert!(Method::decode(&payload[..end]).is_err());
    }

    #[test]
    fn tables_survive(table in table()) {
        let octets = table.raw_bytes().unwrap();
        let raw = RawTable::parse(&octets).unwrap();
        prop_assert_eq!(&raw.to_table(), &table);
        for (name, _) in &table {
            prop_assert_eq!(raw.find(name), table.get(name).cloned());
        }
    }

    #[test]
    fn properties_survive(properties in properties()) {
        let octets = properties.encode().unwrap();
        let raw = RawProperties::parse(&octets).unwrap();
        prop_assert_eq!(raw.to_properties(), properties);
    }

    #[test]
    fn one_more_header_changes_nothing_else(mut properties in properties(), key in spec::short_text(), value in value()) {
        let octets = properties.encode().unwrap();
        let mut out = Vec::new();
        RawProperties::parse(&octets).unwrap().with_header(&key, &value, &mut out).unwrap();
        let headers = properties.headers.get_or_insert_default();
        headers.0.retain(|(name, _)| *name != key);
        headers.push(key, value);
        prop_assert_eq!(RawProperties::parse(&out).unwrap().to_properties(), properties);
    }

    #[test]
    fn contents_survive_any_frame_max(
        properties in properties(),
        body in prop::collection::vec(any::<u8>(), 0..20_000),
        frame_max in 4096u32..20_000,
    ) {
        let octets = properties.encode().unwrap();
        let raw = RawProperties::parse(&octets).unwrap();
        let publish = Method::from(leveret_wire::method::BasicPublish::default());
        let mut out = Vec::new();
        write_content(&mut out, 7, &publish, raw, &body, frame_max).unwrap();
        let (_, start) = split_frame(&out, frame_max).unwrap().unwrap();
        let assembled = assemble(&out[start..], frame_max);
        prop_assert_eq!((&assembled.0, &assembled.1), (&octets, &body));
        let whole = whole_content(&out[start..], 7, 60, frame_max, u64::MAX);
        prop_assert_eq!(whole.is_some(), body.len() <= frame_max as usize - 8);
        if let Some((header, found, size_bytes)) = whole {
            prop_assert_eq!((header.properties, found, start + size_bytes), (raw, &body[..], out.len()));
        }
    }

    #[test]
    fn any_octets_are_harmless(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Method::decode(&octets);
        let _ = parse_header(&octets);
        let _ = split_frame(&octets, 4096);
        let _ = RawProperties::from_validated(&octets).to_properties();
        if let Ok(raw) = RawTable::parse(&octets) {
            let canonical = raw.to_table().raw_bytes().unwrap();
            prop_assert_eq!(canonical.len(), octets.len());
        }
    }
}

fn assemble(mut octets: &[u8], frame_max: u32) -> (Vec<u8>, Vec<u8>) {
    let mut assembler = Assembler::start((), 60);
    loop {
        let (frame, size_bytes) = split_frame(octets, frame_max).unwrap().unwrap();
        octets = &octets[size_bytes..];
        let progress = match frame.kind {
            leveret_wire::FRAME_HEADER => assembler.header(frame.payload, u64::MAX),
            _ => assembler.body(frame.payload),
        };
        assembler = match progress.unwrap() {
            Progress::More(assembler) => assembler,
            Progress::Done(content) => return (content.properties, content.body),
        };
    }
}
