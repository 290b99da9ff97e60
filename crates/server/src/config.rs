//! What can be set about a broker process. Every limit has a name, a default and a source.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use leveret_broker::Limits;

use crate::certificate::UserFrom;
use crate::lobby::LobbyLimits;
use crate::network::Network;

/// The settings of one broker.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AMQP is spoken in the clear.
    pub listen: Vec<SocketAddr>,
    /// Where AMQP is spoken over TLS.
    pub listen_tls: Vec<SocketAddr>,
    /// Certificate and key for those, once loaded.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What of a client's certificate is its user, where `tls` asks for one.
    pub tls_user_from: UserFrom,
    /// Proxies, whose connections begin with a PROXY header.
    pub proxies: Vec<Network>,
    /// Connections that have not logged in yet.
    pub lobby: LobbyLimits,
    /// Rules of the broker itself.
    pub limits: Limits,
    /// What is offered to clients in `connection.tune`.
    pub tune: Tune,
    /// Connections at a time; more are closed at once.
    pub connections_max: usize,
    /// From accept to `connection.open`; RabbitMQ: 10 s.
    pub handshake_timeout: Duration,
    /// From accept to the end of the TLS handshake; RabbitMQ: 5 s.
    pub tls_handshake_timeout: Duration,
    /// How long a clean stop waits for clients to say goodbye.
    pub drain_timeout: Duration,
    /// When publishers are blocked.
    pub watermarks: Watermarks,
    /// Octets of one log file. Bounds recovery time and the memory for a backlog.
    pub log_file_bytes: u64,
}

/// What `connection.tune` offers; RabbitMQ's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tune {
    /// Channels per connection.
    pub channel_max: u16,
    /// Octets per frame.
    pub frame_max: u32,
    /// Seconds between signs of life. The client's answer wins.
    pub heartbeat_s: u16,
}

/// When publishers are blocked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watermarks {
    /// Share of the memory (of the machine or the control group, whichever is less) the process may use.
    pub memory_share: f64,
    /// Octets that must stay free on the disk of the data directory; `None`: chosen from the size of the log
    /// files, so that what was accepted can still be written.
    pub disk_free_bytes: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5672)],
            listen_tls: Vec::new(),
            tls: None,
            tls_user_from: UserFrom::default(),
            proxies: Vec::new(),
            lobby: LobbyLimits { all: 16_384, per_source: 4_096 },
            limits: Limits::default(),
            tune: Tune { channel_max: 2047, frame_max: 131_072, heartbeat_s: 60 },
            connections_max: 65_536,
            handshake_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            watermarks: Watermarks { memory_share: 0.6, disk_free_bytes: None },
            log_file_bytes: 32 << 20,
        }
    }
}
