//! Contents: a method that carries a message is followed by a header frame and body frames.
//!
//! ```text
//!  method frame (basic.publish)
//!       │ Assembler::start
//!       ▼
//!  expects a header ──header: size 0──────────────▶ Done(Content)
//!       │ header: size > 0                            ▲
//!       ▼                                             │ body: nothing left
//!  expects bodies, `left` octets ──body──────────────┘
//!       ▲                          │ body: some left
//!       └──────────────────────────┘
//! ```
//!
//! An [`Assembler`] is the state in the drawing; every frame consumes it. Any other frame on the
//! channel in between is an error ([`Assembler::unexpected`]). A body never exceeds its announced size,
//! and memory grows with what has come, not with what was announced.

use crate::reader::{Reader, Truncated};
use crate::{FRAME_BODY, FRAME_HEADER, RawFrame, RawProperties, ReplyCode, WireError, split_frame};

/// The most octets to reserve on the word of the peer.
const FIRST_RESERVE_MAX_BYTES: u64 = 64 * 1024;

/// What a header frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method the content belongs to.
    pub class_id: u16,
    /// How many octets of body follow.
    pub body_size: u64,
    /// The properties, checked.
    pub properties: RawProperties<'a>,
}

/// Decodes the payload of a header frame, properties included.
///
/// # Errors
/// 501 if it is too short; 505 if the weight (an unused field) is not 0; 502 for unsound properties.
#[inline]
pub fn parse_header(payload: &[u8]) -> Result<ContentHeader<'_>, WireError> {
    let header = split_header(payload)?;
    RawProperties::parse(header.properties.as_bytes())
        .map_err(|error| error.with_method(header.class_id, 0))
        .map(|properties| ContentHeader { properties, ..header })
}

/// A complete content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<M> {
    /// What was given to [`Assembler::start`].
    pub method: M,
    /// Flags and values as received: see [`RawProperties::from_validated`].
    pub properties: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl<M> Content<M> {
    /// The properties.
    pub fn properties(&self) -> RawProperties<'_> {
        RawProperties::from_validated(&self.properties)
    }
}

/// A content of which some frames are missing. `M` is what the caller wants back with it.
#[derive(Debug)]
pub struct Assembler<M> {
    method: M,
    class_id: u16,
    method_id: u16,
    lenient: bool,
    expects: Expects,
}

#[derive(Debug)]
enum Expects {
    Header,
    Body { left: u64, properties: Vec<u8>, body: Vec<u8> },
}

/// What a frame made of an [`Assembler`].
#[derive(Debug)]
pub enum Progress<M> {
    /// More frames are needed.
    More(Assembler<M>),
    /// That was the last one.
    Done(Content<M>),
}

impl<M> Assembler<M> {
    /// The state after the method frame.
    pub fn start(method: M, class_id: u16) -> Assembler<M> {
        Assembler { method, class_id, method_id: 0, lenient: false, expects: Expects::Header }
    }

    /// Names the method for the errors, which otherwise carry only the class.
    #[must_use]
    pub fn of_method(self, method_id: u16) -> Assembler<M> {
        Assembler { method_id, ..self }
    }

    /// Accepts properties that do not decode, for a client: the message of a hostile publisher must be
    /// rejected as a message, not end the consumer's connection over and over. What does not decode is
    /// `None` in [`Content::properties`].
    #[must_use]
    pub fn lenient(self) -> Assembler<M> {
        Assembler { lenient: true, ..self }
    }

