//! A client of one connection over anything that reads and writes, made of leveret-wire and nothing else: it sends
//! what a test says and shows every frame that comes back. It sends no heartbeats. Whatever takes longer than
//! [`PATIENCE`] fails the test.

use std::time::Duration;

use leveret_wire::method::{
    BasicPublish, ChannelOpen, ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, QueueDeclare,
};
use leveret_wire::sasl::build_plain;
use leveret_wire::{
    DEFAULT_FRAME_MAX, FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FieldTable, FieldValue,
    Method, PROTOCOL_HEADER, Properties, RawProperties, RawTable, Secret, parse_header, split_frame,
    write_content, write_method,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the broker may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The channel every peer opens.
pub(crate) const CHANNEL: u16 = 1;

const READ_BYTES: usize = 64 << 10;

/// The PLAIN response for a user.
pub(crate) fn plain(user: &str, password: &str) -> Vec<u8> {
    build_plain(user, &Secret::from(password))
}

/// One open connection with one open channel.
pub(crate) struct Peer<S> {
    stream: S,
    input: Vec<u8>,
}

/// A frame that came; never a heartbeat.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn method(&self) -> Method<'_> {
        assert_eq!(self.kind, FRAME_METHOD, "a method");
        Method::decode(&self.payload).unwrap()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// The whole handshake as guest, with the capabilities RabbitMQ's own clients have, and a channel.
    pub(crate) async fn open(stream: S, heartbeat_s: u16) -> Self {
        let mut peer = Self::log_in(stream, "PLAIN", &plain("guest", "guest")).await.expect("guest logs in");
        peer.enter("/", heartbeat_s).await.expect("guest may use /");
        peer
    }

    /// The handshake as far as the login; `Err`: the broker's refusal, if it said something.
    pub(crate) async fn log_in(stream: S, mechanism: &str, response: &[u8]) -> Result<Self, Option<Frame>> {
        let mut peer = Self { stream, input: Vec::new() };
        peer.write(&PROTOCOL_HEADER).await;
        peer.expect("connection.start").await;
        let properties = client_properties();
        let start_ok = ConnectionStartOk {
            client_properties: RawTable::parse(&properties).unwrap(),
            mechanism,
            response,
            locale: "en_US",
        };
        peer.send(0, start_ok).await;
        peer.expect_or_refusal("connection.tune").await?;
        Ok(peer)
    }

    /// The rest of the handshake, and a channel; `Err`: the broker's refusal, if it said something.
    pub(crate) async fn enter(&mut self, virtual_host: &str, heartbeat: u16) -> Result<(), Option<Frame>> {
        self.send(0, ConnectionTuneOk { channel_max: 16, frame_max: DEFAULT_FRAME_MAX, heartbeat }).await;
        self.send(0, ConnectionOpen { virtual_host, ..Default::default() }).await;
        self.expect_or_refusal("connection.open-ok").await?;
        self.ask(CHANNEL, ChannelOpen::default(), "channel.open-ok").await;
        Ok(())
    }

    async fn expect_or_refusal(&mut self, name: &str) -> Result<Frame, Option<Frame>> {
        match self.frame().await {
            Some(frame) if frame.method().name() == name => Ok(frame),
            other => Err(other),
        }
    }

    pub(crate) async fn send<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        let mut octets = Vec::new();
        write_method(&mut octets, channel, &method.into()).unwrap();
        self.write(&octets).await;
    }

    /// Sends a method and expects the answer.
    pub(crate) async fn ask<'m>(
        &mut self,
        channel: u16,
        method: impl Into<Method<'m>>,
        answer: &str,
    ) -> Frame {
        self.send(channel, method).await;
        self.expect(answer).await
    }

    /// Declares a transient queue that outlives its connection.
    pub(crate) async fn declare(&mut self, queue: &str) {
        self.ask(CHANNEL, QueueDeclare { queue, ..Default::default() }, "queue.declare-ok").await;
    }

    /// Publishes a transient message to the queue of that name.
    pub(crate) async fn publish(&mut self, routing_key: &str, body: &[u8]) {
        self.publish_with(&Properties::default(), routing_key, body).await;
    }

    /// Publishes a message with these properties to the queue of that name.
    pub(crate) async fn publish_with(&mut self, properties: &Properties, routing_key: &str, body: &[u8]) {
        let publish = BasicPublish { routing_key, ..Default::default() };
        self.publish_to(CHANNEL, publish, properties, body).await;
    }

    /// Publishes on any channel, to anywhere.
    pub(crate) async fn publish_to(
        &mut self,
        channel: u16,
        publish: BasicPublish<'_>,
        properties: &Properties,
        body: &[u8],
    ) {
        let properties = properties.encode().unwrap();
        let mut octets = Vec::new();
        let properties = RawProperties::parse(&properties).unwrap();
        write_content(&mut octets, channel, &publish.into(), properties, body, DEFAULT_FRAME_MAX).unwrap();
        self.write(&octets).await;
    }

    /// The next frame has to be this method.
    pub(crate) async fn expect(&mut self, name: &str) -> Frame {
        let frame = self.frame().await.unwrap_or_else(|| panic!("closed instead of {name}"));
        assert_eq!(frame.method().name(), name, "{:?}", frame.method());
        frame
    }

    /// The header and the whole body that follow a method.
    pub(crate) async fn content(&mut self) -> Vec<u8> {
        let header = self.frame().await.unwrap();
        assert_eq!(header.kind, FRAME_HEADER);
        let size = parse_header(&header.payload).unwrap().body_size as usize;
        let mut body = Vec::new();
        while body.len() < size {
            let frame = self.frame().await.unwrap();
            assert_eq!(frame.kind, FRAME_BODY);
            body.extend(frame.payload);
        }
        body
    }

    /// The next frame; `None`: the broker has closed the connection.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, octets)) = split_frame(&self.input, DEFAULT_FRAME_MAX).unwrap() {
                let frame = Frame { kind: frame.kind, payload: frame.payload.to_vec() };
                self.input.drain(..octets);
                if frame.kind != FRAME_HEARTBEAT {
                    return Some(frame);
                }
                continue;
            }
            self.input.reserve(READ_BYTES);
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input));
            if !matches!(read.await.expect("the broker answers or closes"), Ok(1..)) {
                return None;
            }
        }
    }

    async fn write(&mut self, octets: &[u8]) {
        let written = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        tokio::time::timeout(PATIENCE, written).await.expect("the broker reads").unwrap();
    }
}

fn client_properties() -> Vec<u8> {
    let mut capabilities = FieldTable::new();
    for capability in ["connection.blocked", "consumer_cancel_notify", "authentication_failure_close"] {
        capabilities.insert(capability, true);
    }
    let mut properties = FieldTable::new();
    properties.insert("capabilities", FieldValue::Table(capabilities));
    properties.raw_bytes().unwrap()
}
