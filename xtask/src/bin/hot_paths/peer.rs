//! A client of bare frames that does as little as possible.

use anyhow::{Context, Result, bail, ensure};
use leveret_wire::method::{
    BasicConsume, BasicPublish, ChannelOpen, ConfirmSelect, ConnectionOpen, ConnectionStartOk,
    ConnectionTuneOk, QueueBind, QueueDeclare,
};
use leveret_wire::{
    DEFAULT_FRAME_MAX, FRAME_HEADER, FRAME_METHOD, Method, PROTOCOL_HEADER, Properties, RawFrame,
    RawProperties, RawTable, Secret, sasl, split_frame, write_content, write_method,
};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// All clients here use this channel.
pub(crate) const CHANNEL: u16 = 1;
/// More than one lap's messages of any path.
const BUFFER_BYTES: usize = 512 << 10;

/// A connection with one open channel.
pub(crate) struct Peer {
    socket: TcpStream,
    input: Vec<u8>,
    /// What of `input` was read and not yet looked at.
    unread: std::ops::Range<usize>,
}

/// A queue to be declared: everything else is as it is by default.
pub(crate) struct Queue<'a> {
    pub(crate) name: &'a str,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
}

impl Peer {
    pub(crate) async fn open(address: SocketAddr) -> Result<Peer> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut peer = Peer { socket, input: vec![0; BUFFER_BYTES], unread: 0..0 };
        peer.send(&PROTOCOL_HEADER).await?;
        peer.answer(|_| ()).await?;
        let response = sasl::build_plain("guest", &Secret::from("guest"));
        let start_ok = ConnectionStartOk {
            client_properties: RawTable::default(),
            mechanism: "PLAIN",
            response: &response,
            locale: "en_US",
        };
        peer.ask(0, start_ok).await?;
        let tune_ok = ConnectionTuneOk { channel_max: 1, frame_max: DEFAULT_FRAME_MAX, heartbeat: 0 };
        peer.say(0, tune_ok).await?;
        peer.ask(0, ConnectionOpen { virtual_host: "/", capabilities: "", insist: false }).await?;
        peer.ask(CHANNEL, ChannelOpen { out_of_band: "" }).await?;
        Ok(peer)
    }

    /// Answers the queue's name.
    pub(crate) async fn declare(&mut self, queue: Queue<'_>) -> Result<String> {
        let declare = QueueDeclare {
            ticket: 0,
            queue: queue.name,
            passive: false,
            durable: queue.durable,
            exclusive: queue.exclusive,
            auto_delete: false,
            nowait: false,
            arguments: RawTable::default(),
        };
        self.say(CHANNEL, declare).await?;
        let name = self.answer(|method| match method {
            Method::QueueDeclareOk(ok) => Some(ok.queue.to_owned()),
            _ => None,
        });
        name.await?.context("no declare-ok")
    }

    pub(crate) async fn bind(&mut self, queue: &str, exchange: &str, routing_key: &str) -> Result<()> {
        let arguments = RawTable::default();
        self.ask(CHANNEL, QueueBind { ticket: 0, queue, exchange, routing_key, nowait: false, arguments })
            .await
    }

    pub(crate) async fn consume(&mut self, queue: &str, no_ack: bool) -> Result<()> {
        let consume = BasicConsume {
            ticket: 0,
            queue,
            consumer_tag: "",
            no_local: false,
            no_ack,
            exclusive: false,
            nowait: false,
            arguments: RawTable::default(),
        };
        self.ask(CHANNEL, consume).await
    }

    pub(crate) async fn select_confirms(&mut self) -> Result<()> {
        self.ask(CHANNEL, ConfirmSelect { nowait: false }).await
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(octets).await?)
    }

    /// Looks at frames until one is the last one wanted.
    pub(crate) async fn receive(&mut self, mut is_last: impl FnMut(&RawFrame<'_>) -> bool) -> Result<()> {
        loop {
            while let Some((frame, octets)) =
                split_frame(&self.input[self.unread.clone()], DEFAULT_FRAME_MAX)?
            {
                let is_last = is_last(&frame);
                self.unread.start += octets;
                if is_last {
                    return Ok(());
                }
            }
            self.fill().await?;
        }
    }

    /// Receives so many messages without looking at them.
    pub(crate) async fn receive_messages(&mut self, count: u32) -> Result<()> {
        let mut missing = count;
        self.receive(|frame| {
            missing -= u32::from(frame.kind == leveret_wire::FRAME_BODY);
            missing == 0
        })
        .await
    }

    /// Says something and waits for the answer, whatever it is.
    async fn ask<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) -> Result<()> {
        self.say(channel, method).await?;
        self.answer(|_| ()).await
    }

    async fn say<'a>(&mut self, channel: u16, method: impl Into<Method<'a>>) -> Result<()> {
        let mut octets = Vec::new();
        write_method(&mut octets, channel, &method.into())?;
        self.send(&octets).await
    }

    async fn answer<T>(&mut self, look: impl FnOnce(&Method<'_>) -> T) -> Result<T> {
        let (mut look, mut found) = (Some(look), None);
        self.receive(|frame| {
            let method = Method::decode(frame.payload);
            if let (FRAME_METHOD, Ok(method), Some(look)) = (frame.kind, method, look.take()) {
                found = match method {
                    Method::ChannelClose(_) | Method::ConnectionClose(_) => None,
                    method => Some(look(&method)),
                };
            }
            true
        })
        .await?;
        found.context("the broker refused")
    }

    async fn fill(&mut self) -> Result<()> {
        self.input.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.input.len() {
            bail!("a frame is larger than the buffer");
        }
        let count = self.socket.read(&mut self.input[self.unread.end..]).await?;
        ensure!(count > 0, "the broker hung up");
        self.unread.end += count;
        Ok(())
    }
}

/// Appends a message on its way to the broker.
pub(crate) fn write_publish(
    out: &mut Vec<u8>,
    exchange: &str,
    routing_key: &str,
    properties: &Properties,
    body: &[u8],
) -> Result<()> {
    let publish = BasicPublish { ticket: 0, exchange, routing_key, mandatory: false, immediate: false };
    let properties = properties.encode()?;
    let properties = RawProperties::parse(&properties)?;
    Ok(write_content(out, CHANNEL, &publish.into(), properties, body, DEFAULT_FRAME_MAX)?)
}

/// The address in a content header that answers are to go to.
pub(crate) fn reply_to(frame: &RawFrame<'_>) -> Option<String> {
    if frame.kind != FRAME_HEADER {
        return None;
    }
    let header = leveret_wire::parse_header(frame.payload).ok()?;
    String::from_utf8(header.properties.reply_to()?.to_vec()).ok()
}
