//! Octets as Erlang prints them, because RabbitMQ's error texts quote them so and clients' test
//! suites compare the texts.

/// More of a quote than this is cut off by the reply text's limit of 255 octets anyway.
const QUOTE_MAX_BYTES: usize = 256;

/// `<<1,2,3>>`: Erlang's `~w`. Long inputs are quoted only as far as a reply text can show them.
pub(crate) fn write_term(octets: &[u8]) -> String {
    let mut text = String::from("<<");
    for (index, octet) in octets.iter().take(QUOTE_MAX_BYTES).enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&octet.to_string());
    }
    text.push_str(">>");
    text
}

/// `<<"abc">>` if all of it is printable, else `<<1,2,3>>`: Erlang's `~p`.
pub fn print_term(octets: &[u8]) -> String {
    if octets.is_empty() || !octets.iter().all(|&octet| is_printable(octet)) {
        return write_term(octets);
    }
    let mut text = String::from("<<\"");
    for &octet in octets {
        push_escaped(&mut text, octet);
    }
    text.push_str("\">>");
    text
}

/// `all octets = <<…>>`, or the first 16 of them: how RabbitMQ quotes the payload of a bad frame.
pub(crate) fn payload_snippet(payload: &[u8]) -> String {
    match payload.get(..16) {
        Some(start) if payload.len() > 16 => format!("first 16 octets = {}", print_term(start)),
        _ => format!("all octets = {}", print_term(payload)),
    }
}

fn is_printable(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | 0x08..=0x0d | 0x1b)
}

fn push_escaped(text: &mut String, octet: u8) {
    let escape = match octet {
        0x08 => 'b',
        b'\t' => 't',
        b'\n' => 'n',
        0x0b => 'v',
        0x0c => 'f',
        b'\r' => 'r',
        0x1b => 'e',
        b'"' => '"',
        b'\\' => '\\',
        _ => return text.push(char::from(octet)),
    };
    text.push('\\');
    text.push(escape);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(octets: &[u8], written: &str, printed: &str) {
        assert_eq!(write_term(octets), written);
        assert_eq!(print_term(octets), printed);
    }

    #[test]
    fn terms_look_as_in_erlang() {
        check(b"", "<<>>", "<<>>");
        check(b"abc", "<<97,98,99>>", "<<\"abc\">>");
        check(&[0, 1, 255], "<<0,1,255>>", "<<0,1,255>>");
        check(b"a\"\\\n\x1b", "<<97,34,92,10,27>>", "<<\"a\\\"\\\\\\n\\e\">>");
    }

    #[test]
    fn long_payloads_are_quoted_by_their_start() {
        assert_eq!(payload_snippet(&[0; 16]), "all octets = <<0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0>>");
        assert_eq!(payload_snippet(&[b'x'; 17]), "first 16 octets = <<\"xxxxxxxxxxxxxxxx\">>");
        assert!(write_term(&[255; 100_000]).len() < 1100);
    }
}
