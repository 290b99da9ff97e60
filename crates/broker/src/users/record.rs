//! A user as octets, for the store.
//!
//! ```text
//!   version u8 = 1 │ flags u8 (1 = loopback only) │ password hash │ tags │ permissions │ topic permissions
//!
//!   text        u32 length │ UTF-8              the password hash is a text
//!   list        u32 count │ that many entries   tag: text
//!                                               permission: vhost, configure, write, read
//!                                               topic permission: vhost, exchange, write, read
//! ```
//!
//! Numbers are little-endian. The name is the record's key in the store, so it is not repeated.

use super::password::PasswordHash;
use super::permissions::{Operation, Permissions, TopicPermissions};
use super::user::User;

const VERSION: u8 = 1;
const LOOPBACK_ONLY: u8 = 1;

/// The record of a user and its password.
pub(super) fn encode(user: &User, password: &PasswordHash) -> Vec<u8> {
    let mut out = vec![VERSION, if user.loopback_only { LOOPBACK_ONLY } else { 0 }];
    put_text(&mut out, &password.encode());
    put_count(&mut out, user.tags.len());
    user.tags.iter().for_each(|tag| put_text(&mut out, tag));
    put_count(&mut out, user.permissions.len());
    for (vhost, p) in &user.permissions {
        let patterns = [Operation::Configure, Operation::Write, Operation::Read].map(|op| p.pattern(op));
        put_text(&mut out, vhost);
        patterns.iter().for_each(|pattern| put_text(&mut out, pattern));
    }
    put_count(&mut out, user.topic_permissions.len());
    for ((vhost, exchange), p) in &user.topic_permissions {
        [vhost, exchange, p.write(), p.read()].iter().for_each(|text| put_text(&mut out, text));
    }
    out
}

/// Reads a record back. None if it is of another version or damaged.
pub(super) fn decode(name: &str, record: &[u8]) -> Option<(User, PasswordHash)> {
    let (&[version, flags], rest) = record.split_first_chunk()?;
    if version != VERSION || flags & !LOOPBACK_ONLY != 0 {
        return None;
    }
    let mut rest = rest;
    let password = PasswordHash::decode(take_text(&mut rest)?).ok()?;
    let mut user = User::new(name, Vec::new());
    user.loopback_only = flags & LOOPBACK_ONLY != 0;
    for _ in 0..take_count(&mut rest)? {
        user.tags.push(take_text(&mut rest)?.into());
    }
    for _ in 0..take_count(&mut rest)? {
        let [vhost, configure, write, read] = take_texts(&mut rest)?;
        user.permissions.insert(vhost.into(), Permissions::new(configure, write, read).ok()?);
    }
    for _ in 0..take_count(&mut rest)? {
        let [vhost, exchange, write, read] = take_texts(&mut rest)?;
        let permissions = TopicPermissions::new(write, read, name, vhost).ok()?;
        user.topic_permissions.insert((vhost.into(), exchange.into()), permissions);
    }
    rest.is_empty().then_some((user, password))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Names, patterns and lists are bounded far below 4 GiB by [`Users`](super::Users).
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn take_count(rest: &mut &[u8]) -> Option<usize> {
    let (count, after) = rest.split_first_chunk()?;
    *rest = after;
    usize::try_from(u32::from_le_bytes(*count)).ok()
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = take_count(rest)?;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

fn take_texts<'a>(rest: &mut &'a [u8]) -> Option<[&'a str; 4]> {
    Some([take_text(rest)?, take_text(rest)?, take_text(rest)?, take_text(rest)?])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> (User, PasswordHash) {
        let mut user = User::new("u", vec!["administrator".into(), "own".into()]);
        user.loopback_only = true;
        user.permissions.insert("/".into(), Permissions::all());
        user.permissions.insert("v".into(), Permissions::new("", "^a", "ü").unwrap());
        let topic = TopicPermissions::new("^{username}", "", "u", "/").unwrap();
        user.topic_permissions.insert(("/".into(), "amq.topic".into()), topic);
        (user, PasswordHash::new_public(b"secret").unwrap())
    }

    #[test]
    fn a_record_gives_the_same_user_back() {
        let (user, password) = sample();
        assert_eq!(decode("u", &encode(&user, &password)), Some((user, password)));
        let bare = (User::new("x", Vec::new()), PasswordHash::absent());
        assert_eq!(decode("x", &encode(&bare.0, &bare.1)), Some(bare));
    }

    #[test]
    fn the_layout_is_fixed() {
        let mut user = User::new("u", vec!["t".into()]);
        user.permissions.insert("v".into(), Permissions::new("", "w", ".*").unwrap());
        let expected = b"\x01\x00\0\0\0\0\x01\0\0\0\x01\0\0\0t\x01\0\0\0\x01\0\0\0v\0\0\0\0\x01\0\0\0w\x02\0\0\0.*\0\0\0\0";
        assert_eq!(encode(&user, &PasswordHash::absent()), expected);
    }

    #[test]
    fn damaged_records_are_refused_whole() {
        let (user, password) = sample();
        let record = encode(&user, &password);
        for end in 0..record.len() {
            assert_eq!(decode("u", &record[..end]), None, "cut at {end}");
        }
        assert_eq!(decode("u", &[&record[..], b"x"].concat()), None);
        for (at, value) in [(0, 2), (1, 2), (2, 0xFF), (5, 0xFF), (6, b'x')] {
            let mut damaged = record.clone();
            damaged[at] = value;
            assert_eq!(decode("u", &damaged), None, "octet {at}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_are_too_strange(octets in prop::collection::vec(any::<u8>(), 0..80)) {
            let sound_start = [VERSION, 0, 0, 0, 0, 0];
            decode("u", &octets);
            decode("u", &[&sound_start[..], &octets].concat());
        }
    }
}
