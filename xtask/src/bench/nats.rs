//! NATS' text protocol, as little of it as the workloads need, with the same care as the AMQP side: publishes are
//! encoded once in batches and only numbered again before each write, of what comes back heads are looked at and bodies
//! skipped, what one read brought is answered by one write.
//!
//! ```text
//!  PUB subject [reply-to] size CRLF payload CRLF            MSG subject sid [reply-to] size CRLF payload CRLF
//! ```

use super::socket::Socket;
use anyhow::{Context, Result, ensure};
use leveret_bench::load::{Counters, Histogram, NUMBER_BYTES};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A number in a subject, in hexadecimal.
pub(super) const DIGITS: usize = 8;
const SLOTS_PER_CALL: usize = 1024;
/// Numbers of subscriptions: one for answers to questions, the others from here on.
const ASKING: u32 = 1;
const FIRST_SUBSCRIPTION: u32 = 2;

pub(super) struct Connection(Socket);

impl Connection {
    /// Connects; without headers, which cost both sides something that nobody here reads.
    pub(super) fn open(address: SocketAddr) -> Result<Connection> {
        let mut connection = Connection(Socket::connect(address)?);
        connection.cast(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":false}\r\n")?;
        connection.flush()?;
        Ok(connection)
    }

    /// From when this returns on, everything published to `subject` comes here.
    pub(super) fn subscribe(&mut self, subject: &str) -> Result<()> {
        self.subscribe_all(&[subject.to_owned()])
    }

    /// The same for several subjects, which may have wildcards.
    pub(super) fn subscribe_all(&mut self, subjects: &[String]) -> Result<()> {
        let numbered = (FIRST_SUBSCRIPTION..).zip(subjects);
        let lines: String = numbered.map(|(number, subject)| format!("SUB {subject} {number}\r\n")).collect();
        self.cast(lines.as_bytes())?;
        self.flush()
    }

    /// Asks and waits for the answer, which must be the first message that comes.
    pub(super) fn ask(&mut self, subject: &str, body: &str) -> Result<Vec<u8>> {
        let inbox = format!("_INBOX.ask.{}", std::process::id());
        self.cast(format!("SUB {inbox} {ASKING}\r\n").as_bytes())?;
        self.cast(
            format!("PUB {subject} {inbox} {}\r\n{body}\r\nUNSUB {ASKING} 1\r\n", body.len()).as_bytes(),
        )?;
        loop {
            if let Some(Event::Message(message)) = self.next()? {
                return Ok(message.body.to_vec());
            }
            self.0.fill_patiently()?;
        }
    }

    /// Sends all of `bytes`; false when `stop` was set before.
    pub(super) fn send(&mut self, bytes: &[u8], stop: &AtomicBool) -> Result<bool> {
        self.0.send(bytes, stop)
    }

    /// One read, for callers that are owed something.
    pub(super) fn fill_patiently(&mut self) -> Result<()> {
        self.0.fill_patiently()
    }

    /// The next thing that is wholly in the buffer.
    pub(super) fn next(&mut self) -> Result<Option<Event<'_>>> {
        let rest = self.0.rest();
        let Some(line_bytes) = rest.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let line = &rest[..line_bytes];
        if !line.starts_with(b"MSG ") {
            ensure!(!line.starts_with(b"-ERR"), "the server said: {}", String::from_utf8_lossy(line));
            let pong = line.starts_with(b"PONG");
            self.0.take(line_bytes + 1);
            return Ok(Some(if pong { Event::Pong } else { Event::Other }));
        }
        let head = Head::parse(line)?;
        let body = line_bytes + 1..line_bytes + 1 + head.size_bytes;
        let Some(whole) = self.0.take(body.end + 2) else { return Ok(None) };
        Ok(Some(Event::Message(Message {
            subject: &whole[head.subject],
            reply_to: &whole[head.reply_to],
            body: &whole[body],
        })))
    }

    fn cast(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.send(bytes, &AtomicBool::new(false)).map(drop)
    }

    /// Waits until the server has done all that was sent.
    fn flush(&mut self) -> Result<()> {
        self.cast(b"PING\r\n")?;
        loop {
            while let Some(event) = self.next()? {
                if matches!(event, Event::Pong) {
                    return Ok(());
                }
            }
            self.fill_patiently()?;
        }
    }
}

pub(super) enum Event<'a> {
    Message(Message<'a>),
    Pong,
    /// The server's greeting, and its pings: it waits minutes for an answer, longer than a connection lives here.
    Other,
}

pub(super) struct Message<'a> {
    pub(super) subject: &'a [u8],
    /// Empty if no answer is wanted.
    pub(super) reply_to: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Where the parts of a `MSG` line are.
