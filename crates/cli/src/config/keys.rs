//! The table of all settings: name, kind, where it goes. `docs/configuration.md` explains each.

use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leveret_server::Network;

use super::{ClientCertificates, Settings};
use crate::logging::{Levels, LogFormat};

/// One setting.
pub(crate) struct Key {
    /// In the file; in the environment in capitals behind `LEVERET_`.
    pub(super) name: &'static str,
    kind: Kind,
    /// The value as it would be written; empty for none.
    pub(super) show: fn(&Settings) -> String,
    when: When,
}

/// When a new value takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Start,
    Reload,
}

/// What may be written, and where it goes.
enum Kind {
    Number {
        range: RangeInclusive<u64>,
        unit: &'static str,
        store: fn(&mut Settings, u64),
    },
    Share(fn(&mut Settings, f64)),
    Switch(fn(&mut Settings, bool)),
    Addresses(fn(&mut Settings, Vec<SocketAddr>)),
    Path(fn(&mut Settings, PathBuf)),
    Choice {
        names: &'static [&'static str],
        store: fn(&mut Settings, &str),
    },
    Networks(fn(&mut Settings, Vec<Network>)),
    /// A user other than `guest`.
    User(fn(&mut Settings, String)),
    Log(fn(&mut Settings, Levels)),
    LogFormat(fn(&mut Settings, LogFormat)),
}

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// All settings, in the order in which they are explained.
pub(super) const KEYS: &[Key] = &[
    Key {
        name: "data_dir",
        kind: Kind::Path(|s, path| s.data_dir = path),
        show: |s| path(&s.data_dir),
        when: When::Start,
    },
    Key {
        name: "listen",
        kind: Kind::Addresses(|s, addresses| s.broker.listen = addresses),
        show: |s| list(&s.broker.listen),
        when: When::Start,
    },
    Key {
        name: "listen_tls",
        kind: Kind::Addresses(|s, addresses| s.broker.listen_tls = addresses),
        show: |s| list(&s.broker.listen_tls),
        when: When::Start,
    },
    Key {
        name: "tls_cert",
        kind: Kind::Path(|s, path| s.tls_cert = Some(path)),
        show: |s| s.tls_cert.as_deref().map(path).unwrap_or_default(),
        when: When::Reload,
    },
    Key {
        name: "tls_key",
        kind: Kind::Path(|s, path| s.tls_key = Some(path)),
        show: |s| s.tls_key.as_deref().map(path).unwrap_or_default(),
        when: When::Reload,
    },
    Key {
        name: "tls_client_ca",
        kind: Kind::Path(|s, path| s.tls_client_ca = Some(path)),
        show: |s| s.tls_client_ca.as_deref().map(path).unwrap_or_default(),
        when: When::Reload,
    },
    Key {
        name: "tls_client_certificates",
        kind: Kind::Choice {
            names: &["none", "wanted", "required"],
            store: |s, name| s.tls_client_certificates = ClientCertificates::named(name),
        },
        show: |s| s.tls_client_certificates.name().to_owned(),
        when: When::Reload,
    },
    Key {
        name: "tls_user_from",
        kind: Kind::Choice {
            names: &["common_name", "subject", "san:dns", "san:uri", "san:email"],
            store: |s, name| s.broker.tls_user_from = name.parse().unwrap_or_default(),
        },
        show: |s| s.broker.tls_user_from.to_string(),
        when: When::Reload,
    },
    Key {
        name: "proxy_protocol_from",
        kind: Kind::Networks(|s, networks| s.broker.proxies = networks),
        show: |s| s.broker.proxies.iter().map(Network::to_string).collect::<Vec<_>>().join(", "),
        when: When::Reload,
    },
    Key {
        name: "http",
        kind: Kind::Addresses(|s, addresses| s.http = addresses),
        show: |s| list(&s.http),
        when: When::Start,
    },
    Key {
        name: "http_tls",
        kind: Kind::Addresses(|s, addresses| s.http_tls = addresses),
        show: |s| list(&s.http_tls),
        when: When::Start,
    },
    Key {
        name: "metrics",
        kind: Kind::Addresses(|s, addresses| s.metrics = addresses),
        show: |s| list(&s.metrics),
        when: When::Start,
    },
    Key {
        name: "metrics_anonymous",
        kind: Kind::Switch(|s, on| s.metrics_anonymous = on),
        show: |s| s.metrics_anonymous.to_string(),
        when: When::Start,
    },
    Key {
        name: "load_definitions",
        kind: Kind::Path(|s, path| s.load_definitions = Some(path)),
        show: |s| s.load_definitions.as_deref().map(path).unwrap_or_default(),
        when: When::Start,
    },
    Key {
        name: "default_user",
        kind: Kind::User(|s, name| s.default_user = Some(name)),
        show: |s| s.default_user.clone().unwrap_or_default(),
        when: When::Start,
    },
    Key {
        name: "default_pass_file",
        kind: Kind::Path(|s, path| s.default_pass_file = Some(path)),
        show: |s| s.default_pass_file.as_deref().map(path).unwrap_or_default(),
        when: When::Start,
    },
    Key {
        name: "log",
        kind: Kind::Log(|s, levels| s.log = levels),
        show: |s| s.log.to_string(),
        when: When::Reload,
    },
    Key {
        name: "log_format",
        kind: Kind::LogFormat(|s, format| s.log_format = format),
        show: |s| s.log_format.name().to_owned(),
        when: When::Reload,
    },
    Key {
        name: "connections_max",
        kind: number(1..=10_000_000, "connections", |s, n| s.broker.connections_max = n as usize),
        show: |s| s.broker.connections_max.to_string(),
        when: When::Reload,
    },
    Key {
        name: "unauthenticated_max",
        kind: number(1..=10_000_000, "connections", |s, n| s.broker.lobby.all = n as usize),
        show: |s| s.broker.lobby.all.to_string(),
        when: When::Start,
    },
    Key {
        name: "unauthenticated_per_address_max",
        kind: number(1..=10_000_000, "connections", |s, n| s.broker.lobby.per_source = n as usize),
        show: |s| s.broker.lobby.per_source.to_string(),
        when: When::Start,
    },
    Key {
        name: "login_failures_max",
        kind: number(0..=1_000_000, "wrong passwords a minute", |s, n| {
            s.broker.limits.login_failures_max = n as u32;
        }),
        show: |s| s.broker.limits.login_failures_max.to_string(),
        when: When::Start,
    },
    Key {
        name: "channel_max",
        kind: number(1..=65_535, "channels per connection", |s, n| s.broker.tune.channel_max = n as u16),
        show: |s| s.broker.tune.channel_max.to_string(),
        when: When::Reload,
    },
    Key {
        name: "consumers_per_channel_max",
        kind: number(1..=1_000_000, "consumers", |s, n| s.broker.limits.consumers_per_channel = n as usize),
        show: |s| s.broker.limits.consumers_per_channel.to_string(),
        when: When::Start,
    },
    Key {
        name: "frame_max_bytes",
        kind: number(4096..=16 * MIB, "octets", |s, n| s.broker.tune.frame_max = n as u32),
        show: |s| s.broker.tune.frame_max.to_string(),
        when: When::Reload,
    },
    Key {
        // A record of the log has at most 512 MiB, with what stands before the body.
        name: "message_size_max_bytes",
        kind: number(1..=511 * MIB, "octets", |s, n| s.broker.limits.message_size_bytes = n),
        show: |s| s.broker.limits.message_size_bytes.to_string(),
        when: When::Start,
    },
    Key {
        name: "heartbeat_s",
        kind: number(0..=65_535, "seconds", |s, n| s.broker.tune.heartbeat_s = n as u16),
        show: |s| s.broker.tune.heartbeat_s.to_string(),
        when: When::Reload,
    },
    Key {
        name: "handshake_timeout_ms",
        kind: milliseconds(|s, n| s.broker.handshake_timeout = Duration::from_millis(n)),
        show: |s| s.broker.handshake_timeout.as_millis().to_string(),
        when: When::Reload,
    },
    Key {
        name: "tls_handshake_timeout_ms",
        kind: milliseconds(|s, n| s.broker.tls_handshake_timeout = Duration::from_millis(n)),
        show: |s| s.broker.tls_handshake_timeout.as_millis().to_string(),
        when: When::Reload,
    },
    Key {
        name: "drain_timeout_ms",
        kind: milliseconds(|s, n| s.broker.drain_timeout = Duration::from_millis(n)),
        show: |s| s.broker.drain_timeout.as_millis().to_string(),
        when: When::Reload,
    },
    Key {
        name: "consumer_timeout_ms",
        kind: number(0..=DAY_MS, "milliseconds", |s, n| {
            s.broker.limits.consumer_timeout_ms = (n > 0).then_some(n);
        }),
        show: |s| s.broker.limits.consumer_timeout_ms.unwrap_or(0).to_string(),
        when: When::Start,
    },
    Key {
        name: "resident_bytes",
        kind: number(0..=TIB, "octets", |s, n| s.broker.limits.resident_bytes = n as usize),
        show: |s| s.broker.limits.resident_bytes.to_string(),
        when: When::Start,
    },
    Key {
        name: "memory_share",
        kind: Kind::Share(|s, share| s.broker.watermarks.memory_share = share),
        show: |s| s.broker.watermarks.memory_share.to_string(),
        when: When::Reload,
    },
    Key {
        name: "disk_free_bytes",
        kind: number(0..=1024 * TIB, "octets", |s, n| s.broker.watermarks.disk_free_bytes = Some(n)),
        show: |s| s.broker.watermarks.disk_free_bytes.map(|n| n.to_string()).unwrap_or_default(),
        when: When::Reload,
    },
    Key {
        name: "log_file_bytes",
        kind: number(MIB..=1024 * MIB, "octets", |s, n| s.broker.log_file_bytes = n),
        show: |s| s.broker.log_file_bytes.to_string(),
        when: When::Start,
    },
    Key {
        name: "request_statistics",
        kind: Kind::Switch(|s, on| s.broker.limits.request_statistics = on),
        show: |s| s.broker.limits.request_statistics.to_string(),
        when: When::Start,
    },
    Key {
        name: "message_statistics",
        kind: Kind::Switch(|s, on| s.broker.limits.message_statistics = on),
        show: |s| s.broker.limits.message_statistics.to_string(),
        when: When::Start,
    },
];

