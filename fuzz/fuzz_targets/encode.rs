//! What a program may hand to the encoder: names of any length, tables of any shape.
//!
//! Finds: a string that is cut instead of refused, which would let what follows be read as something else; values that
//! do not come back.
#![no_main]

use leveret_wire::method::{BasicPublish, QueueDeclare};
use leveret_wire::{
    DEFAULT_FRAME_MAX, FieldTable, FieldValue, Method, Properties, RawProperties, RawTable, split_frame,
    whole_content, write_content, write_method,
};
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;

const SHORT_MAX_BYTES: usize = 255;
const ENTRIES_MAX: usize = 4;
const DEPTH_MAX: usize = 40;
const CLASS_BASIC: u16 = 60;

#[derive(Debug)]
struct Input {
    exchange: String,
    key: String,
    message_id: String,
    headers: FieldTable,
    body: Vec<u8>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Input {
            exchange: name(u)?,
            key: name(u)?,
            message_id: name(u)?,
            headers: table(u, 0)?,
            body: u.arbitrary()?,
        })
    }
}

/// Mostly short; around the limit when asked for.
fn name(u: &mut Unstructured<'_>) -> Result<String> {
    let text: String = u.arbitrary()?;
    let padding = usize::from(u.arbitrary::<u16>()? % 300);
    Ok(if u.ratio(1, 4)? { text + &"é".repeat(padding) } else { text })
}

fn table(u: &mut Unstructured<'_>, depth: usize) -> Result<FieldTable> {
    let mut table = FieldTable::new();
    for _ in 0..u.int_in_range(0..=ENTRIES_MAX)? {
        table.push(name(u)?, value(u, depth + 1)?);
    }
    Ok(table)
}

fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<FieldValue> {
    Ok(match u.int_in_range(0..=9)? {
        0 => FieldValue::Bool(u.arbitrary()?),
        1 => FieldValue::I64(u.arbitrary()?),
        2 => FieldValue::I16(u.arbitrary()?),
        3 => FieldValue::U64(u.arbitrary()?),
        4 => FieldValue::LongString(u.arbitrary()?),
        5 => FieldValue::Timestamp(u.arbitrary()?),
        6 => FieldValue::Decimal { scale: u.arbitrary()?, value: u.arbitrary()? },
        7 if depth < DEPTH_MAX => FieldValue::Array(vec![value(u, depth + 1)?]),
        8 if depth < DEPTH_MAX => FieldValue::Table(table(u, depth)?),
        _ => FieldValue::Void,
    })
}

fn fits(text: &str) -> bool {
    text.len() <= SHORT_MAX_BYTES
}

fuzz_target!(|input: Input| {
    let Input { exchange, key, message_id, headers, body } = &input;
    let publish = BasicPublish { exchange, routing_key: key, ..Default::default() };
    check_method(&publish.into(), fits(exchange) && fits(key));
    let Ok(arguments) = headers.raw_bytes() else { return };
    let arguments = RawTable::parse(&arguments).expect("what was encoded can be decoded");
    check_method(&QueueDeclare { queue: key, arguments, ..Default::default() }.into(), fits(key));
    let properties = Properties {
        message_id: Some(message_id.clone().into()),
        headers: Some(headers.clone()),
        ..Properties::default()
    };
    let encoded = properties.encode();
    assert_eq!(encoded.is_ok(), fits(message_id), "refused, not cut");
    let Ok(encoded) = encoded else { return };
    check_content(publish, &encoded, body);
});

fn check_method(method: &Method<'_>, sound: bool) {
    let mut out = b"before".to_vec();
    let written = write_method(&mut out, 1, method);
    assert_eq!(written.is_ok(), sound, "refused, not cut");
    if written.is_err() {
        assert_eq!(out, b"before", "nothing is left of it");
        return;
    }
    let (frame, size_bytes) = split_frame(&out[6..], u32::MAX).expect("sound").expect("complete");
    assert_eq!(size_bytes + 6, out.len());
    assert_eq!(Method::decode(frame.payload).as_ref(), Ok(method));
}

fn check_content(publish: BasicPublish<'_>, properties: &[u8], body: &[u8]) {
    let properties = RawProperties::parse(properties).expect("what was encoded can be decoded");
    let mut out = Vec::new();
    let method: Method<'_> = publish.into();
    if write_content(&mut out, 1, &method, properties, body, DEFAULT_FRAME_MAX).is_err() {
        assert!(out.is_empty(), "nothing is left of it");
        return;
    }
    let (_, size_bytes) = split_frame(&out, DEFAULT_FRAME_MAX).expect("sound").expect("complete");
    let whole = whole_content(&out[size_bytes..], 1, CLASS_BASIC, DEFAULT_FRAME_MAX, u64::MAX);
    if let Some((header, found, _)) = whole {
        assert_eq!((header.properties.as_bytes(), found), (properties.as_bytes(), body));
    }
}
