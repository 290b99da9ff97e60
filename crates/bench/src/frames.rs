//! The few AMQP frames a load generator needs, written and read by hand.
//!
//! On purpose no code of the broker: what measures must not share a mistake with what is measured, nor pay for
//! generality. Whole batches of publishes are encoded once and only numbered again before each write; of
//! what comes back, headers are looked at and bodies skipped.
//!
//! ```text
//!  frame    kind:1 | channel:2 | size:4 | payload | 0xCE
//!  content  method frame, header frame (class:2 | 0:2 | body size:8 | flags:2 | properties), body frame
//! ```

use crate::transport::Transport;
use crate::{Error, Result};
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Frame of a method.
pub const METHOD: u8 = 1;
/// Frame of a content header.
pub const HEADER: u8 = 2;
/// Frame of a part of a body.
pub const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
/// Bytes before the payload.
const FRAME_HEAD: usize = 7;
/// What we ask for in tune-ok; both peers offer it.
pub const FRAME_MAX: u32 = 131_072;
const READ_BUFFER_BYTES: usize = 4 * FRAME_MAX as usize;

/// A server that owes something and sends nothing for so long has lost it.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The channel everything here uses.
pub const CHANNEL: u16 = 1;

/// Class and method number.
pub type MethodId = (u16, u16);

/// The methods by their names in AMQP 0-9-1.
#[allow(missing_docs)]
pub mod id {
    use super::MethodId;
    pub const CONNECTION_START: MethodId = (10, 10);
    pub const CONNECTION_START_OK: MethodId = (10, 11);
    pub const CONNECTION_TUNE: MethodId = (10, 30);
    pub const CONNECTION_TUNE_OK: MethodId = (10, 31);
    pub const CONNECTION_OPEN: MethodId = (10, 40);
    pub const CONNECTION_OPEN_OK: MethodId = (10, 41);
    pub const CONNECTION_CLOSE: MethodId = (10, 50);
    pub const CONNECTION_CLOSE_OK: MethodId = (10, 51);
    pub const CHANNEL_OPEN: MethodId = (20, 10);
    pub const CHANNEL_OPEN_OK: MethodId = (20, 11);
    pub const CHANNEL_CLOSE: MethodId = (20, 40);
    pub const QUEUE_DECLARE: MethodId = (50, 10);
    pub const QUEUE_DECLARE_OK: MethodId = (50, 11);
    pub const QUEUE_BIND: MethodId = (50, 20);
    pub const QUEUE_BIND_OK: MethodId = (50, 21);
    pub const QUEUE_DELETE: MethodId = (50, 40);
    pub const QUEUE_DELETE_OK: MethodId = (50, 41);
    pub const CHANNEL_CLOSE_OK: MethodId = (20, 41);
    pub const EXCHANGE_DECLARE: MethodId = (40, 10);
    pub const EXCHANGE_DECLARE_OK: MethodId = (40, 11);
    pub const EXCHANGE_DELETE: MethodId = (40, 20);
    pub const EXCHANGE_DELETE_OK: MethodId = (40, 21);
    pub const BASIC_RETURN: MethodId = (60, 50);
    pub const BASIC_CANCEL: MethodId = (60, 30);
    pub const BASIC_NACK: MethodId = (60, 120);
    pub const BASIC_QOS: MethodId = (60, 10);
    pub const BASIC_QOS_OK: MethodId = (60, 11);
    pub const BASIC_CONSUME: MethodId = (60, 20);
    pub const BASIC_CONSUME_OK: MethodId = (60, 21);
    pub const BASIC_PUBLISH: MethodId = (60, 40);
    pub const BASIC_DELIVER: MethodId = (60, 60);
    pub const BASIC_ACK: MethodId = (60, 80);
    pub const CONFIRM_SELECT: MethodId = (85, 10);
    pub const CONFIRM_SELECT_OK: MethodId = (85, 11);
}

/// Property flag of a content header.
pub const HAS_CONTENT_TYPE: u16 = 1 << 15;
/// Property flag of a content header.
pub const HAS_DELIVERY_MODE: u16 = 1 << 12;
/// Property flag of a content header.
pub const HAS_HEADERS: u16 = 1 << 13;
/// Property flag of a content header.
pub const HAS_CORRELATION_ID: u16 = 1 << 10;
/// Property flag of a content header.
pub const HAS_REPLY_TO: u16 = 1 << 9;

