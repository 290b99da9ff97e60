//! An encoder that knows only the specification's JSON: it packs arguments field by field and shares
//! nothing with the codec, not even its generator.

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

/// A method of the specification with the types of its fields.
#[derive(Debug, Clone)]
pub(crate) struct MethodSpec {
    pub(crate) class_id: u16,
    pub(crate) method_id: u16,
    pub(crate) name: String,
    pub(crate) has_content: bool,
    pub(crate) fields: Vec<Field>,
}

/// A field of a method.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// Always 0 or empty.
    pub(crate) is_blank: bool,
}

/// All methods, from the vendored JSON.
pub(crate) fn methods() -> Vec<MethodSpec> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/amqp-rabbitmq-0.9.1.json");
    let spec: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let domains: HashMap<&str, &str> =
        list(&spec["domains"]).map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
    let mut methods = Vec::new();
    for class in list(&spec["classes"]) {
        for method in list(&class["methods"]) {
            methods.push(method_spec(class, method, &domains));
        }
    }
    methods
}

fn method_spec(class: &Value, method: &Value, domains: &HashMap<&str, &str>) -> MethodSpec {
    let field = |field: &Value| {
        let kind = field["type"].as_str().or(field["domain"].as_str()).unwrap();
        let kind = domains.get(kind).copied().unwrap_or(kind).to_owned();
        Field { name: field["name"].as_str().unwrap().to_owned(), kind, is_blank: false }
    };
    MethodSpec {
        class_id: class["id"].as_u64().unwrap() as u16,
        method_id: method["id"].as_u64().unwrap() as u16,
        name: format!("{}.{}", class["name"].as_str().unwrap(), method["name"].as_str().unwrap()),
        has_content: method["content"].as_bool().unwrap_or(false),
        fields: list(&method["arguments"]).map(field).collect(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

/// The payload of a method frame with arbitrary arguments; `table` makes its tables.
pub(crate) fn payload(method: &MethodSpec, table: BoxedStrategy<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    let mut parts: Vec<BoxedStrategy<Vec<u8>>> =
        vec![Just([method.class_id.to_be_bytes(), method.method_id.to_be_bytes()].concat()).boxed()];
    for run in method.fields.chunk_by(|a, b| a.kind == "bit" && b.kind == "bit") {
        parts.push(match run {
            [Field { kind, is_blank: true, .. }] => Just(blank(kind)).boxed(),
            [Field { kind, .. }] if kind != "bit" => field(kind, table.clone()),
            bits => packed_bits(bits.len()),
        });
    }
    parts.prop_map(|parts| parts.concat()).boxed()
}

/// Eight bits share an octet, the first in the lowest place; unused places are 0.
fn packed_bits(count: usize) -> BoxedStrategy<Vec<u8>> {
    let pack = |bits: Vec<bool>| {
        let octet = |bits: &[bool]| bits.iter().rev().fold(0, |octet, &bit| octet << 1 | u8::from(bit));
        bits.chunks(8).map(octet).collect()
    };
    prop::collection::vec(any::<bool>(), count).prop_map(pack).boxed()
}

fn blank(kind: &str) -> Vec<u8> {
    let size_bytes = match kind {
        "octet" | "bit" | "shortstr" => 1,
        "short" => 2,
        _ => 4,
    };
    vec![0; size_bytes]
}

fn field(kind: &str, table: BoxedStrategy<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    match kind {
        "octet" => any::<u8>().prop_map(|value| vec![value]).boxed(),
        "short" => any::<u16>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        "long" => any::<u32>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        "longlong" | "timestamp" => any::<u64>().prop_map(|value| value.to_be_bytes().to_vec()).boxed(),
        "shortstr" => short_text().prop_map(|text| short(text.as_bytes())).boxed(),
        "longstr" => prop::collection::vec(any::<u8>(), 0..40).prop_map(|octets| long(&octets)).boxed(),
        "table" => table.prop_map(|octets| long(&octets)).boxed(),
        _ => panic!("unknown type {kind}"),
    }
}

/// Text of up to 255 octets.
pub(crate) fn short_text() -> BoxedStrategy<String> {
    let long = Just("\u{e4}x".repeat(85)); // exactly 255 octets
    prop_oneof![20 => "\\PC{0,12}".prop_map(String::from), 1 => long].boxed()
}

pub(crate) fn short(octets: &[u8]) -> Vec<u8> {
    [&[octets.len() as u8], octets].concat()
}

pub(crate) fn long(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u32).to_be_bytes(), octets].concat()
}
