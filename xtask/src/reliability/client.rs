//! A blocking AMQP client with one channel, for loads that a killed broker ends at any octet.
//!
//! What is sent gathers until `flush`; what comes is handed out as [`Event`]s that own what they carry. It keeps no
//! rules: the ledger judges.

use leveret_wire::method::{
    BasicAck, BasicConsume, BasicGet, BasicNack, BasicPublish, BasicQos, ChannelOpen, ConfirmSelect,
    ConnectionCloseOk, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk,
};
use leveret_wire::{
    Assembler, DEFAULT_FRAME_MAX, FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FieldTable,
    FieldValue, Method, PROTOCOL_HEADER, Progress, Properties, RawFrame, RawProperties, RawTable, Secret,
    WireError, sasl, split_frame, write_ack, write_content, write_heartbeat, write_method,
};
use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::message::Message;

const CHANNEL: u16 = 1;
const BODY_MAX_BYTES: u64 = 16 << 20;
const READ_BYTES: usize = 64 << 10;
/// A broker that owes an answer and sends nothing for so long has lost it.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CLIENT_CAPABILITIES: [&str; 4] =
    ["publisher_confirms", "basic.nack", "connection.blocked", "consumer_cancel_notify"];

/// What the broker sent.
#[derive(Debug)]
pub(super) enum Event {
    Delivery(Delivery),
    /// `basic.get-empty`.
    NothingToGet,
    /// `basic.ack` or, if not `kept`, `basic.nack`.
    Confirm {
        tag: u64,
        multiple: bool,
        kept: bool,
    },
    Returned,
    Blocked,
    Unblocked,
    /// Any `-ok`.
    Answer {
        message_count: u32,
    },
}

/// A message that came by `basic.deliver` or `basic.get-ok`.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The consumer's tag; empty for `get`.
    pub(super) consumer: String,
    pub(super) tag: u64,
    pub(super) redelivered: bool,
    pub(super) message_id: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Why a connection is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The broker closed channel or connection, with its reason.
    Closed { code: u16, text: String },
    /// The socket is closed.
    Gone,
    /// What came is not AMQP, or not what was asked for.
    Garbled(String),
    /// Something is owed and does not come.
    Silent,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { code, text } => write!(f, "the broker closed with {code} {text}"),
            Self::Gone => f.write_str("the socket is closed"),
            Self::Garbled(what) => write!(f, "garbled: {what}"),
            Self::Silent => write!(f, "the broker has been silent for {CALL_TIMEOUT:?}"),
        }
    }
}

impl std::error::Error for Ended {}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Garbled(error.reply_text())
    }
}

pub(super) struct Client {
    stream: TcpStream,
    read_timeout: Duration,
    input: Vec<u8>,
    /// So many octets of `input` have been dealt with.
    taken: usize,
    output: Vec<u8>,
    content: Option<Assembler<Incoming>>,
    /// What came while an answer was awaited.
    waiting: VecDeque<Event>,
}

/// The method in front of a content.
#[derive(Debug)]
enum Incoming {
    Delivery { consumer: String, tag: u64, redelivered: bool },
    Return,
}

impl Client {
    /// Connects as guest to the virtual host `/` and opens the channel. No heartbeats.
    pub(super) fn open(address: SocketAddr) -> Result<Client, Ended> {
        Client::open_beating(address, 0)
    }

