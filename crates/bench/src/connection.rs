//! A blocking connection with one channel: handshake and the calls that set a workload up. The workload then
//! takes the two halves and runs them at full speed.

use crate::frames::{
    CHANNEL, FRAME_MAX, Frame, FrameReader, MethodId, id, short_string, write_method, write_short_string,
};
use crate::target::Target;
use crate::transport::Transport;
use crate::{Error, Result};
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// More than any broker needs to offer.
const CHANNEL_MAX: u16 = 2047;
/// How often a blocked half looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// One connection, one channel, one thread that owns both halves.
pub struct Connection {
    /// What comes.
    pub reader: FrameReader,
    /// What goes.
    pub writer: Writer,
    frame_max: usize,
}

/// The sending half.
pub struct Writer(Transport);

impl Writer {
    /// Sends all of `bytes`; false when `stop` was set before.
    pub fn send(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> Result<bool> {
        loop {
            let written = match bytes {
                [] => self.0.flush().map(|()| 0),
                bytes => self.0.write(bytes),
            };
            match written {
                Ok(_) if bytes.is_empty() => return Ok(true),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if stop.load(Ordering::Relaxed) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(Error::Socket("writing", error)),
            }
        }
    }
}

impl Connection {
    /// Connects as guest to the virtual host `/` and opens channel 1. No heartbeats.
    ///
    /// # Errors
    /// The socket, or the broker refuses.
    pub fn open(address: SocketAddr) -> Result<Connection> {
        Connection::connect(&Target::guest(address))
    }

    /// Connects and opens channel 1. No heartbeats.
    ///
    /// # Errors
    /// The socket, or the broker refuses.
    pub fn connect(target: &Target) -> Result<Connection> {
        let stream = TcpStream::connect(target.address).map_err(Error::socket("connecting"))?;
        let setting = "setting options of the socket";
        stream.set_nodelay(true).map_err(Error::socket(setting))?;
        stream.set_read_timeout(Some(CALL_TIMEOUT)).map_err(Error::socket(setting))?;
        stream.set_write_timeout(Some(STOP_CHECK)).map_err(Error::socket(setting))?;
        let (reading, writing) = Transport::halves(stream, target.tls.as_ref())?;
        let mut connection = Connection {
            reader: FrameReader::over(reading),
            writer: Writer(writing),
            frame_max: FRAME_MAX as usize,
        };
        connection.handshake(target)?;
        connection.writer.0.set_read_timeout(STOP_CHECK).map_err(Error::socket(setting))?;
        Ok(connection)
    }

    fn handshake(&mut self, target: &Target) -> Result<()> {
        self.writer.send(PROTOCOL_HEADER, &AtomicBool::new(false))?;
        self.expect(id::CONNECTION_START)?;
        self.cast(0, id::CONNECTION_START_OK, |out| {
            write_client_properties(out);
            write_short_string(out, b"PLAIN");
            out.extend((target.plain.len() as u32).to_be_bytes());
            out.extend(&target.plain);
            write_short_string(out, b"en_US");
        })?;
        self.tune()?;
        self.cast(0, id::CONNECTION_OPEN, |out| {
            write_short_string(out, target.vhost.as_bytes());
            out.extend([0, 0]);
        })?;
        self.expect(id::CONNECTION_OPEN_OK)?;
        self.open_channel(CHANNEL)
    }

    /// Agrees to what the broker offers, if it is not more than this tool wants; a 0 is an offer without limit.
    fn tune(&mut self) -> Result<()> {
        let offer = self.expect(id::CONNECTION_TUNE)?;
        let Some(&[c1, c0, f3, f2, f1, f0]) = offer.first_chunk() else {
            return Err(Error::protocol("connection.tune is too short"));
        };
        let channel_max = match u16::from_be_bytes([c1, c0]) {
            0 => CHANNEL_MAX,
            offered => offered.min(CHANNEL_MAX),
        };
        let frame_max = match u32::from_be_bytes([f3, f2, f1, f0]) {
            0 => FRAME_MAX,
            offered => offered.min(FRAME_MAX),
        };
        self.frame_max = frame_max as usize;
        self.cast(0, id::CONNECTION_TUNE_OK, |out| {
            out.extend(channel_max.to_be_bytes());
            out.extend(frame_max.to_be_bytes());
            out.extend([0, 0]);
        })
    }

    /// Octets of a whole frame that both sides agreed on.
    pub fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// Opens one more channel; 1 is open from the start.
    ///
    /// # Errors
    /// The broker does not allow so many.
    pub fn open_channel(&mut self, channel: u16) -> Result<()> {
        self.call(channel, id::CHANNEL_OPEN, id::CHANNEL_OPEN_OK, |out| out.push(0)).map(drop)
    }

