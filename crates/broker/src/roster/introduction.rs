//! What is known of a client before it opens a virtual host.

use core::net::SocketAddr;
use std::sync::Arc;

use leveret_wire::RawTable;

use crate::counts::Counter;

/// How a client reaches the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// A socket.
    Tcp {
        /// Its end.
        peer: SocketAddr,
        /// Our end.
        host: SocketAddr,
    },
    /// The memory of this process, speaking AMQP.
    Memory,
    /// Not at all: the process acts on its own behalf, without a client.
    #[default]
    Nothing,
}

/// What a TLS handshake came to. The words are those of the library that shook hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub protocol: String,
    /// The cipher suite.
    pub cipher: String,
    /// The key exchange.
    pub key_exchange: String,
    /// The hash.
    pub hash: String,
    /// The subject of the client's certificate, if it showed one.
    pub peer_cert_subject: Option<String>,
    /// Who issued that certificate.
    pub peer_cert_issuer: Option<String>,
    /// From when to when it is valid.
    pub peer_cert_validity: Option<String>,
}

/// Who a client says it is, and what was agreed with it.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    /// How it reaches us.
    pub over: Over,
    /// Whether that is encrypted, and how.
    pub tls: Option<Box<TlsFacts>>,
    /// The SASL mechanism by which it logged in.
    pub auth_mechanism: String,
    /// `client-properties` of `connection.start-ok`, the octets that came: as values they would be thirty times as
    /// large, for a client that has not even logged in.
    pub client_properties: Box<[u8]>,
    /// When it connected, ms since 1970.
    pub connected_at_ms: u64,
    /// Channels agreed on; 0: any number.
    pub channel_max: u16,
    /// Octets of a frame agreed on.
    pub frame_max: u32,
    /// Heartbeat agreed on, seconds; 0: none.
    pub timeout_s: u16,
    /// What its transport counts.
    pub traffic: Arc<Traffic>,
}

impl Introduction {
    /// What the client says of itself.
    pub fn client_properties(&self) -> RawTable<'_> {
        RawTable::parse(&self.client_properties).unwrap_or_default()
    }
}

/// Octets that came and went on one connection. Each pair is written by one at a time: who reads, and who writes.
#[derive(Debug, Default)]
pub struct Traffic {
    received: Direction,
    sent: Direction,
}

/// One way, on a cache line of its own: readers and writers are different threads.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Direction {
    octets: Counter,
    times: Counter,
}

impl Traffic {
    /// A read returned so many octets.
    #[inline]
    pub fn received(&self, octets: usize) {
        self.received.octets.add(octets as u64);
        self.received.times.add(1);
    }

    /// A write took so many octets.
    #[inline]
    pub fn sent(&self, octets: usize) {
        self.sent.octets.add(octets as u64);
        self.sent.times.add(1);
    }

    /// Octets received (`recv_oct`).
    pub fn received_bytes(&self) -> u64 {
        self.received.octets.value()
    }

    /// Reads that returned something (`recv_cnt`).
    pub fn reads(&self) -> u64 {
        self.received.times.value()
    }

    /// Octets sent (`send_oct`).
    pub fn sent_bytes(&self) -> u64 {
        self.sent.octets.value()
    }

    /// Writes that took something (`send_cnt`).
    pub fn writes(&self) -> u64 {
        self.sent.times.value()
    }
}
