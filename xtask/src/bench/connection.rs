//! A blocking connection with one channel: handshake and the calls that set a workload up. The workload then
//! takes the two halves and runs them at full speed.

use super::frames::{
    CHANNEL, FRAME_MAX, Frame, FrameReader, MethodId, id, short_string, write_method, write_short_string,
};
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
const PLAIN_GUEST: &[u8] = b"\0guest\0guest";
/// How often a blocked half looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Connection {
    pub(super) reader: FrameReader,
    pub(super) writer: Writer,
}

/// The sending half.
pub(super) struct Writer(TcpStream);

impl Writer {
    /// Sends all of `bytes`; false when `stop` was set before.
    pub(super) fn send(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> Result<bool> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error).context("writing"),
            }
        }
        Ok(true)
    }
}

impl Connection {
    /// Connects as guest to the virtual host `/` and opens the channel. No heartbeats.
    pub(super) fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CALL_TIMEOUT))?;
        stream.set_write_timeout(Some(STOP_CHECK))?;
        let mut connection =
            Connection { reader: FrameReader::new(stream.try_clone()?), writer: Writer(stream) };
        connection.handshake()?;
        connection.writer.0.set_read_timeout(Some(STOP_CHECK))?;
        Ok(connection)
    }

    fn handshake(&mut self) -> Result<()> {
        self.writer.0.write_all(PROTOCOL_HEADER)?;
        self.expect(id::CONNECTION_START)?;
        self.cast(0, id::CONNECTION_START_OK, |out| {
            out.extend([0; 4]); // no client properties: no capabilities, so no consumer cancel notifications either
            write_short_string(out, b"PLAIN");
            out.extend((PLAIN_GUEST.len() as u32).to_be_bytes());
            out.extend(PLAIN_GUEST);
            write_short_string(out, b"en_US");
        })?;
        self.expect(id::CONNECTION_TUNE)?;
        self.cast(0, id::CONNECTION_TUNE_OK, |out| {
            out.extend(2047u16.to_be_bytes());
            out.extend(FRAME_MAX.to_be_bytes());
            out.extend([0, 0]);
        })?;
        self.cast(0, id::CONNECTION_OPEN, |out| {
            write_short_string(out, b"/");
            out.extend([0, 0]);
        })?;
        self.expect(id::CONNECTION_OPEN_OK)?;
        self.call(id::CHANNEL_OPEN, id::CHANNEL_OPEN_OK, |out| out.push(0)).map(drop)
    }

    /// Declares a queue and returns its name, which the server chooses if it is empty.
    pub(super) fn declare_queue(&mut self, name: &str, kind: QueueKind) -> Result<Vec<u8>> {
        let answer = self.call(id::QUEUE_DECLARE, id::QUEUE_DECLARE_OK, |out| {
            out.extend([0, 0]);
            write_short_string(out, name.as_bytes());
            out.push(match kind {
                QueueKind::Transient => 0,
                QueueKind::Durable | QueueKind::Stream => 0b10,
                QueueKind::Exclusive => 0b100,
            });
            write_table(out, |out| {
                if kind == QueueKind::Stream {
                    write_short_string(out, b"x-queue-type");
                    out.extend(b"S\x00\x00\x00\x06stream");
                }
            });
        })?;
        Ok(short_string(&answer)?.0.to_vec())
    }

    pub(super) fn delete_queue(&mut self, name: &str) -> Result<()> {
        let args = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            write_short_string(out, name.as_bytes());
            out.push(0);
        };
        self.call(id::QUEUE_DELETE, id::QUEUE_DELETE_OK, args).map(drop)
    }

    pub(super) fn select_confirms(&mut self) -> Result<()> {
        self.call(id::CONFIRM_SELECT, id::CONFIRM_SELECT_OK, |out| out.push(0)).map(drop)
    }

    pub(super) fn consume(&mut self, queue: &[u8], acks: Acks) -> Result<()> {
        if let Acks::Manual { prefetch } = acks {
            self.limit_prefetch(prefetch)?;
        }
        self.start_consumer(queue, acks, |_| {})
    }

    /// Reads a stream from an offset on.
    pub(super) fn consume_stream(&mut self, stream: &str, first: u64, prefetch: u16) -> Result<()> {
        self.limit_prefetch(prefetch)?;
        self.start_consumer(stream.as_bytes(), Acks::Manual { prefetch }, |out| {
            write_short_string(out, b"x-stream-offset");
            out.push(b'l');
            out.extend(first.to_be_bytes());
        })
    }

    fn limit_prefetch(&mut self, prefetch: u16) -> Result<()> {
        let args = |out: &mut Vec<u8>| {
            out.extend([0; 4]);
            out.extend(prefetch.to_be_bytes());
            out.push(0);
        };
        self.call(id::BASIC_QOS, id::BASIC_QOS_OK, args).map(drop)
    }

    fn start_consumer(
        &mut self,
        queue: &[u8],
        acks: Acks,
        arguments: impl FnOnce(&mut Vec<u8>),
    ) -> Result<()> {
        let args = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            write_short_string(out, queue);
            write_short_string(out, b"bench");
            out.push(if acks == Acks::None { 0b10 } else { 0 });
            write_table(out, arguments);
        };
        self.call(id::BASIC_CONSUME, id::BASIC_CONSUME_OK, args).map(drop)
    }

    /// Says goodbye, skipping whatever is still on its way.
    pub(super) fn close(mut self) -> Result<()> {
        self.cast(0, id::CONNECTION_CLOSE, |out| out.extend([0, 200, 0, 0, 0, 0, 0]))?;
        self.expect(id::CONNECTION_CLOSE_OK).map(drop)
    }

    fn cast(&mut self, channel: u16, id: MethodId, args: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut out = Vec::new();
        write_method(&mut out, channel, id, args);
        self.writer.send(&out, &AtomicBool::new(false)).map(drop)
    }

    fn call(&mut self, id: MethodId, answer: MethodId, args: impl FnOnce(&mut Vec<u8>)) -> Result<Vec<u8>> {
        self.cast(CHANNEL, id, args)?;
        self.expect(answer)
    }

    /// Skips frames up to the wanted method and returns its arguments.
    fn expect(&mut self, wanted: MethodId) -> Result<Vec<u8>> {
        let deadline = std::time::Instant::now() + CALL_TIMEOUT;
        loop {
            while let Some(frame) = self.reader.next_buffered()? {
                match frame.method() {
                    Some((id, args)) if id == wanted => return Ok(args.to_vec()),
                    _ => refuse_close(frame)?,
                }
            }
            if !self.reader.fill()? && std::time::Instant::now() > deadline {
                bail!("no {wanted:?} came");
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueKind {
    Transient,
    Durable,
    Exclusive,
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acks {
    None,
    Manual { prefetch: u16 },
}

fn write_table(out: &mut Vec<u8>, entries: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    entries(out);
    let size_bytes = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&size_bytes.to_be_bytes());
}

/// An error if the server closes the channel or the connection, with its reason.
pub(super) fn refuse_close(frame: Frame<'_>) -> Result<()> {
    let Some((id::CHANNEL_CLOSE | id::CONNECTION_CLOSE, args)) = frame.method() else { return Ok(()) };
    let reason = short_string(args.get(2..).unwrap_or_default())?.0;
    bail!("the server said: {}", String::from_utf8_lossy(reason))
}
