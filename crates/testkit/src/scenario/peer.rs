//! One connection of a scenario: the handshake, the channels that are open, and what came, sorted by channel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::play::Target;
use crate::raw_client::message::{self, Content, Message};
use crate::raw_client::value::{FIELD_INT, Value, quoted};
use crate::raw_client::{Frame, RawClient, Received, frame_bytes};

/// What a connection asks for when it opens.
#[derive(Debug, Clone)]
pub(crate) struct ConnectOptions {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    /// What tune-ok answers; otherwise what the server proposed.
    pub(crate) frame_max: Option<u32>,
    pub(crate) channel_max: Option<u32>,
    pub(crate) heartbeat_s: u32,
    pub(crate) capabilities: Value,
    /// Whether it says `connection.open`.
    pub(crate) opens: bool,
    /// Whether the first use of a channel opens it.
    pub(crate) opens_channels: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        let all = [
            "publisher_confirms",
            "consumer_cancel_notify",
            "basic.nack",
            "connection.blocked",
            "authentication_failure_close",
        ];
        let capabilities = all.iter().map(|name| (name.as_bytes().to_vec(), Value::Bool(true))).collect();
        ConnectOptions {
            user: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
            frame_max: None,
            channel_max: None,
            heartbeat_s: 0,
            capabilities: Value::Table(capabilities),
            opens: true,
            opens_channels: true,
        }
    }
}

/// One thing that happened on a channel, or to the connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Message(Message),
    Heartbeat,
    /// A frame that belongs to nothing, or does not decode.
    Stray(String),
    Bytes(Vec<u8>),
    Closed,
    Silence,
}

impl Event {
    pub(crate) fn is_message(&self, method: &str) -> bool {
        matches!(self, Event::Message(message) if message.method == method)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Message(message) => message.fmt(f),
            Event::Heartbeat => f.write_str("heartbeat"),
            Event::Stray(what) => write!(f, "stray {what}"),
            Event::Bytes(bytes) => write!(f, "bytes {}", quoted(bytes)),
            Event::Closed => f.write_str("closed"),
            Event::Silence => f.write_str("silence"),
        }
    }
}

/// A content on its way.
#[derive(Debug)]
enum Partial {
    Header(Message),
    Body { message: Message, left: u64 },
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Peer {
    client: RawClient,
    waiting: BTreeMap<u16, VecDeque<Event>>,
    partial: BTreeMap<u16, Partial>,
    open_channels: BTreeSet<u16>,
    opens_channels: bool,
    is_managed: bool,
    frame_max: usize,
}

const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
const DEFAULT_FRAME_MAX: usize = 131_072;

impl Peer {
    /// A socket on which nothing was said.
    pub(crate) fn socket(addr: SocketAddr) -> Result<Peer, String> {
        let client = RawClient::connect(addr).map_err(|error| format!("cannot connect: {error}"))?;
        Ok(Peer {
            client,
            waiting: BTreeMap::new(),
            partial: BTreeMap::new(),
            open_channels: BTreeSet::new(),
            opens_channels: false,
            is_managed: false,
            frame_max: DEFAULT_FRAME_MAX,
        })
    }

    /// A connection after its handshake.
    pub(crate) fn open(target: &Target, options: &ConnectOptions) -> Result<Peer, String> {
        let mut peer = Peer::socket(target.addr)?;
        peer.client.send(PROTOCOL_HEADER);
        peer.answer("connection.start", target.answer_timeout)?;
        peer.send_message(0, &start_ok(options)?)?;
        let tune = peer.answer("connection.tune", target.answer_timeout)?;
        peer.send_message(0, &tune_ok(&tune, options)?)?;
        peer.frame_max = options.frame_max.map_or(DEFAULT_FRAME_MAX, |size| size as usize);
        if !options.opens {
            return Ok(peer);
        }
        let open = Message::new("connection.open").ok_or("connection.open is in the table")?;
        peer.send_message(0, &open.with("virtual-host", Value::text(&options.vhost)))?;
        peer.answer("connection.open-ok", target.answer_timeout)?;
        peer.opens_channels = options.opens_channels;
        peer.is_managed = true;
        Ok(peer)
    }

    /// Whether the handshake was done here (so that an orderly close makes sense).
    pub(crate) fn is_managed(&self) -> bool {
        self.is_managed
    }

    pub(crate) fn mark_open(&mut self, channel: u16) {
        self.open_channels.insert(channel);
    }

    /// Closing channel 0 is closing the connection: then there is nothing left to close in order.
    pub(crate) fn mark_closed(&mut self, channel: u16) {
        self.open_channels.remove(&channel);
        self.is_managed &= channel != 0;
    }

    /// Opens the channel if it is not, where the options say so.
    pub(crate) fn ensure_channel(&mut self, channel: u16, timeout: Duration) -> Result<(), String> {
        if !self.opens_channels || channel == 0 || !self.open_channels.insert(channel) {
            return Ok(());
        }
        let open = Message::new("channel.open").ok_or("channel.open is in the table")?;
        self.send_message(channel, &open)?;
        match self.next(channel, Instant::now() + timeout) {
            event if event.is_message("channel.open-ok") => Ok(()),
            event => Err(format!("{event}, instead of channel.open-ok")),
        }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }

    /// Sends a method and its content, cut into frames.
    pub(crate) fn send_message(&mut self, channel: u16, message: &Message) -> Result<(), String> {
        let payload = message.encode_method().map_err(|error| error.0)?;
        let mut out = frame_bytes(1, channel, &payload);
        if let Some(content) = &message.content {
            let class_id = message.spec().class_id;
            let header = message::encode_header(class_id, content.body.len() as u64, &content.properties);
            out.extend(frame_bytes(2, channel, &header.map_err(|error| error.0)?));
            for piece in content.body.chunks(self.frame_max - 8) {
                out.extend(frame_bytes(3, channel, piece));
            }
        }
        self.client.send(&out);
        Ok(())
    }