    /// Takes the payload of a header frame. `max_body` is the largest body to accept, in octets.
    ///
    /// # Errors
    /// As [`parse_header`], and
    /// - 505 if bodies were expected or the header is of another class,
    /// - 501 `content body size N exceeds maximum allowed size M`.
    pub fn header(self, payload: &[u8], max_body: u64) -> Result<Progress<M>, WireError> {
        if let Expects::Body { .. } = self.expects {
            return Err(self.unexpected());
        }
        let blame = |error: WireError| error.with_method(self.class_id, self.method_id);
        let parse = if self.lenient { split_header } else { parse_header };
        // RabbitMQ blames no method for octets that are no header at all.
        let header =
            parse(payload).map_err(|error| if error.class_id == 0 { error } else { blame(error) })?;
        if header.class_id != self.class_id {
            return Err(blame(wrong_class(self.class_id, header.class_id)));
        }
        check_body_size(header.body_size, max_body).map_err(blame)?;
        let properties = header.properties.as_bytes().to_vec();
        let body = Vec::with_capacity(header.body_size.min(FIRST_RESERVE_MAX_BYTES) as usize);
        Ok(self.with_body(header.body_size, properties, body))
    }

    /// Takes the payload of a body frame.
    ///
    /// # Errors
    /// 505 if a header was expected; 501 `content body frame exceeds remaining content size`.
    pub fn body(self, payload: &[u8]) -> Result<Progress<M>, WireError> {
        let (class_id, method_id) = (self.class_id, self.method_id);
        let Assembler { expects: Expects::Body { left, properties, mut body }, .. } = self else {
            return Err(self.unexpected());
        };
        check_body_frame(payload, left).map_err(|error| error.with_method(class_id, method_id))?;
        body.extend_from_slice(payload);
        let rest = Assembler { expects: Expects::Header, ..self };
        Ok(rest.with_body(left.saturating_sub(payload.len() as u64), properties, body))
    }

    /// 505 for any frame that is not the one expected here.
    pub fn unexpected(&self) -> WireError {
        let error = match self.expects {
            Expects::Header => expected_header(self.class_id),
            Expects::Body { .. } => expected_body(),
        };
        error.with_method(self.class_id, self.method_id)
    }

    fn with_body(self, left: u64, properties: Vec<u8>, body: Vec<u8>) -> Progress<M> {
        if left == 0 {
            return Progress::Done(Content { method: self.method, properties, body });
        }
        Progress::More(Assembler { expects: Expects::Body { left, properties, body }, ..self })
    }
}

/// Takes a whole content off `buf`, which starts right after the method frame, without copying: the
/// header, the body, and how many octets they take.
///
/// `None` unless header and body (in one frame, or empty) are all there, on that channel and of that
/// class, and nothing is irregular. The caller then takes the frames one by one through an
/// [`Assembler`], which waits or names the error.
#[inline]
pub fn whole_content(
    buf: &[u8],
    channel: u16,
    class_id: u16,
    frame_max: u32,
    max_body: u64,
) -> Option<(ContentHeader<'_>, &[u8], usize)> {
    let (frame, header_bytes) = split_frame(buf, frame_max).ok()??;
    if frame.kind != FRAME_HEADER || frame.channel != channel {
        return None;
    }
    let header = parse_header(frame.payload).ok()?;
    if header.class_id != class_id || header.body_size > max_body {
        return None;
    }
    if header.body_size == 0 {
        return Some((header, &[], header_bytes));
    }
    let (frame, body_bytes) = split_frame(&buf[header_bytes..], frame_max).ok()??;
    let is_whole = frame.payload.len() as u64 == header.body_size;
    let is_body = frame.kind == FRAME_BODY && frame.channel == channel;
    (is_body && is_whole).then_some((header, frame.payload, header_bytes + body_bytes))
}

/// 505 for a content frame (header or body) where a method was expected.
pub fn expected_method() -> WireError {
    let text = "expected method frame, got non method frame instead";
    WireError::new(ReplyCode::UNEXPECTED_FRAME, text)
}

/// 505 for another frame where the header of a content was expected.
pub fn expected_header(class_id: u16) -> WireError {
    let text = format!("expected content header for class {class_id}, got non content header frame instead");
    WireError::new(ReplyCode::UNEXPECTED_FRAME, text).with_method(class_id, 0)
}