struct Head {
    subject: Range<usize>,
    reply_to: Range<usize>,
    size_bytes: usize,
}

impl Head {
    fn parse(line: &[u8]) -> Result<Head> {
        let line = line.strip_suffix(b"\r").context("a line without carriage return")?;
        let mut ends = [0; 4];
        let mut spaces = 0;
        for (index, _) in line.iter().enumerate().filter(|(_, byte)| **byte == b' ') {
            *ends.get_mut(spaces).context("a strange MSG line")? = index;
            spaces += 1;
        }
        ensure!(spaces >= 3, "a strange MSG line");
        let mut size_bytes: usize = 0;
        for digit in &line[ends[spaces - 1] + 1..] {
            ensure!(digit.is_ascii_digit(), "a strange size");
            size_bytes = size_bytes.saturating_mul(10).saturating_add(usize::from(digit - b'0'));
        }
        let reply_to = if spaces == 4 { ends[2] + 1..ends[3] } else { 0..0 };
        Ok(Head { subject: ends[0] + 1..ends[1], reply_to, size_bytes })
    }
}

/// Publishes of one size to one subject, encoded once.
pub(super) struct Batch {
    bytes: Vec<u8>,
    message_bytes: usize,
    body_at: usize,
    /// Where the number of the reply-to is.
    reply_at: Option<usize>,
}

impl Batch {
    /// `count` messages of `body_bytes` (8 at least).
    pub(super) fn new(subject: &str, body_bytes: usize, count: usize) -> Batch {
        Batch::build(format!("PUB {subject} {body_bytes}\r\n"), None, body_bytes, count)
    }

    /// The same, wanting an answer to `inbox.NUMBER`.
    pub(super) fn with_replies(subject: &str, inbox: &str, body_bytes: usize, count: usize) -> Batch {
        let head = format!("PUB {subject} {inbox}.");
        let reply_at = head.len();
        Batch::build(format!("{head}{:0DIGITS$} {body_bytes}\r\n", 0), Some(reply_at), body_bytes, count)
    }

    fn build(head: String, reply_at: Option<usize>, body_bytes: usize, count: usize) -> Batch {
        let body_at = head.len();
        let mut bytes = head.into_bytes();
        bytes.resize(body_at + body_bytes, b'.');
        bytes.extend(b"\r\n");
        Batch { message_bytes: bytes.len(), bytes: bytes.repeat(count), body_at, reply_at }
    }

    pub(super) fn capacity(&self) -> u64 {
        (self.bytes.len() / self.message_bytes) as u64
    }

    /// The bytes of `count` messages (at most the capacity) with the numbers `first..`.
    pub(super) fn numbered(&mut self, first: u64, count: u64) -> &[u8] {
        let all = &mut self.bytes[..count as usize * self.message_bytes];
        for (number, message) in (first..).zip(all.chunks_exact_mut(self.message_bytes)) {
            message[self.body_at..self.body_at + NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
            if let Some(at) = self.reply_at {
                write_digits(&mut message[at..at + DIGITS], number);
            }
        }
        all
    }
}

fn write_digits(out: &mut [u8], number: u64) {
    for (index, digit) in out.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(number >> (4 * index) & 0xf) as usize];
    }
}

/// The number that a subject ends in.
pub(super) fn number_of(subject: &[u8]) -> Result<u64> {
    let digits = subject.last_chunk::<DIGITS>().context("a subject is too short")?;
    Ok(u64::from_str_radix(std::str::from_utf8(digits)?, 16)?)
}

/// Publishes as fast as the socket takes it, until stopped.
pub(super) fn publish(mut connection: Connection, mut batch: Batch, counters: &Counters) -> Result<()> {
    let count = batch.capacity();
    let mut number = 0;
    while !counters.stopped() && connection.send(batch.numbered(number, count), &counters.stop)? {
        number += count;
        counters.sent.fetch_add(count, Ordering::Relaxed);
    }
    Ok(())
}

/// Consumes until stopped. Any gap in the numbers is an error.
pub(super) fn consume(mut connection: Connection, counters: &Counters) -> Result<()> {
    let mut wanted = 0;
    while !counters.stopped() {
        connection.fill_patiently()?;
        let before = wanted;
        while let Some(event) = connection.next()? {
            if let Event::Message(message) = event {
                check_number(&message, wanted)?;
                wanted += 1;
            }
        }
        counters.received.fetch_add(wanted - before, Ordering::Relaxed);
    }
    Ok(())
}

