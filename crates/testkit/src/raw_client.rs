//! A client that keeps no rules: it sends any bytes and reports what came back.
//!
//! ```text
//!   send(bytes) ──► socket ──► receive(deadline) = Frame | Bytes | Closed | Silence
//! ```
//!
//! It has its own codec (`spec`, `value`, `message`), so it shares no mistake with the broker it tests.

pub mod message;
pub mod spec;
pub mod value;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A frame as it came off the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// 1 method, 2 header, 3 body, 8 heartbeat.
    pub kind: u8,
    /// The channel, 0 for the connection itself.
    pub channel: u16,
    /// Everything between the 7-octet head and the end octet.
    pub payload: Vec<u8>,
}

/// What waiting for the peer ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole frame.
    Frame(Frame),
    /// Octets that cannot start a frame, all that had come: the answer to a wrong protocol header.
    Bytes(Vec<u8>),
    /// The peer closed the connection (orderly or by reset).
    Closed,
    /// Nothing whole came before the deadline.
    Silence,
}

/// One socket to a broker.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
    is_closed: bool,
}

const HEAD_BYTES: usize = 7;
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

impl RawClient {
    /// Opens the socket and nothing more.
    pub fn connect(addr: SocketAddr) -> io::Result<RawClient> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(RawClient { stream, received: Vec::new(), is_closed: false })
    }

    /// Sends bytes as they are. A peer that has closed already is noticed by the next `receive`, not here: a
    /// hostile client does not stop to ask.
    pub fn send(&mut self, bytes: &[u8]) {
        let _the_next_receive_reports_it = self.stream.write_all(bytes);
    }

    /// The next thing the peer does, or `Silence` at the deadline.
    pub fn receive(&mut self, deadline: Instant) -> Received {
        loop {
            if let Some(received) = self.take_received() {
                return received;
            }
            if self.is_closed {
                return Received::Closed;
            }
            if !self.read_more(deadline) {
                return Received::Silence;
            }
        }
    }

    /// False when the deadline passed first.
    fn read_more(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let mut chunk = [0; 65536];
        let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut chunk));
        match read {
            Ok(0) => self.is_closed = true,
            Ok(count) => self.received.extend(&chunk[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_reset) => self.is_closed = true,
        }
        true
    }

    fn take_received(&mut self) -> Option<Received> {
        if self.received.first().is_some_and(|kind| !matches!(kind, 1 | 2 | 3 | 8)) {
            // Eight octets, or less when the peer closed after them.
            let whole = self.received.len() >= 8 || self.is_closed;
            return whole.then(|| Received::Bytes(std::mem::take(&mut self.received)));
        }
        let head: [u8; HEAD_BYTES] = self.received.get(..HEAD_BYTES)?.try_into().ok()?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let payload = self.received.get(HEAD_BYTES..HEAD_BYTES + size)?.to_vec();
        self.received.get(HEAD_BYTES + size)?;
        self.received.drain(..=HEAD_BYTES + size);
        Some(Received::Frame(Frame {
            kind: head[0],
            channel: u16::from_be_bytes([head[1], head[2]]),
            payload,
        }))
    }
}

/// The bytes of a frame, with a correct length and end octet.
pub fn frame_bytes(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    const FRAME_END: u8 = 0xce;
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u32).to_be_bytes());
    out.extend(payload);
    out.push(FRAME_END);
    out
}