    fn answer(&mut self, method: &str, timeout: Duration) -> Result<Message, String> {
        match self.next(0, Instant::now() + timeout) {
            Event::Message(message) if message.method == method => Ok(message),
            event => Err(format!("{event}, instead of {method}")),
        }
    }

    /// The next event of the channel. A connection that is closing reports that instead: nothing else will
    /// come.
    pub(crate) fn next(&mut self, channel: u16, deadline: Instant) -> Event {
        loop {
            if let Some(event) = self.waiting.get_mut(&channel).and_then(VecDeque::pop_front) {
                return event;
            }
            let closing = self.waiting.get(&0).and_then(VecDeque::front);
            if let Some(close) = closing.filter(|event| channel != 0 && event.is_message("connection.close"))
            {
                return close.clone();
            }
            match self.client.receive(deadline) {
                Received::Closed => return Event::Closed,
                Received::Silence => return Event::Silence,
                Received::Bytes(bytes) => return Event::Bytes(bytes),
                Received::Frame(frame) => self.sort(frame),
            }
        }
    }

    /// The next heartbeat; whatever else comes is kept.
    pub(crate) fn next_heartbeat(&mut self, deadline: Instant) -> Event {
        loop {
            match self.client.receive(deadline) {
                Received::Frame(frame) if frame.kind == 8 => return Event::Heartbeat,
                Received::Frame(frame) => self.sort(frame),
                Received::Closed => return Event::Closed,
                Received::Silence => return Event::Silence,
                Received::Bytes(bytes) => return Event::Bytes(bytes),
            }
        }
    }

    /// The next event of any channel; `None` when nothing came before the deadline. The end of the socket comes on channel 0.
    pub(crate) fn next_of_any(&mut self, deadline: Instant) -> Option<(u16, Event)> {
        loop {
            let first =
                |(channel, events): (&u16, &mut VecDeque<Event>)| Some((*channel, events.pop_front()?));
            if let Some(found) = self.waiting.iter_mut().find_map(first) {
                return Some(found);
            }
            match self.client.receive(deadline) {
                Received::Frame(frame) => self.sort(frame),
                Received::Closed => return Some((0, Event::Closed)),
                Received::Bytes(bytes) => return Some((0, Event::Bytes(bytes))),
                Received::Silence => return None,
            }
        }
    }

    /// Something that came and that nobody took.
    pub(crate) fn left_over(&mut self) -> Option<(u16, Event)> {
        while let Received::Frame(frame) = self.client.receive(Instant::now()) {
            self.sort(frame);
        }
        self.waiting
            .iter_mut()
            .find_map(|(channel, events)| events.pop_front().map(|event| (*channel, event)))
    }

    fn sort(&mut self, frame: Frame) {
        if frame.kind == 8 {
            return;
        }
        let channel = frame.channel;
        if let Some(event) = self.assemble(frame) {
            self.waiting.entry(channel).or_default().push_back(event);
        }
    }

    fn assemble(&mut self, frame: Frame) -> Option<Event> {
        match (frame.kind, self.partial.remove(&frame.channel)) {
            (1, None) => match Message::decode_method(&frame.payload) {
                Ok(message) if message.spec().has_content => {
                    self.partial.insert(frame.channel, Partial::Header(message));
                    None
                }
                Ok(message) => Some(Event::Message(message)),
                Err(error) => Some(Event::Stray(error.0)),
            },
            (2, Some(Partial::Header(mut message))) => match message::decode_header(&frame.payload) {
                Ok((left, properties)) => {
                    message.content = Some(Content { properties, body: Vec::new() });
                    self.continue_body(frame.channel, message, left)
                }
                Err(error) => Some(Event::Stray(error.0)),
            },
            (3, Some(Partial::Body { mut message, left })) if left >= frame.payload.len() as u64 => {
                if let Some(content) = &mut message.content {
                    content.body.extend(&frame.payload);
                }
                self.continue_body(frame.channel, message, left - frame.payload.len() as u64)
            }
            (kind, _) => Some(Event::Stray(format!("frame {kind} {}", quoted(&frame.payload)))),
        }
    }

    fn continue_body(&mut self, channel: u16, message: Message, left: u64) -> Option<Event> {
        if left == 0 {
            return Some(Event::Message(message));
        }
        self.partial.insert(channel, Partial::Body { message, left });
        None
    }
}

fn start_ok(options: &ConnectOptions) -> Result<Message, String> {
    let properties = vec![
        (b"product".to_vec(), Value::text("leveret-testkit")),
        (b"capabilities".to_vec(), options.capabilities.clone()),
    ];
    let start_ok = Message::new("connection.start-ok").ok_or("start-ok is in the table")?;
    Ok(start_ok
        .with("client-properties", Value::Table(properties))
        .with("mechanism", Value::text("PLAIN"))
        .with("response", Value::text(&format!("\0{}\0{}", options.user, options.password)))
        .with("locale", Value::text("en_US")))
}

fn tune_ok(tune: &Message, options: &ConnectOptions) -> Result<Message, String> {
    let proposed = |name: &str| tune.field(name).and_then(Value::as_int).unwrap_or(0);
    let number = |value: i128| Value::Int { tag: FIELD_INT, value };
    let tune_ok = Message::new("connection.tune-ok").ok_or("tune-ok is in the table")?;
    Ok(tune_ok
        .with("channel-max", number(options.channel_max.map_or(proposed("channel-max"), i128::from)))
        .with("frame-max", number(options.frame_max.map_or(proposed("frame-max"), i128::from)))
        .with("heartbeat", number(i128::from(options.heartbeat_s))))
}
