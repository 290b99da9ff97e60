//! A blocking connection with one channel: handshake and the calls that set a workload up. The workload then
//! takes the two halves and runs them at full speed.

use crate::frames::{
    CHANNEL, FRAME_MAX, Frame, FrameReader, MethodId, id, short_string, write_method, write_short_string,
};
use crate::{Error, Result};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
const PLAIN_GUEST: &[u8] = b"\0guest\0guest";
/// How often a blocked half looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// One connection, one channel, one thread that owns both halves.
pub struct Connection {
    /// What comes.
    pub reader: FrameReader,
    /// What goes.
    pub writer: Writer,
}

/// The sending half.
pub struct Writer(TcpStream);

impl Writer {
    /// Sends all of `bytes`; false when `stop` was set before.
    pub fn send(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> Result<bool> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(Error::Socket("writing", error)),
            }
        }
        Ok(true)
    }
}

impl Connection {
    /// Connects as guest to the virtual host `/` and opens the channel. No heartbeats.
    pub fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).map_err(Error::socket("connecting"))?;
        let setting = "setting options of the socket";
        stream.set_nodelay(true).map_err(Error::socket(setting))?;
        stream.set_read_timeout(Some(CALL_TIMEOUT)).map_err(Error::socket(setting))?;
        stream.set_write_timeout(Some(STOP_CHECK)).map_err(Error::socket(setting))?;
        let reading = stream.try_clone().map_err(Error::socket(setting))?;
        let mut connection = Connection { reader: FrameReader::new(reading), writer: Writer(stream) };
        connection.handshake()?;
        connection.writer.0.set_read_timeout(Some(STOP_CHECK)).map_err(Error::socket(setting))?;
        Ok(connection)
    }

    fn handshake(&mut self) -> Result<()> {
        self.writer.0.write_all(PROTOCOL_HEADER).map_err(Error::socket("writing"))?;
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
    pub fn declare_queue(&mut self, name: &str, kind: QueueKind) -> Result<Vec<u8>> {
        let answer = self.call(id::QUEUE_DECLARE, id::QUEUE_DECLARE_OK, |out| {
            out.extend([0, 0]);
            write_short_string(out, name.as_bytes());
            out.push(match kind {
                QueueKind::Transient | QueueKind::Bounded { .. } => 0,
                QueueKind::Durable | QueueKind::Quorum | QueueKind::Stream => 0b10,
                QueueKind::Exclusive => 0b100,
            });
            write_table(out, |out| kind.write_arguments(out));
        })?;
        Ok(short_string(&answer)?.0.to_vec())
    }

    /// Binds a queue to an exchange without arguments.
    pub fn bind_queue(&mut self, queue: &[u8], exchange: &str, routing_key: &str) -> Result<()> {
        let args = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            write_short_string(out, queue);
            write_short_string(out, exchange.as_bytes());
            write_short_string(out, routing_key.as_bytes());
            out.push(0);
            write_table(out, |_| {});
        };
        self.call(id::QUEUE_BIND, id::QUEUE_BIND_OK, args).map(drop)
    }

    /// How many messages wait in a queue, which must be there.
    pub fn waiting(&mut self, queue: &str) -> Result<u32> {
        let answer = self.call(id::QUEUE_DECLARE, id::QUEUE_DECLARE_OK, |out| {
            out.extend([0, 0]);
            write_short_string(out, queue.as_bytes());
            out.push(1); // passive
            write_table(out, |_| {});
        })?;
        let count = short_string(&answer)?.1.first_chunk();
        Ok(u32::from_be_bytes(*count.ok_or_else(|| Error::protocol("a declare-ok is too short"))?))
    }

    /// Deletes a queue with all that waits in it; none of that name is fine.
    pub fn delete_queue(&mut self, name: &str) -> Result<()> {
        let args = |out: &mut Vec<u8>| {
            out.extend([0, 0]);
            write_short_string(out, name.as_bytes());
            out.push(0);
        };
        self.call(id::QUEUE_DELETE, id::QUEUE_DELETE_OK, args).map(drop)
    }

    /// From now on every publish is confirmed, numbered from 1.
    pub fn select_confirms(&mut self) -> Result<()> {
        self.call(id::CONFIRM_SELECT, id::CONFIRM_SELECT_OK, |out| out.push(0)).map(drop)
    }

    /// Starts the consumer of this connection.
    pub fn consume(&mut self, queue: &[u8], acks: Acks) -> Result<()> {
        if let Acks::Manual { prefetch } = acks {
            self.limit_prefetch(prefetch)?;
        }
        self.start_consumer(queue, acks, |_| {})
    }

    /// Reads a stream from an offset on.
    pub fn consume_stream(&mut self, stream: &str, first: u64, prefetch: u16) -> Result<()> {
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
    pub fn close(mut self) -> Result<()> {
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
                return Err(Error::protocol(format!("no {wanted:?} came")));
            }
        }
    }
}

/// What is declared, always with a single flag or argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Shared, not durable.
    Transient,
    /// Shared, durable.
    Durable,
    /// Of this connection only.
    Exclusive,
    /// Durable, `x-queue-type: stream`.
    Stream,
    /// Durable, `x-queue-type: quorum`.
    Quorum,
    /// Shared, not durable, `x-max-length`: the oldest message makes room for the newest.
    Bounded {
        /// That wait, at most.
        messages: u32,
    },
}

impl QueueKind {
    fn write_arguments(self, out: &mut Vec<u8>) {
        match self {
            QueueKind::Transient | QueueKind::Durable | QueueKind::Exclusive => {}
            QueueKind::Stream => {
                write_short_string(out, b"x-queue-type");
                out.extend(b"S\x00\x00\x00\x06stream");
            }
            QueueKind::Quorum => {
                write_short_string(out, b"x-queue-type");
                out.extend(b"S\x00\x00\x00\x06quorum");
            }
            QueueKind::Bounded { messages } => {
                write_short_string(out, b"x-max-length");
                out.push(b'l');
                out.extend(i64::from(messages).to_be_bytes());
            }
        }
    }
}

/// How deliveries are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// By being sent: `no-ack`.
    None,
    /// By the consumer.
    Manual {
        /// Deliveries that may be unacknowledged; 0 is without limit.
        prefetch: u16,
    },
}

fn write_table(out: &mut Vec<u8>, entries: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    entries(out);
    let size_bytes = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&size_bytes.to_be_bytes());
}

/// An error if the server closes the channel or the connection, with its reason.
pub fn refuse_close(frame: Frame<'_>) -> Result<()> {
    let Some((id::CHANNEL_CLOSE | id::CONNECTION_CLOSE, args)) = frame.method() else { return Ok(()) };
    let (code, rest) = args.split_first_chunk().ok_or_else(|| Error::protocol("a close is too short"))?;
    let text = String::from_utf8_lossy(short_string(rest)?.0).into_owned();
    Err(Error::Refused(u16::from_be_bytes(*code), text))
}