/// 505 for another frame where the body of a content was expected.
pub fn expected_body() -> WireError {
    let text = "expected content body, got non content body frame instead";
    WireError::new(ReplyCode::UNEXPECTED_FRAME, text)
}

/// Cuts a header's payload into its parts without looking at the properties.
#[inline]
fn split_header(payload: &[u8]) -> Result<ContentHeader<'_>, WireError> {
    let mut reader = Reader::new(payload);
    let Ok((class_id, weight, body_size)) = header_fields(&mut reader) else {
        return Err(RawFrame { kind: FRAME_HEADER, channel: 0, payload }.unknown());
    };
    if weight != 0 {
        return Err(expected_header(class_id));
    }
    Ok(ContentHeader { class_id, body_size, properties: RawProperties::from_validated(reader.rest()) })
}

#[inline]
fn header_fields(reader: &mut Reader<'_>) -> Result<(u16, u16, u64), Truncated> {
    Ok((reader.short()?, reader.short()?, reader.longlong()?))
}

#[cold]
fn wrong_class(expected: u16, got: u16) -> WireError {
    let text = format!("expected content header for class {expected}, got one for class {got} instead");
    WireError::new(ReplyCode::UNEXPECTED_FRAME, text)
}

/// What is announced, before any of it is there.
#[rustfmt::skip] // one line each: the mutation check removes it
fn check_body_size(body_bytes: u64, max_bytes: u64) -> Result<(), WireError> {
    if body_bytes > max_bytes { return Err(too_large(body_bytes, max_bytes)); } // mutation: body-size
    Ok(())
}

/// What comes, against what is left of what was announced.
#[rustfmt::skip] // one line each: the mutation check removes it
fn check_body_frame(payload: &[u8], left_bytes: u64) -> Result<(), WireError> {
    if payload.len() as u64 > left_bytes { return Err(overlong()); } // mutation: body-frame
    Ok(())
}

#[cold]
fn overlong() -> WireError {
    WireError::new(ReplyCode::FRAME_ERROR, "content body frame exceeds remaining content size")
}