/// Appends a method frame; `args` appends its arguments.
pub fn write_method(out: &mut Vec<u8>, channel: u16, id: MethodId, args: impl FnOnce(&mut Vec<u8>)) {
    write_frame(out, METHOD, channel, |out| {
        out.extend(id.0.to_be_bytes());
        out.extend(id.1.to_be_bytes());
        args(out);
    });
}

/// Appends a publish to the default exchange, not mandatory: three frames.
pub fn write_publish(out: &mut Vec<u8>, queue: &[u8], flags: u16, properties: &[u8], body: &[u8]) {
    write_publish_to(out, "", queue, flags, properties, body);
}

/// Appends a publish to any exchange, not mandatory: three frames.
pub fn write_publish_to(
    out: &mut Vec<u8>,
    exchange: &str,
    routing_key: &[u8],
    flags: u16,
    properties: &[u8],
    body: &[u8],
) {
    Publish {
        channel: CHANNEL,
        exchange: exchange.as_bytes(),
        routing_key,
        mandatory: false,
        flags,
        properties,
        body,
        frame_max: FRAME_MAX as usize,
    }
    .write(out);
}

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Channel to publish on.
    pub channel: u16,
    /// At most 255 octets.
    pub exchange: &'a [u8],
    /// At most 255 octets.
    pub routing_key: &'a [u8],
    /// Comes back if no queue takes it.
    pub mandatory: bool,
    /// Which properties there are.
    pub flags: u16,
    /// Those properties, encoded.
    pub properties: &'a [u8],
    /// Cut into as many frames as it takes.
    pub body: &'a [u8],
    /// Octets of a whole frame that the connection agreed on.
    pub frame_max: usize,
}

impl Publish<'_> {
    /// Appends the frames; returns where in `out` the body begins.
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        write_method(out, self.channel, id::BASIC_PUBLISH, |out| {
            out.extend([0, 0]);
            write_short_string(out, self.exchange);
            write_short_string(out, self.routing_key);
            out.push(u8::from(self.mandatory));
        });
        write_frame(out, HEADER, self.channel, |out| {
            out.extend([0, 60, 0, 0]);
            out.extend((self.body.len() as u64).to_be_bytes());
            out.extend(self.flags.to_be_bytes());
            out.extend(self.properties);
        });
        let body_at = out.len() + FRAME_HEAD;
        for part in self.body.chunks(self.frame_max - FRAME_HEAD - 1) {
            write_frame(out, BODY, self.channel, |out| out.extend(part));
        }
        body_at
    }
}

/// Appends an acknowledgement of all up to `delivery_tag`.
pub fn write_ack(out: &mut Vec<u8>, delivery_tag: u64) {
    write_ack_on(out, CHANNEL, delivery_tag);
}

/// The same on any channel.
pub fn write_ack_on(out: &mut Vec<u8>, channel: u16, delivery_tag: u64) {
    write_method(out, channel, id::BASIC_ACK, |out| {
        out.extend(delivery_tag.to_be_bytes());
        out.push(1); // multiple
    });
}

/// `text` has at most 255 bytes: queue names and ids made here or received as short strings.
pub fn write_short_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(u8::try_from(text.len()).expect("short strings of this tool are short"));
    out.extend(text);
}

/// Appends a frame; `payload` appends what is in it.
pub fn write_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    let size_at = out.len();
    out.extend([0; 4]);
    payload(out);
    let size = (out.len() - size_at - 4) as u32;
    out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

/// A frame that is wholly there.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// 0 is the connection.
    pub channel: u16,
    /// [`METHOD`], [`HEADER`], [`BODY`], or 8 for a heartbeat.
    pub kind: u8,
    /// What is between the head and the end mark.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The method's number and arguments, if this is a method frame.
    pub fn method(self) -> Option<(MethodId, &'a [u8])> {
        let (head, args) = self.payload.split_at_checked(4).filter(|_| self.kind == METHOD)?;
        Some(((u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]])), args))
    }
}

/// Reads frames from a socket through one buffer that never grows.
pub struct FrameReader {
    stream: Transport,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    silent_since: Option<Instant>,
}