impl Key {
    /// As it is written in the file.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether a new value takes effect without a restart.
    pub(crate) fn changes_at_reload(&self) -> bool {
        self.when == When::Reload
    }

    /// Puts a value in its place; `None` when it is not allowed.
    pub(super) fn apply(&self, settings: &mut Settings, texts: &[String]) -> Option<()> {
        match (&self.kind, texts) {
            (Kind::Addresses(store), texts) => store(settings, addresses(texts)?),
            (Kind::Networks(store), texts) => store(settings, networks(texts)?),
            (Kind::Choice { names, store }, [text]) => {
                store(settings, names.iter().find(|name| **name == text.trim())?);
            }
            (Kind::Number { range, store, .. }, [text]) => {
                store(settings, text.trim().parse().ok().filter(|number| range.contains(number))?);
            }
            (Kind::Share(store), [text]) => {
                store(settings, text.trim().parse().ok().filter(|share| *share > 0.0 && *share <= 1.0)?);
            }
            (Kind::Switch(store), [text]) => store(settings, text.trim().parse().ok()?),
            (Kind::Path(store), [text]) if !text.is_empty() => store(settings, text.into()),
            (Kind::User(store), [text]) if !["", "guest"].contains(&text.as_str()) => {
                store(settings, text.clone());
            }
            (Kind::Log(store), [text]) => store(settings, text.parse().ok()?),
            (Kind::LogFormat(store), [text]) => store(settings, LogFormat::named(text.trim())?),
            _ => return None,
        }
        Some(())
    }