pub(super) fn check_number(message: &Message<'_>, wanted: u64) -> Result<()> {
    let number = message.body.first_chunk::<NUMBER_BYTES>().context("a body is too short")?;
    let number = u64::from_be_bytes(*number);
    ensure!(number == wanted, "message {number} came instead of {wanted}");
    Ok(())
}

/// Calls until stopped, all answers to one inbox; returns how long they took.
pub(super) fn request(
    mut connection: Connection,
    subject: &str,
    body_bytes: usize,
    in_flight: u32,
    counters: &Counters,
) -> Result<Histogram> {
    let inbox = format!("_INBOX.{}", std::process::id());
    connection.subscribe(&format!("{inbox}.*"))?;
    let mut batch = Batch::with_replies(subject, &inbox, body_bytes, in_flight as usize);
    let mut sent_at = vec![None; in_flight as usize * SLOTS_PER_CALL];
    let slots = sent_at.len() as u64;
    let mut latencies = Histogram::default();
    let (mut next, mut owed) = (0, u64::from(in_flight));
    while !counters.stopped() {
        let now = Instant::now();
        for number in next..next + owed {
            sent_at[(number % slots) as usize] = Some(now);
        }
        if !connection.send(batch.numbered(next, owed), &counters.stop)? {
            return Ok(latencies);
        }
        counters.sent.fetch_add(owed, Ordering::Relaxed);
        next += owed;
        owed = 0;
        connection.fill_patiently()?;
        let (now, recording) = (Instant::now(), counters.is_recording());
        while let Some(event) = connection.next()? {
            let Event::Message(message) = event else { continue };
            let slot = (number_of(message.subject)? % slots) as usize;
            let sent: Instant = sent_at[slot].take().context("an answer came twice")?;
            owed += 1;
            if recording {
                latencies.record(now - sent);
            }
        }
        counters.received.fetch_add(owed, Ordering::Relaxed);
    }
    Ok(latencies)
}

/// Echoes until stopped.
pub(super) fn respond(mut connection: Connection, counters: &Counters) -> Result<()> {
    let mut out = Vec::new();
    while !counters.stopped() {
        connection.0.fill()?;
        while let Some(event) = connection.next()? {
            if let Event::Message(message) = event {
                write_publish(&mut out, message.reply_to, message.body);
            }
        }
        connection.send(&out, &counters.stop)?;
        out.clear();
    }
    Ok(())
}

/// Appends a publish without reply-to.
pub(super) fn write_publish(out: &mut Vec<u8>, subject: &[u8], body: &[u8]) {
    out.extend(b"PUB ");
    out.extend(subject);
    out.push(b' ');
    write_decimal(out, body.len());
    out.extend(b"\r\n");
    out.extend(body);
    out.extend(b"\r\n");
}

fn write_decimal(out: &mut Vec<u8>, mut number: usize) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out[start..].reverse();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    #[test]
    fn messages_are_read_whatever_the_cuts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = Connection(Socket::connect(listener.local_addr().unwrap()).unwrap());
        let mut server = listener.accept().unwrap().0;
        let mut seen = Vec::new();
        let bytes = b"INFO {}\r\nMSG a.b 1 5\r\nhello\r\nPONG\r\nMSG a 12 _INBOX.x.0000002a 0\r\n\r\n";
        for piece in bytes.chunks(5) {
            server.write_all(piece).unwrap();
            connection.fill_patiently().unwrap();
            while let Some(event) = connection.next().unwrap() {
                seen.push(match event {
                    Event::Message(message) => [message.subject, message.reply_to, message.body]
                        .map(String::from_utf8_lossy)
                        .join("|"),
                    Event::Pong => "pong".to_owned(),
                    Event::Other => "other".to_owned(),
                });
            }
        }
        assert_eq!(seen, ["other", "a.b||hello", "pong", "a|_INBOX.x.0000002a|"]);
        assert_eq!(number_of(b"_INBOX.x.0000002a").unwrap(), 42);
        server.write_all(b"-ERR 'Slow Consumer'\r\n").unwrap();
        connection.fill_patiently().unwrap();
        assert!(connection.next().is_err());
    }

    #[test]
    fn batches_are_numbered_in_body_and_reply_to() {
        let mut batch = Batch::with_replies("s", "in", 8, 3);
        let bytes = batch.numbered(41, 2).to_vec();
        let second = &bytes[bytes.len() / 2..];
        assert_eq!(second, b"PUB s in.0000002a 8\r\n\0\0\0\0\0\0\0\x2a\r\n");
        let mut out = Vec::new();
        write_publish(&mut out, b"x", &[b'.'; 120]);
        assert!(out.starts_with(b"PUB x 120\r\n.") && out.len() == 11 + 120 + 2);
    }
}