#[cold]
fn too_large(body_bytes: u64, max_bytes: u64) -> WireError {
    let text = format!("content body size {body_bytes} exceeds maximum allowed size {max_bytes}");
    WireError::new(ReplyCode::FRAME_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::write_content;
    use crate::method::BasicPublish;

    /// What is fed to an assembler.
    enum Feed {
        Header(u16, u16, u64, &'static [u8]),
        Body(&'static [u8]),
    }
    use Feed::{Body, Header};

    fn header_payload(class_id: u16, weight: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
        let ids = [class_id.to_be_bytes(), weight.to_be_bytes()].concat();
        [&ids, &body_size.to_be_bytes()[..], properties].concat()
    }

    fn feed(assembler: Assembler<()>, frames: &[Feed]) -> Result<Progress<()>, WireError> {
        let mut progress = Progress::More(assembler);
        for frame in frames {
            let Progress::More(assembler) = progress else { panic!("done before the last frame") };
            progress = match frame {
                &Header(class_id, weight, body_size, properties) => {
                    assembler.header(&header_payload(class_id, weight, body_size, properties), 1000)?
                }
                Body(payload) => assembler.body(payload)?,
            };
        }
        Ok(progress)
    }

    fn check_done(frames: &[Feed], properties: &[u8], body: &[u8]) {
        let Ok(Progress::Done(content)) = feed(Assembler::start((), 60), frames) else { panic!("not done") };
        assert_eq!((content.properties.as_slice(), content.body.as_slice()), (properties, body));
    }

    fn check_refused(frames: &[Feed], code: ReplyCode, text: &str) {
        let error = feed(Assembler::start((), 60).of_method(40), frames).unwrap_err();
        assert_eq!((error.code, error.text.as_ref()), (code, text));
        assert_eq!((error.class_id, error.method_id), (60, 40));
    }

    const NONE: &[u8] = &[0, 0];

    #[test]
    fn contents_are_assembled() {
        check_done(&[Header(60, 0, 0, NONE)], NONE, b"");
        check_done(&[Header(60, 0, 3, &[0x10, 0, 2]), Body(b"abc")], &[0x10, 0, 2], b"abc");
        check_done(&[Header(60, 0, 3, NONE), Body(b"a"), Body(b""), Body(b"bc")], NONE, b"abc");
    }

    #[test]
    fn irregular_frames_are_refused_in_rabbitmqs_words() {
        let unexpected = ReplyCode::UNEXPECTED_FRAME;
        let no_header = "expected content header for class 60, got non content header frame instead";
        let no_body = "expected content body, got non content body frame instead";
        check_refused(&[Body(b"a")], unexpected, no_header);
        check_refused(&[Header(60, 1, 1, NONE)], unexpected, no_header);
        let other = "expected content header for class 60, got one for class 10 instead";
        check_refused(&[Header(10, 0, 1, NONE)], unexpected, other);
        check_refused(&[Header(60, 0, 1, NONE), Header(60, 0, 1, NONE)], unexpected, no_body);
        let too_long = "content body frame exceeds remaining content size";
        check_refused(&[Header(60, 0, 1, NONE), Body(b"ab")], ReplyCode::FRAME_ERROR, too_long);
        let too_large = "content body size 1001 exceeds maximum allowed size 1000";
        check_refused(&[Header(60, 0, 1001, NONE)], ReplyCode::FRAME_ERROR, too_large);
        let two_words = "content properties have more than one word of flags";
        check_refused(&[Header(60, 0, 1, &[0, 1])], ReplyCode::SYNTAX_ERROR, two_words);
    }

    #[test]
    fn a_lenient_assembler_passes_unsound_properties_on() {
        let assembler = Assembler::start((), 60).lenient();
        let Ok(Progress::Done(content)) = feed(assembler, &[Header(60, 0, 0, &[0xff, 0xff, 9])]) else {
            panic!("not done")
        };
        assert_eq!(content.properties().content_type(), None);
        assert_eq!(content.properties, [0xff, 0xff, 9]);
    }

    #[test]
    fn an_announced_size_reserves_little() {
        let payload = header_payload(60, 0, u64::MAX, NONE);
        let Ok(Progress::More(assembler)) = Assembler::start((), 60).header(&payload, u64::MAX) else {
            panic!("not started")
        };
        let Expects::Body { left, body, .. } = &assembler.expects else { panic!("expects a header") };
        assert_eq!((*left, body.capacity()), (u64::MAX, 64 * 1024));
    }

    fn published(body: &[u8], frame_max: u32) -> Vec<u8> {
        let (mut method, mut all) = (Vec::new(), Vec::new());
        let publish = BasicPublish { routing_key: "q", ..BasicPublish::default() }.into();
        crate::write_method(&mut method, 5, &publish).unwrap();
        write_content(&mut all, 5, &publish, RawProperties::default(), body, frame_max).unwrap();
        all.split_off(method.len())
    }

    #[test]
    fn a_whole_content_is_taken_only_when_regular() {
        for body in [&b""[..], b"abc"] {
            let mut frames = published(body, 4096);
            let size_bytes = frames.len();
            frames.extend_from_slice(b"next");
            let (header, found, used) = whole_content(&frames, 5, 60, 4096, 3).unwrap();
            assert_eq!((found, used, header.body_size), (body, size_bytes, body.len() as u64));
            for end in 0..size_bytes {
                assert_eq!(whole_content(&frames[..end], 5, 60, 4096, 3), None);
            }
            assert_eq!(whole_content(&frames, 6, 60, 4096, 3), None);
            assert_eq!(whole_content(&frames, 5, 50, 4096, 3), None);
        }
        assert_eq!(whole_content(&published(b"abc", 4096), 5, 60, 4096, 2), None);
        assert_eq!(whole_content(&published(&[0; 5000], 4096), 5, 60, 4096, 9000), None);
    }
}
