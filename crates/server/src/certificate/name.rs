//! Distinguished names, shown as RFC 4514 says and as RabbitMQ shows them.

use std::fmt;

use super::der::{Der, OID, SEQUENCE, SET};

/// `commonName`, 2.5.4.3.
pub(super) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// How attribute types are written; others are numbers.
const TYPES: [(&[u8], &str); 12] = [
    (COMMON_NAME, "CN"),
    (&[0x55, 0x04, 0x05], "SERIALNUMBER"),
    (&[0x55, 0x04, 0x06], "C"),
    (&[0x55, 0x04, 0x07], "L"),
    (&[0x55, 0x04, 0x08], "ST"),
    (&[0x55, 0x04, 0x09], "STREET"),
    (&[0x55, 0x04, 0x0A], "O"),
    (&[0x55, 0x04, 0x0B], "OU"),
    (&[0x55, 0x04, 0x0C], "TITLE"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x01], "EMAILADDRESS"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x01], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19], "DC"),
];

const UTF8_STRING: u8 = 0x0C;
const PRINTABLE_STRING: u8 = 0x13;
const TELETEX_STRING: u8 = 0x14;
const IA5_STRING: u8 = 0x16;
const BMP_STRING: u8 = 0x1E;

/// A distinguished name. `Display` writes it with the most specific part in front.
#[derive(Debug)]
pub(super) struct Name<'a>(Vec<Vec<Attribute<'a>>>);

#[derive(Debug)]
struct Attribute<'a> {
    kind: &'a [u8],
    value: String,
}

impl<'a> Name<'a> {
    /// Reads what is inside of the `SEQUENCE`.
    pub(super) fn read(octets: &'a [u8]) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = Der(octets);
        while !rest.is_empty() {
            let mut set = rest.expect(SET)?;
            let mut attributes = Vec::new();
            while !set.is_empty() {
                let mut attribute = set.expect(SEQUENCE)?;
                let kind = attribute.expect(OID)?.0;
                let (tag, value) = attribute.next()?;
                attributes.push(Attribute { kind, value: text(tag, value)? });
            }
            parts.push(attributes);
        }
        Some(Self(parts))
    }

    /// The values of one type.
    pub(super) fn values(&self, kind: &[u8]) -> Vec<String> {
        let of_kind = self.0.iter().flatten().filter(|attribute| attribute.kind == kind);
        of_kind.map(|attribute| attribute.value.clone()).collect()
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().rev().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            for (at, attribute) in part.iter().enumerate() {
                f.write_str(if at == 0 { "" } else { "+" })?;
                attribute.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TYPES.iter().find(|(kind, _)| *kind == self.kind) {
            Some((_, name)) => f.write_str(name)?,
            None => write_numbers(f, self.kind)?,
        }
        f.write_str("=")?;
        let last = self.value.chars().count().saturating_sub(1);
        for (at, character) in self.value.chars().enumerate() {
            let is_special = match character {
                ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
                '#' => at == 0,
                ' ' => at == 0 || at == last,
                _ => false,
            };
            f.write_str(if is_special { "\\" } else { "" })?;
            write!(f, "{character}")?;
        }
        Ok(())
    }
}

/// An attribute's value; `None` for one that is no text.
fn text(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        UTF8_STRING => std::str::from_utf8(value).ok().map(ToOwned::to_owned),
        PRINTABLE_STRING | TELETEX_STRING | IA5_STRING => {
            value.is_ascii().then(|| value.iter().copied().map(char::from).collect())
        }
        BMP_STRING if value.len().is_multiple_of(2) => {
            let units = value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

/// An object identifier in dots.
fn write_numbers(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    let mut number: u64 = 0;
    let mut is_first = true;
    for octet in octets {
        number = number.wrapping_shl(7) | u64::from(octet & 0x7F);
        if octet & 0x80 != 0 {
            continue;
        }
        if is_first {
            let root = (number / 40).min(2);
            write!(f, "{root}.{}", number - root * 40)?;
        } else {
            write!(f, ".{number}")?;
        }
        (number, is_first) = (0, false);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute<'a>(kind: &'a [u8], value: &str) -> Attribute<'a> {
        Attribute { kind, value: value.to_owned() }
    }

    #[test]
    fn names_are_written_so_that_they_can_be_told_apart() {
        let check = |value: &str, expected: &str| {
            assert_eq!(attribute(COMMON_NAME, value).to_string(), expected);
        };
        check("plain", "CN=plain");
        check("a,O=b", "CN=a\\,O=b");
        check(" # ", "CN=\\ #\\ ");
        check("#a+b", "CN=\\#a\\+b");
        let number = attribute(&[0x2A, 0x86, 0x48, 0x01], "x");
        assert_eq!(number.to_string(), "1.2.840.1=x");
    }

    #[test]
    fn texts_of_all_kinds_are_read() {
        let check = |tag, value: &[u8], expected: Option<&str>| {
            assert_eq!(text(tag, value).as_deref(), expected, "{tag} {value:?}");
        };
        check(UTF8_STRING, "ü".as_bytes(), Some("ü"));
        check(UTF8_STRING, b"\xFF", None);
        check(PRINTABLE_STRING, b"a", Some("a"));
        check(TELETEX_STRING, b"\xFC", None);
        check(BMP_STRING, b"\0a\x20\xAC", Some("a€"));
        check(BMP_STRING, b"\xD8\0", None);
        check(BMP_STRING, b"\0", None);
        check(0x03, b"a", None);
    }
}