impl FrameReader {
    /// Reads with the timeout that `stream` has.
    pub fn new(stream: TcpStream) -> FrameReader {
        FrameReader::over(Transport::Plain(stream))
    }

    pub(crate) fn over(stream: Transport) -> FrameReader {
        FrameReader {
            stream,
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(), // zeroed by the kernel, page by page when used
            start: 0,
            end: 0,
            silent_since: None,
        }
    }

    /// The next frame that is wholly in the buffer.
    pub fn next_buffered(&mut self) -> Result<Option<Frame<'_>>> {
        let rest = &self.buffer[self.start..self.end];
        let Some(head) = rest.first_chunk::<FRAME_HEAD>() else { return Ok(None) };
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if size > FRAME_MAX as usize {
            return Err(Error::protocol(format!("a frame of {size} bytes came")));
        }
        let Some(&end_mark) = rest.get(FRAME_HEAD + size) else { return Ok(None) };
        if end_mark != FRAME_END {
            return Err(Error::protocol(format!("a frame ended in {end_mark:#x}")));
        }
        self.start += FRAME_HEAD + size + 1;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        Ok(Some(Frame { channel, kind: head[0], payload: &rest[FRAME_HEAD..FRAME_HEAD + size] }))
    }

    /// One read; false when the socket's timeout passed first.
    pub fn fill(&mut self) -> Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err(Error::Socket("reading", ErrorKind::UnexpectedEof.into())),
            Ok(read) => {
                self.end += read;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(Error::Socket("reading", error)),
        }
    }

    /// Whether a read would bring something, now or before `timeout` has passed. Unlike the socket's own timeout it
    /// is precise.
    ///
    /// # Errors
    /// The socket failed.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        self.stream.wait(timeout).map_err(Error::socket("waiting"))
    }

    /// One read, for callers that are owed something: an error when nothing has come for too long.
    pub fn fill_patiently(&mut self) -> Result<()> {
        if self.fill()? {
            self.silent_since = None;
            return Ok(());
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        if since.elapsed() < SILENCE_MAX { Ok(()) } else { Err(Error::Silence(SILENCE_MAX)) }
    }
}

/// A delivery tag is the first number behind the consumer tag of basic.deliver, or the first of basic.ack.
pub fn delivery_tag(args: &[u8], consumer_tag_first: bool) -> Result<u64> {
    let skip = if consumer_tag_first { 1 + usize::from(*args.first().ok_or_else(too_short)?) } else { 0 };
    let number = args.get(skip..).and_then(|rest| rest.first_chunk()).ok_or_else(too_short)?;
    Ok(u64::from_be_bytes(*number))
}

/// Splits a short string off.
pub fn short_string(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first().ok_or_else(too_short)?;
    rest.split_at_checked(len.into()).ok_or_else(too_short)
}

fn too_short() -> Error {
    Error::protocol("a method is too short")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn what_is_written_is_read_whatever_the_cuts() {
        let mut bytes = Vec::new();
        write_publish(&mut bytes, b"queue", HAS_DELIVERY_MODE, &[2], &[7; 1000]);
        write_ack(&mut bytes, 42);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut reader = FrameReader::new(listener.accept().unwrap().0);
        let mut seen = Vec::new();
        for piece in bytes.chunks(13) {
            sender.write_all(piece).unwrap();
            assert!(reader.fill().unwrap());
            while let Some(frame) = reader.next_buffered().unwrap() {
                seen.push((frame.kind, frame.payload.len(), frame.method().map(|(id, _)| id)));
            }
        }
        let expected = [
            (METHOD, 14, Some(id::BASIC_PUBLISH)),
            (HEADER, 15, None),
            (BODY, 1000, None),
            (METHOD, 13, Some(id::BASIC_ACK)),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn delivery_tags_are_found() {
        let deliver = [&[1, b'c'][..], &9u64.to_be_bytes(), &[0, 0, 0]].concat();
        assert_eq!(delivery_tag(&deliver, true).unwrap(), 9);
        assert_eq!(delivery_tag(&[0, 0, 0, 0, 0, 0, 0, 5, 1], false).unwrap(), 5);
        assert!(delivery_tag(&[200, 0], true).is_err());
    }
}