    /// The same with heartbeats, which are sent by [`beat`](Self::beat) alone.
    pub(super) fn open_beating(address: SocketAddr, heartbeat_s: u16) -> Result<Client, Ended> {
        let connected = TcpStream::connect(address).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(CALL_TIMEOUT))?;
            stream.set_write_timeout(Some(CALL_TIMEOUT))?;
            Ok(stream)
        });
        let mut client = Client {
            stream: connected.map_err(|_| Ended::Gone)?,
            read_timeout: CALL_TIMEOUT,
            input: Vec::new(),
            taken: 0,
            output: PROTOCOL_HEADER.to_vec(),
            content: None,
            waiting: VecDeque::new(),
        };
        client.handshake(heartbeat_s)?;
        Ok(client)
    }

    fn handshake(&mut self, heartbeat: u16) -> Result<(), Ended> {
        self.flush()?;
        self.answer()?;
        let capabilities = FieldTable(
            CLIENT_CAPABILITIES.iter().map(|name| ((*name).into(), FieldValue::Bool(true))).collect(),
        );
        let mut properties = FieldTable::new();
        properties.insert("capabilities", FieldValue::Table(capabilities));
        let properties = properties.raw_bytes().map_err(unencodable)?;
        let start_ok = ConnectionStartOk {
            client_properties: RawTable::parse(&properties)?,
            mechanism: "PLAIN",
            response: &sasl::build_plain("guest", &Secret::new("guest")),
            locale: "en_US",
        };
        self.send_on(0, start_ok.into())?;
        self.flush()?;
        self.answer()?;
        let tune_ok = ConnectionTuneOk { channel_max: 2047, frame_max: DEFAULT_FRAME_MAX, heartbeat };
        self.send_on(0, tune_ok.into())?;
        self.send_on(0, ConnectionOpen { virtual_host: "/", ..Default::default() }.into())?;
        self.flush()?;
        self.answer()?;
        self.call(ChannelOpen::default()).map(drop)
    }

    /// Sends a method on the channel and waits for its `-ok`; returns the number of messages in it, if it has one.
    pub(super) fn call<'a>(&mut self, method: impl Into<Method<'a>>) -> Result<u32, Ended> {
        self.send(method)?;
        self.flush()?;
        self.answer()
    }

    /// Waits for an `-ok`; everything else that comes waits for `next`.
    pub(super) fn answer(&mut self) -> Result<u32, Ended> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        loop {
            match self.receive(deadline)? {
                Some(Event::Answer { message_count }) => return Ok(message_count),
                Some(event) => self.waiting.push_back(event),
                None => return Err(Ended::Silent),
            }
        }
    }

    pub(super) fn select_confirms(&mut self) -> Result<(), Ended> {
        self.call(ConfirmSelect::default()).map(drop)
    }

    pub(super) fn prefetch(&mut self, count: u16) -> Result<(), Ended> {
        self.call(BasicQos { prefetch_count: count, ..Default::default() }).map(drop)
    }

    /// Consumes `queue` under its own name.
    pub(super) fn consume(&mut self, queue: &str) -> Result<(), Ended> {
        self.call(BasicConsume { queue, consumer_tag: queue, ..Default::default() }).map(drop)
    }

    /// Gets a message now. `None`: the queue is empty.
    pub(super) fn get_now(&mut self, queue: &str) -> Result<Option<Delivery>, Ended> {
        self.get(queue)?;
        self.flush()?;
        match self.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
            Event::NothingToGet => Ok(None),
            Event::Delivery(delivery) => Ok(Some(delivery)),
            other => Err(Ended::Garbled(format!("{other:?} in answer to a get"))),
        }
    }

    /// The same for one of our messages: its number and its delivery tag.
    pub(super) fn get_numbered(&mut self, queue: &str) -> Result<Option<(u64, u64)>, Ended> {
        let Some(delivery) = self.get_now(queue)? else { return Ok(None) };
        match Message::id_of(&delivery.message_id) {
            Some(number) => Ok(Some((number, delivery.tag))),
            None => Err(Ended::Garbled("a message without its number".to_owned())),
        }
    }

    /// Asks for a message; the answer is an event.
    pub(super) fn get(&mut self, queue: &str) -> Result<(), Ended> {
        self.send(BasicGet { queue, ..Default::default() })
    }

    pub(super) fn ack(&mut self, tag: u64, multiple: bool) {
        write_ack(&mut self.output, CHANNEL, tag, multiple);
    }

    /// Sends a heartbeat.
    pub(super) fn beat(&mut self) -> Result<(), Ended> {
        write_heartbeat(&mut self.output);
        self.flush()
    }

    /// Refuses one delivery.
    pub(super) fn nack(&mut self, delivery_tag: u64, requeue: bool) -> Result<(), Ended> {
        self.send(BasicNack { delivery_tag, multiple: false, requeue })
    }

    /// Appends a message to what `flush` sends.
    pub(super) fn publish(
        &mut self,
        publish: BasicPublish<'_>,
        properties: &Properties,
        body: &[u8],
    ) -> Result<(), Ended> {
        let properties = properties.encode().map_err(unencodable)?;
        let properties = RawProperties::from_validated(&properties);
        write_content(&mut self.output, CHANNEL, &publish.into(), properties, body, DEFAULT_FRAME_MAX)
            .map_err(unencodable)
    }

    /// Appends a method to what `flush` sends.
    pub(super) fn send<'a>(&mut self, method: impl Into<Method<'a>>) -> Result<(), Ended> {
        self.send_on(CHANNEL, method.into())
    }

    fn send_on(&mut self, channel: u16, method: Method<'_>) -> Result<(), Ended> {
        write_method(&mut self.output, channel, &method).map_err(unencodable)
    }

    /// Writes what has gathered. A closed socket is noticed by the next read, since confirms that came before
    /// the end count.
    pub(super) fn flush(&mut self) -> Result<(), Ended> {
        let written = self.stream.write_all(&self.output);
        self.output.clear();
        match written {
            Err(error) if is_timeout(&error) => Err(Ended::Silent),
            _ => Ok(()),
        }
    }

    /// The next event; `None` when none came in time.
    pub(super) fn next(&mut self, timeout: Duration) -> Result<Option<Event>, Ended> {
        match self.waiting.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.receive(Instant::now() + timeout),
        }
    }

    /// The next event of those that have been read.
    pub(super) fn next_buffered(&mut self) -> Result<Option<Event>, Ended> {
        match self.waiting.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.parse(),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Event>, Ended> {
        loop {
            if let Some(event) = self.parse()? {
                return Ok(Some(event));
            }
            if !self.read(deadline)? {
                return Ok(None);
            }
        }
    }

    /// One read; false when nothing came before the deadline.
    fn read(&mut self, deadline: Instant) -> Result<bool, Ended> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        if left != self.read_timeout {
            self.stream.set_read_timeout(Some(left)).map_err(|_| Ended::Gone)?;
            self.read_timeout = left;
        }
        self.input.drain(..std::mem::take(&mut self.taken));
        let filled = self.input.len();
        self.input.resize(filled + READ_BYTES, 0);
        let read = self.stream.read(&mut self.input[filled..]);
        self.input.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(Ended::Gone),
            Ok(_) => Ok(true),
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_reset) => Err(Ended::Gone),
        }
    }

    /// Takes whole frames off the input until they make an event.
    fn parse(&mut self) -> Result<Option<Event>, Ended> {
        let input = std::mem::take(&mut self.input);
        let outcome = self.parse_from(&input);
        self.input = input;
        outcome
    }

    fn parse_from(&mut self, input: &[u8]) -> Result<Option<Event>, Ended> {
        while let Some((frame, octets)) = split_frame(&input[self.taken..], DEFAULT_FRAME_MAX)? {
            self.taken += octets;
            if let Some(event) = self.frame(frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn frame(&mut self, frame: RawFrame<'_>) -> Result<Option<Event>, Ended> {
        if frame.kind == FRAME_HEARTBEAT {
            return Ok(None);
        }
        let progress = match (frame.kind, self.content.take()) {
            (FRAME_METHOD, None) => return self.method(&Method::decode(frame.payload)?),
            (FRAME_HEADER, Some(content)) => content.header(frame.payload, BODY_MAX_BYTES)?,
            (FRAME_BODY, Some(content)) => content.body(frame.payload)?,
            (kind, _) => return Err(Ended::Garbled(format!("a frame of kind {kind} has no place here"))),
        };
        let content = match progress {
            Progress::More(content) => {
                self.content = Some(content);
                return Ok(None);
            }
            Progress::Done(content) => content,
        };
        let message_id = content.properties().message_id().unwrap_or_default().to_vec();
        Ok(Some(match content.method {
            Incoming::Return => Event::Returned,
            Incoming::Delivery { consumer, tag, redelivered } => {
                Event::Delivery(Delivery { consumer, tag, redelivered, message_id, body: content.body })
            }
        }))
    }

    fn method(&mut self, method: &Method<'_>) -> Result<Option<Event>, Ended> {
        let incoming = match method {
            Method::BasicDeliver(deliver) => Incoming::Delivery {
                consumer: deliver.consumer_tag.to_owned(),
                tag: deliver.delivery_tag,
                redelivered: deliver.redelivered,
            },
            Method::BasicGetOk(got) => Incoming::Delivery {
                consumer: String::new(),
                tag: got.delivery_tag,
                redelivered: got.redelivered,
            },
            Method::BasicReturn(_) => Incoming::Return,
            _ => return self.bare_method(method).map(Some),
        };
        self.content = Some(Assembler::start(incoming, method.class_id()));
        Ok(None)
    }

    fn bare_method(&mut self, method: &Method<'_>) -> Result<Event, Ended> {
        Ok(match *method {
            Method::BasicAck(BasicAck { delivery_tag: tag, multiple }) => {
                Event::Confirm { tag, multiple, kept: true }
            }
            Method::BasicNack(BasicNack { delivery_tag: tag, multiple, .. }) => {
                Event::Confirm { tag, multiple, kept: false }
            }
            Method::BasicGetEmpty(_) => Event::NothingToGet,
            Method::ConnectionBlocked(_) => Event::Blocked,
            Method::ConnectionUnblocked(_) => Event::Unblocked,
            Method::ChannelClose(close) => {
                return Err(Ended::Closed { code: close.reply_code, text: close.reply_text.to_owned() });
            }
            Method::ConnectionClose(close) => {
                self.send_on(0, ConnectionCloseOk.into())?;
                self.flush()?;
                return Err(Ended::Closed { code: close.reply_code, text: close.reply_text.to_owned() });
            }
            Method::QueueDeclareOk(ok) => Event::Answer { message_count: ok.message_count },
            Method::QueuePurgeOk(ok) => Event::Answer { message_count: ok.message_count },
            Method::QueueDeleteOk(ok) => Event::Answer { message_count: ok.message_count },
            // Every other `-ok`, and `start` and `tune`, which need no look inside.
            _ => Event::Answer { message_count: 0 },
        })
    }
}

fn unencodable(error: leveret_wire::EncodeError) -> Ended {
    Ended::Garbled(format!("{error:?}"))
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