    /// Closes a channel.
    ///
    /// # Errors
    /// The socket, or the broker refuses.
    pub fn close_channel(&mut self, channel: u16) -> Result<()> {
        let args = |out: &mut Vec<u8>| out.extend([0, 200, 0, 0, 0, 0, 0]);
        self.call(channel, id::CHANNEL_CLOSE, id::CHANNEL_CLOSE_OK, args).map(drop)
    }

    /// Declares a queue and returns its name, which the server chooses if it is empty.
    pub fn declare_queue(&mut self, name: &str, kind: QueueKind) -> Result<Vec<u8>> {
        let answer = self.call(CHANNEL, id::QUEUE_DECLARE, id::QUEUE_DECLARE_OK, |out| {
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
        self.call(CHANNEL, id::QUEUE_BIND, id::QUEUE_BIND_OK, args).map(drop)
    }

    /// How many messages wait in a queue, which must be there.
    pub fn waiting(&mut self, queue: &str) -> Result<u32> {
        let answer = self.call(CHANNEL, id::QUEUE_DECLARE, id::QUEUE_DECLARE_OK, |out| {
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
        self.call(CHANNEL, id::QUEUE_DELETE, id::QUEUE_DELETE_OK, args).map(drop)
    }

    /// From now on every publish is confirmed, numbered from 1.
    pub fn select_confirms(&mut self) -> Result<()> {
        self.select_confirms_on(CHANNEL)
    }

    /// The same for any channel.
    ///
    /// # Errors
    /// The socket, or the broker refuses.
    pub fn select_confirms_on(&mut self, channel: u16) -> Result<()> {
        self.call(channel, id::CONFIRM_SELECT, id::CONFIRM_SELECT_OK, |out| out.push(0)).map(drop)
    }

    /// Starts the consumer of this connection.
    pub fn consume(&mut self, queue: &[u8], acks: Acks) -> Result<()> {
        if let Acks::Manual { prefetch } = acks {
            self.limit_prefetch(CHANNEL, prefetch)?;
        }
        self.start_consumer(CHANNEL, queue, acks, |_| {})
    }

    /// Reads a stream from an offset on.
    pub fn consume_stream(&mut self, stream: &str, first: u64, prefetch: u16) -> Result<()> {
        self.limit_prefetch(CHANNEL, prefetch)?;
        self.start_consumer(CHANNEL, stream.as_bytes(), Acks::Manual { prefetch }, |out| {
            write_short_string(out, b"x-stream-offset");
            out.push(b'l');
            out.extend(first.to_be_bytes());
        })
    }

    /// How many deliveries of `channel` may be unacknowledged, for each consumer to come.
    pub(crate) fn limit_prefetch(&mut self, channel: u16, prefetch: u16) -> Result<()> {
        let args = |out: &mut Vec<u8>| {
            out.extend([0; 4]);
            out.extend(prefetch.to_be_bytes());
            out.push(0);
        };
        self.call(channel, id::BASIC_QOS, id::BASIC_QOS_OK, args).map(drop)
    }

    /// `arguments` appends the entries of a field table.
    pub(crate) fn start_consumer(
        &mut self,
        channel: u16,
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
        self.call(channel, id::BASIC_CONSUME, id::BASIC_CONSUME_OK, args).map(drop)
    }

    /// Says goodbye, skipping whatever is still on its way.
    pub fn close(mut self) -> Result<()> {
        self.cast(0, id::CONNECTION_CLOSE, |out| out.extend([0, 200, 0, 0, 0, 0, 0]))?;
        self.expect(id::CONNECTION_CLOSE_OK)?;
        self.writer.0.end();
        Ok(())
    }

    /// Sends a method that has no answer.
    pub(crate) fn cast(&mut self, channel: u16, id: MethodId, args: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut out = Vec::new();
        write_method(&mut out, channel, id, args);
        self.writer.send(&out, &AtomicBool::new(false)).map(drop)
    }

    /// Asks and returns the arguments of the answer, skipping whatever comes before it.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        id: MethodId,
        answer: MethodId,
        args: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Vec<u8>> {
        self.cast(channel, id, args)?;
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

/// What lets the broker say why it refuses a login or a message, and the operator see who loads the broker.
fn write_client_properties(out: &mut Vec<u8>) {
    write_table(out, |out| {
        write_short_string(out, b"product");
        write_long_string(out, b"leveret bench");
        write_short_string(out, b"capabilities");
        out.push(b'F');
        write_table(out, |out| {
            for capability in ["authentication_failure_close", "basic.nack", "publisher_confirms"] {
                write_short_string(out, capability.as_bytes());
                out.extend(b"t\x01");
            }
        });
    });
}

/// A value of a table: `S`, length, octets.
pub(crate) fn write_long_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'S');
    out.extend((text.len() as u32).to_be_bytes());
    out.extend(text);
}

/// Appends a field table; `entries` appends what is in it.
pub(crate) fn write_table(out: &mut Vec<u8>, entries: impl FnOnce(&mut Vec<u8>)) {
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
