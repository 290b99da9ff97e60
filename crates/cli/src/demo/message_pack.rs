//! As much of MessagePack as the story of the site needs: a map of short texts.
//!
//! ```text
//!   0x80 | entries    then per text   0xa0 | octets, octets…
//! ```

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

const FIXMAP: u8 = 0x80;
const FIXMAP_ENTRIES_MAX: usize = 15;
const FIXSTR: u8 = 0xa0;
const FIXSTR_OCTETS_MAX: usize = 31;

/// Encodes a map of at most 15 entries whose texts have at most 31 octets.
pub(super) fn encode(map: &[(&str, &str)]) -> Result<Vec<u8>> {
    ensure!(map.len() <= FIXMAP_ENTRIES_MAX, "{} entries, at most {FIXMAP_ENTRIES_MAX}", map.len());
    let mut octets = vec![FIXMAP | map.len() as u8];
    for text in map.iter().flat_map(|(name, value)| [name, value]) {
        ensure!(text.len() <= FIXSTR_OCTETS_MAX, "{text:?} is longer than {FIXSTR_OCTETS_MAX} octets");
        octets.push(FIXSTR | text.len() as u8);
        octets.extend_from_slice(text.as_bytes());
    }
    Ok(octets)
}

/// Decodes such a map.
pub(super) fn decode(octets: &[u8]) -> Result<BTreeMap<String, String>> {
    let (head, mut rest) = octets.split_first().context("empty")?;
    ensure!(head & 0xf0 == FIXMAP, "not a small map");
    let mut map = BTreeMap::new();
    for _ in 0..head & 0x0f {
        let name = text(&mut rest)?;
        map.insert(name, text(&mut rest)?);
    }
    ensure!(rest.is_empty(), "octets behind the map");
    Ok(map)
}

fn text(rest: &mut &[u8]) -> Result<String> {
    let (head, after) = rest.split_first().context("cut short")?;
    ensure!(head & 0xe0 == FIXSTR, "not a short text");
    let (text, after) = after.split_at_checked(usize::from(head & 0x1f)).context("cut short")?;
    *rest = after;
    Ok(String::from_utf8(text.to_vec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_those_of_the_specification() {
        let octets = encode(&[("a", "xy")]).unwrap();
        assert_eq!(octets, b"\x81\xa1a\xa2xy");
        assert_eq!(decode(&octets).unwrap(), BTreeMap::from([("a".to_owned(), "xy".to_owned())]));
    }

    #[test]
    fn what_is_no_small_map_is_refused() {
        for octets in
            [&b""[..], b"\xc0", b"\x81", b"\x81\xa1a", b"\x81\xa1a\xa2x", b"\x80x", b"\x81\xa1a\x01"]
        {
            assert!(decode(octets).is_err(), "{octets:?}");
        }
        assert!(encode(&[("a", &"x".repeat(32))]).is_err());
    }
}
