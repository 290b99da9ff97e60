//! The methods of AMQP 0-9-1 as data, read from `conformance/methods.txt`.
//!
//! The raw client does not use the broker's own codec: a mistake made twice in the same place is invisible to
//! a test. This table is the second opinion.

use std::sync::OnceLock;

/// How a method argument or a property travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// One bit; neighbouring bits share an octet.
    Bit,
    /// One unsigned octet.
    Octet,
    /// Two octets, unsigned.
    Short,
    /// Four octets, unsigned.
    Long,
    /// Eight octets, unsigned (also timestamps, in seconds).
    LongLong,
    /// At most 255 octets after a length octet.
    ShortString,
    /// Octets after a four-octet length.
    LongString,
    /// A field table after a four-octet length.
    Table,
}

/// Which side may send a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Only the client.
    Client,
    /// Only the server.
    Server,
    /// Either side.
    Both,
}

/// One method: its ids, name and fields in wire order.
#[derive(Debug)]
pub struct MethodSpec {
    /// Class id, e.g. 60 for basic.
    pub class_id: u16,
    /// Method id within the class.
    pub method_id: u16,
    /// `class.method`, e.g. `basic.publish`.
    pub name: String,
    /// Who may send it.
    pub sender: Sender,
    /// Fields in wire order.
    pub fields: Vec<(String, FieldType)>,
    /// Whether a content header and body follow.
    pub has_content: bool,
}

/// The properties of class basic, first flag bit (15) first.
pub const BASIC_PROPERTIES: [(&str, FieldType); 14] = [
    ("content-type", FieldType::ShortString),
    ("content-encoding", FieldType::ShortString),
    ("headers", FieldType::Table),
    ("delivery-mode", FieldType::Octet),
    ("priority", FieldType::Octet),
    ("correlation-id", FieldType::ShortString),
    ("reply-to", FieldType::ShortString),
    ("expiration", FieldType::ShortString),
    ("message-id", FieldType::ShortString),
    ("timestamp", FieldType::LongLong),
    ("type", FieldType::ShortString),
    ("user-id", FieldType::ShortString),
    ("app-id", FieldType::ShortString),
    ("cluster-id", FieldType::ShortString),
];

/// Every method, in the order of the table.
pub fn methods() -> &'static [MethodSpec] {
    static METHODS: OnceLock<Vec<MethodSpec>> = OnceLock::new();
    METHODS.get_or_init(|| {
        include_str!("../../conformance/methods.txt")
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
            .map(|line| parse_method(line).expect("methods.txt is checked in and read by a test"))
            .collect()
    })
}

/// The method called `name`, e.g. `queue.declare`.
pub fn method_named(name: &str) -> Option<&'static MethodSpec> {
    methods().iter().find(|method| method.name == name)
}

/// The method with these ids.
pub fn method_with_ids(class_id: u16, method_id: u16) -> Option<&'static MethodSpec> {
    methods().iter().find(|method| (method.class_id, method.method_id) == (class_id, method_id))
}

fn parse_method(line: &str) -> Option<MethodSpec> {
    let mut words = line.split_whitespace();
    let class_id = words.next()?.parse().ok()?;
    let method_id = words.next()?.parse().ok()?;
    let name = words.next()?.to_owned();
    let sender = parse_sender(words.next()?)?;
    let mut rest: Vec<&str> = words.collect();
    let has_content = rest.last() == Some(&"content");
    if has_content {
        rest.pop();
    }
    let fields = rest.into_iter().map(parse_field).collect::<Option<Vec<_>>>()?;
    Some(MethodSpec { class_id, method_id, name, sender, fields, has_content })
}

fn parse_sender(letter: &str) -> Option<Sender> {
    match letter {
        "C" => Some(Sender::Client),
        "S" => Some(Sender::Server),
        "B" => Some(Sender::Both),
        _ => None,
    }
}

fn parse_field(text: &str) -> Option<(String, FieldType)> {
    let (name, kind) = text.split_once(':')?;
    let kind = match kind {
        "bit" => FieldType::Bit,
        "octet" => FieldType::Octet,
        "short" => FieldType::Short,
        "long" => FieldType::Long,
        "longlong" => FieldType::LongLong,
        "shortstr" => FieldType::ShortString,
        "longstr" => FieldType::LongString,
        "table" => FieldType::Table,
        _ => return None,
    };
    Some((name.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_readable_and_complete() {
        assert_eq!(methods().len(), 66);
        let publish = method_named("basic.publish").unwrap();
        assert_eq!((publish.class_id, publish.method_id), (60, 40));
        assert!(publish.has_content);
        assert_eq!(method_with_ids(40, 51).unwrap().name, "exchange.unbind-ok");
    }
}
