//! Frames: cutting them out of a read buffer, and appending them to a write buffer.
//!
//! ```text
//!   0      1         3             7                      7+N
//!   +------+---------+-------------+----------------------+------+
//!   | kind | channel | size N      | payload              | 0xCE |      a whole frame: N + 8 octets
//!   +------+---------+-------------+----------------------+------+
//! ```
//!
//! `frame_max` counts the whole frame. RabbitMQ tolerates payloads of up to `frame_max` octets,
//! because many clients forget the 8; so do we.

use crate::erlang::payload_snippet;
use crate::method::Method;
use crate::writer::{all_or_nothing, size_u32};
use crate::{EncodeError, FRAME_MIN_SIZE, RawProperties, ReplyCode, WireError};

pub use crate::constants::{FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD};

/// What a client sends first: AMQP 0-9-1.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// Octets of a frame around its payload.
pub const FRAME_OVERHEAD: usize = 8;
/// The largest frame before tune-ok has set a limit, in octets.
pub const INITIAL_FRAME_MAX: u32 = FRAME_MIN_SIZE;
/// The limit that stands in for 0 ("no limit") in octets: nobody may announce a frame of 4 GiB.
pub const DEFAULT_FRAME_MAX: u32 = 131_072;

/// Octets of a frame before its payload.
const FRAME_HEADER_BYTES: usize = 7;
/// Octets that a method which announces a content seldom exceeds.
const METHOD_BYTES: usize = 64;
/// How far a payload may exceed `frame_max - 8`.
const FRAME_SIZE_FUDGE: u32 = 8;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A method.
    Method,
    /// Class, body size and properties of a content.
    Header,
    /// A piece of a content's body.
    Body,
    /// A sign of life.
    Heartbeat,
}

impl FrameKind {
    /// The kind with this octet, if there is one.
    pub fn from_octet(kind: u8) -> Option<FrameKind> {
        match kind {
            FRAME_METHOD => Some(FrameKind::Method),
            FRAME_HEADER => Some(FrameKind::Header),
            FRAME_BODY => Some(FrameKind::Body),
            FRAME_HEARTBEAT => Some(FrameKind::Heartbeat),
            _ => None,
        }
    }
}

/// A frame in the read buffer. Its kind is not checked: whether it is expected depends on the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// The kind octet; see [`FrameKind::from_octet`].
    pub kind: u8,
    /// The channel, 0 for the connection itself.
    pub channel: u16,
    /// What is between the header and the end octet.
    pub payload: &'a [u8],
}

impl RawFrame<'_> {
    /// 501 for a frame of unknown kind, a method frame without ids, a header frame without a size or
    /// a heartbeat with a payload.
    pub fn unknown(&self) -> WireError {
        WireError::new(ReplyCode::FRAME_ERROR, format!("{}: unknown_frame", self.quote()))
    }

    /// 505 for a frame that has no place on its channel, e.g. a heartbeat on a channel other than 0.
    pub fn unexpected(&self) -> WireError {
        WireError::new(ReplyCode::UNEXPECTED_FRAME, self.quote())
    }

    fn quote(&self) -> String {
        format!("type {}, {}", self.kind, payload_snippet(self.payload))
    }
}

/// Takes the first frame off `buf`: the frame and how many octets it takes, or `None` while it is
/// incomplete. At most `frame_max + 8` octets are ever needed to decide; 0 means [`DEFAULT_FRAME_MAX`].
///
/// # Errors
/// 501 if the frame is too large, which the first seven octets tell, or does not end in 0xCE. Where
/// the next frame starts is then unknown: read no further.
#[inline]
pub fn split_frame(buf: &[u8], frame_max: u32) -> Result<Option<(RawFrame<'_>, usize)>, WireError> {
    let Some((&[kind, c0, c1, s0, s1, s2, s3], rest)) = buf.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let size_bytes = u32::from_be_bytes([s0, s1, s2, s3]);
    let limit = payload_max(frame_max);
    if size_bytes > limit.saturating_add(FRAME_SIZE_FUDGE) {
        return Err(too_large(kind, size_bytes, limit));
    }
    let size_bytes = size_bytes as usize;
    let Some(&end) = rest.get(size_bytes) else {
        return Ok(None);
    };
    let frame = RawFrame { kind, channel: u16::from_be_bytes([c0, c1]), payload: &rest[..size_bytes] };
    if end != FRAME_END {
        return Err(bad_end(frame, end));
    }
    Ok(Some((frame, size_bytes + FRAME_OVERHEAD)))
}

/// Appends a whole method frame.
///
/// # Errors
/// A value has no form on the wire; `out` is then unchanged.
pub fn write_method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) -> Result<(), EncodeError> {
    all_or_nothing(out, |out| write_frame(out, FRAME_METHOD, channel, |out| method.encode(out)))
}

