//! `properties_key`: the name of a binding among those between the same two places.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leveret_wire::FieldTable;

/// `key`, `key~hash of the arguments`, or `~` where there is neither. Clients take it as it is; RabbitMQ's hash is another one.
pub(crate) fn properties_key(routing_key: &str, arguments: &FieldTable) -> String {
    let key = quoted(routing_key);
    match (key.is_empty(), arguments.is_empty()) {
        (true, true) => "~".to_owned(),
        (false, true) => key,
        (_, false) => format!("{key}~{}", URL_SAFE_NO_PAD.encode(hash(arguments).to_be_bytes())),
    }
}

/// Which of these bindings a path names. Clients that encode a key once where it should be twice are understood as by
/// RabbitMQ, unless another binding has that very name.
pub(crate) fn position<'a>(
    bindings: impl Iterator<Item = (&'a str, &'a FieldTable)> + Clone,
    wanted: &str,
) -> Option<usize> {
    let exactly = |(key, arguments): (&str, &FieldTable)| properties_key(key, arguments) == wanted;
    let decoded = |(key, arguments): (&str, &FieldTable)| match wanted.strip_prefix(key) {
        Some(rest) if !key.is_empty() => rest == &properties_key(key, arguments)[quoted(key).len()..],
        _ => false,
    };
    bindings.clone().position(exactly).or_else(|| bindings.clone().position(decoded))
}

/// Percent-encoded, so that `~` separates and nothing needs escaping twice.
fn quoted(key: &str) -> String {
    let mut quoted = String::new();
    for octet in key.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => quoted.push(char::from(octet)),
            b' ' => quoted.push('+'),
            octet => quoted.push_str(&format!("%{octet:02X}")),
        }
    }
    quoted
}

/// FNV-1a, of the arguments in the order of their names: the same after a restart.
fn hash(arguments: &FieldTable) -> u32 {
    let mut sorted = arguments.clone();
    sorted.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut octets = Vec::new();
    // What cannot be encoded has never been a binding's argument.
    sorted.encode(&mut octets).unwrap_or_default();
    octets.iter().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_in_rabbitmq() {
        let none = FieldTable::new();
        let check = |key: &str, expected: &str| assert_eq!(properties_key(key, &none), expected);
        check("", "~");
        check("a.*", "a.%2A");
        check("a b~#", "a+b%7E%23");
        check("é", "%C3%A9");
    }

    #[test]
    fn a_key_that_was_encoded_once_names_its_binding() {
        let none = FieldTable::new();
        let mut some = FieldTable::new();
        some.push("a", 1);
        let bindings = [("b.#", &none), ("b.%23", &none), ("", &none), ("b.#", &some)];
        let check = |wanted: &str, expected| {
            assert_eq!(position(bindings.into_iter(), wanted), expected, "{wanted}");
        };
        check("b.%23", Some(0));
        check("b.#", Some(0));
        check("b.%2523", Some(1));
        check("~", Some(2));
        check(&properties_key("b.#", &some), Some(3));
        check(&properties_key("b.#", &some).replace("%23", "#"), Some(3));
        check("b", None);
        check("", None);
    }

    #[test]
    fn arguments_are_told_apart_by_their_hash_whatever_their_order() {
        let table = |pairs: &[(&str, i32)]| {
            let mut table = FieldTable::new();
            pairs.iter().for_each(|(key, value)| table.push(*key, *value));
            table
        };
        let key = |pairs: &[(&str, i32)]| properties_key("k", &table(pairs));
        assert_eq!(key(&[("a", 1), ("b", 2)]), key(&[("b", 2), ("a", 1)]));
        assert_ne!(key(&[("a", 1)]), key(&[("a", 2)]));
        assert_eq!(key(&[("a", 1)]).len(), "k~123456".len());
        assert!(properties_key("", &table(&[("a", 1)])).starts_with('~'));
    }
}