    /// What may be written, for error messages.
    pub(super) fn allowed(&self) -> String {
        match &self.kind {
            Kind::Number { range, unit, .. } => format!("{} to {} {unit}", range.start(), range.end()),
            Kind::Share(_) => "a share above 0, up to 1".to_owned(),
            Kind::Switch(_) => "true, false".to_owned(),
            Kind::Networks(_) => "ADDRESS/BITS, or a list of them".to_owned(),
            Kind::Choice { names, .. } => names.join(", "),
            Kind::Addresses(_) => "HOST:PORT, or a list of them".to_owned(),
            Kind::Path(_) => "a path".to_owned(),
            Kind::User(_) => "a name other than guest".to_owned(),
            Kind::Log(_) => "error, warn, info, debug, trace, off, and AREA=LEVEL, with commas".to_owned(),
            Kind::LogFormat(_) => LogFormat::ALL.map(LogFormat::name).join(", "),
        }
    }
}

const fn number(range: RangeInclusive<u64>, unit: &'static str, store: fn(&mut Settings, u64)) -> Kind {
    Kind::Number { range, unit, store }
}

const fn milliseconds(store: fn(&mut Settings, u64)) -> Kind {
    number(1..=HOUR_MS, "milliseconds", store)
}

fn networks(texts: &[String]) -> Option<Vec<Network>> {
    let parts = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    parts.filter(|part| !part.is_empty()).map(|part| part.parse().ok()).collect()
}

/// A list may also be written as one text with commas: a variable cannot hold anything else.
fn addresses(texts: &[String]) -> Option<Vec<SocketAddr>> {
    let parts = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    parts.filter(|part| !part.is_empty()).map(address).collect()
}

/// A name stands for its first IPv4 address, or else its first: `localhost` is one listener, not two.
fn address(text: &str) -> Option<SocketAddr> {
    let found: Vec<SocketAddr> = text.trim().to_socket_addrs().ok()?.collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}