/// Appends a method frame, a header frame and as many body frames as `frame_max` (in octets, 0 for
/// [`DEFAULT_FRAME_MAX`]) asks for: none if the body is empty.
///
/// # Errors
/// A value has no form on the wire; `out` is then unchanged.
pub fn write_content(
    out: &mut Vec<u8>,
    channel: u16,
    method: &Method<'_>,
    properties: RawProperties<'_>,
    body: &[u8],
    frame_max: u32,
) -> Result<(), EncodeError> {
    out.reserve(METHOD_BYTES + properties.as_bytes().len() + body.len() + 3 * FRAME_OVERHEAD + 12);
    write_method(out, channel, method)?;
    write_header(out, channel, method.class_id(), properties, body.len());
    write_body(out, channel, body, frame_max);
    Ok(())
}

/// Appends basic.deliver with its content: the hot path of a broker.
///
/// All strings must be valid short strings. One above 255 octets (impossible if it was ever received)
/// is cut at a character boundary, so that the frame stays sound.
#[allow(clippy::too_many_arguments)] // the arguments of basic.deliver plus a content: no struct to build per message
pub fn write_deliver(
    out: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &str,
    delivery_tag: u64,
    redelivered: bool,
    exchange: &str,
    routing_key: &str,
    properties: RawProperties<'_>,
    body: &[u8],
    frame_max: u32,
) {
    let [consumer_tag, exchange, routing_key] = [consumer_tag, exchange, routing_key].map(short_prefix);
    let method_bytes = 4 + 1 + consumer_tag.len() + 8 + 1 + 1 + exchange.len() + 1 + routing_key.len();
    out.reserve(method_bytes + properties.as_bytes().len() + body.len() + 3 * FRAME_OVERHEAD + 12);
    write_frame_header(out, FRAME_METHOD, channel, method_bytes);
    out.extend_from_slice(&[0, 60, 0, 60]);
    push_short(out, consumer_tag);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.push(u8::from(redelivered));
    push_short(out, exchange);
    push_short(out, routing_key);
    out.push(FRAME_END);
    write_header(out, channel, 60, properties, body.len());
    write_body(out, channel, body, frame_max);
}

/// Appends basic.ack.
pub fn write_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    write_frame_header(out, FRAME_METHOD, channel, 13);
    out.extend_from_slice(&[0, 60, 0, 80]);
    out.extend_from_slice(&delivery_tag.to_be_bytes());
    out.extend_from_slice(&[u8::from(multiple), FRAME_END]);
}

/// Appends a heartbeat.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[FRAME_HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

fn write_header(
    out: &mut Vec<u8>,
    channel: u16,
    class_id: u16,
    properties: RawProperties<'_>,
    body_bytes: usize,
) {
    let properties = properties.as_bytes();
    write_frame_header(out, FRAME_HEADER, channel, 12 + properties.len());
    out.extend_from_slice(&class_id.to_be_bytes());
    out.extend_from_slice(&[0, 0]); // weight: unused, must be 0
    out.extend_from_slice(&(body_bytes as u64).to_be_bytes());
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

fn write_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    let chunk_bytes = payload_max(frame_max).max(1) as usize;
    for chunk in body.chunks(chunk_bytes) {
        write_frame_header(out, FRAME_BODY, channel, chunk.len());
        out.extend_from_slice(chunk);
        out.push(FRAME_END);
    }
}

/// Appends a frame whose payload is what `write` appends.
fn write_frame(
    out: &mut Vec<u8>,
    kind: u8,
    channel: u16,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    write_frame_header(out, kind, channel, 0);
    write(out)?;
    let payload_start = start + FRAME_HEADER_BYTES;
    let size = size_u32(out.len() - payload_start)?;
    out[payload_start - 4..payload_start].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
    Ok(())
}

fn write_frame_header(out: &mut Vec<u8>, kind: u8, channel: u16, payload_bytes: usize) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (payload_bytes as u32).to_be_bytes();
    out.extend_from_slice(&[kind, c0, c1, s0, s1, s2, s3]);
}

/// The largest payload under `frame_max`.
fn payload_max(frame_max: u32) -> u32 {
    let frame_max = if frame_max == 0 { DEFAULT_FRAME_MAX } else { frame_max };
    frame_max.saturating_sub(FRAME_OVERHEAD as u32)
}

fn short_prefix(text: &str) -> &str {
    &text[..text.floor_char_boundary(255)]
}

