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
        let header = parse(payload).map_err(blame)?;
        if header.class_id != self.class_id {
            return Err(blame(wrong_class(self.class_id, header.class_id)));
        }
        if header.body_size > max_body {
            return Err(blame(too_large(header.body_size, max_body)));
        }
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
        let Some(left) = left.checked_sub(payload.len() as u64) else {
            let text = "content body frame exceeds remaining content size";
            return Err(WireError::new(ReplyCode::FRAME_ERROR, text).with_method(class_id, method_id));
        };
        body.extend_from_slice(payload);
        let rest = Assembler { expects: Expects::Header, ..self };
        Ok(rest.with_body(left, properties, body))
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

#[cold]
fn too_large(body_bytes: u64, max_bytes: u64) -> WireError {
    let text = format!("content body size {body_bytes} exceeds maximum allowed size {max_bytes}");
    WireError::new(ReplyCode::FRAME_ERROR, text)
}