fn push_short(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

#[cold]
fn too_large(kind: u8, size_bytes: u32, limit: u32) -> WireError {
    let text = format!("type {kind}, all octets = <<>>: {{frame_too_large,{size_bytes},{limit}}}");
    WireError::new(ReplyCode::FRAME_ERROR, text)
}

#[cold]
fn bad_end(frame: RawFrame<'_>, end: u8) -> WireError {
    let text = format!("{}: {{invalid_frame_end_marker,{end}}}", frame.quote());
    WireError::new(ReplyCode::FRAME_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{BasicAck, BasicDeliver, QueueDeclare};

    fn check_split(buf: &[u8], frame_max: u32, expected: Result<Option<usize>, &str>) {
        let found = split_frame(buf, frame_max).map(|frame| frame.map(|(_, size_bytes)| size_bytes));
        assert_eq!(found.map_err(|error| error.text), expected.map_err(Into::into));
    }

    #[test]
    fn an_incomplete_frame_is_not_yet_a_frame() {
        let frame = b"\x01\0\x05\0\0\0\x02ab\xce";
        for end in 0..frame.len() {
            check_split(&frame[..end], 8192, Ok(None));
        }
        check_split(frame, 8192, Ok(Some(10)));
        let (frame, _) = split_frame(frame, 8192).unwrap().unwrap();
        assert_eq!(frame, RawFrame { kind: 1, channel: 5, payload: b"ab" });
    }

    #[test]
    fn size_is_judged_by_the_first_seven_octets() {
        check_split(b"\x03\0\x01\0\0\x20\0", 8192, Ok(None));
        let text = "type 3, all octets = <<>>: {frame_too_large,8193,8184}";
        check_split(b"\x03\0\x01\0\0\x20\x01", 8192, Err(text));
        let text = "type 1, all octets = <<>>: {frame_too_large,4294967295,131064}";
        check_split(b"\x01\0\0\xff\xff\xff\xff", 0, Err(text));
        check_split(b"\x01\0\0\xff\xff\xff\xfe", u32::MAX, Ok(None));
        check_split(b"\x01\0\0\0\0\0\x01", 1, Ok(None));
    }

    #[test]
    fn the_end_octet_is_checked() {
        let text = "type 8, all octets = <<>>: {invalid_frame_end_marker,205}";
        check_split(b"\x08\0\0\0\0\0\0\xcd", 8192, Err(text));
    }

    #[test]
    fn the_fast_writers_write_what_the_general_ones_do() {
        let body = [7; 20_000];
        let properties = RawProperties::parse(&[0x10, 0, 2]).unwrap();
        let deliver = BasicDeliver {
            consumer_tag: "tag",
            delivery_tag: 1 << 40,
            redelivered: true,
            exchange: "amq.topic",
            routing_key: "news.ohio",
        };
        let (mut fast, mut general) = (Vec::new(), Vec::new());
        write_deliver(&mut fast, 9, "tag", 1 << 40, true, "amq.topic", "news.ohio", properties, &body, 8192);
        write_content(&mut general, 9, &deliver.into(), properties, &body, 8192).unwrap();
        assert_eq!(fast, general);
        let (mut fast, mut general) = (Vec::new(), Vec::new());
        write_ack(&mut fast, 9, 77, true);
        let ack = BasicAck { delivery_tag: 77, multiple: true };
        write_method(&mut general, 9, &ack.into()).unwrap();
        assert_eq!(fast, general);
    }

    #[test]
    fn a_body_fills_its_frames() {
        for (body_bytes, frames) in [(0, 0), (1, 1), (4088, 1), (4089, 2), (8176, 2)] {
            let mut out = Vec::new();
            write_body(&mut out, 1, &vec![0; body_bytes], 4096);
            assert_eq!(out.len(), body_bytes + frames * FRAME_OVERHEAD);
        }
    }

    #[test]
    fn a_refused_method_leaves_nothing_behind() {
        let mut out = vec![7];
        let name = "q".repeat(256);
        let declare = QueueDeclare { queue: &name, ..QueueDeclare::default() };
        let refused = write_method(&mut out, 1, &declare.into());
        assert_eq!(refused, Err(EncodeError::ShortStringTooLong { size_bytes: 256 }));
        let refused = write_content(&mut out, 1, &declare.into(), RawProperties::default(), b"x", 4096);
        assert!(refused.is_err() && out == [7]);
    }

    #[test]
    fn an_impossible_name_does_not_break_the_frame() {
        let mut out = Vec::new();
        let name = "\u{e4}".repeat(200);
        write_deliver(&mut out, 1, "t", 1, false, "", &name, RawProperties::default(), b"x", 4096);
        let (frame, _) = split_frame(&out, 4096).unwrap().unwrap();
        let Method::BasicDeliver(deliver) = Method::decode(frame.payload).unwrap() else { panic!() };
        assert_eq!(deliver.routing_key, "\u{e4}".repeat(127));
    }
}
