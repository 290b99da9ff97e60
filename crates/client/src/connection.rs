//! One connection to one broker. It never comes back: see [`Link`](crate::Link) for that.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leveret_wire::{AmqpUri, FieldTable, FieldValue, ReplyCode, Secret, TuneLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::channel::Channel;
use crate::confirm::ConfirmChannel;
use crate::driver::Driver;
use crate::error::{By, ChannelError, Closed, ConnectError};
use crate::options::{ConnectOptions, Targets, is_external};
use crate::outbox::Outbox;
use crate::session::handshake::{Agreed, Handshake, HandshakeError, Login, Proof, Shake, Stage};
use crate::session::{Limits, Session};
use crate::shared::Shared;
use crate::transport::{Halves, connect, connect_memory, unreachable_at};

/// Octets to read at a time during the handshake.
const HANDSHAKE_READ_BYTES: usize = 4096;

static NEXT_LOCAL_ID: AtomicU64 = AtomicU64::new(1);

/// A connection to a broker, with a task of its own that reads and writes. Clones are the same connection; when
/// the last one (and the last channel) is dropped, it says goodbye.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<ConnectionHandle>,
}

struct ConnectionHandle {
    shared: Arc<Shared>,
}

/// How the broker introduced itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerProperties {
    /// Its product name; of a Leveret this is the product it is compatible with.
    pub product: String,
    /// The version of that product.
    pub version: String,
    /// The version of Leveret, if it is one.
    pub leveret_version: Option<String>,
    /// Everything it said.
    pub table: FieldTable,
}

impl ServerProperties {
    pub(crate) fn new(table: FieldTable) -> ServerProperties {
        let text = |name| table.get(name).and_then(FieldValue::as_str).map(str::to_owned);
        ServerProperties {
            product: text("product").unwrap_or_default(),
            version: text("version").unwrap_or_default(),
            leveret_version: text("leveret_version"),
            table,
        }
    }

    /// Whether the broker claims to be able to do this, e.g. `basic.nack`.
    pub fn capability(&self, name: &str) -> bool {
        let capabilities = self.table.get("capabilities").and_then(FieldValue::as_table);
        capabilities.and_then(|all| all.get(name)?.as_bool()).unwrap_or(false)
    }
}

impl Connection {
    /// Connects and logs in: to the addresses in order, beginning anywhere. Needs a Tokio runtime.
    ///
    /// # Errors
    /// Why the last address tried did not work.
    pub async fn open(options: &ConnectOptions) -> Result<Connection, ConnectError> {
        let start = match options.addresses().len() {
            0 | 1 => 0,
            count => (getrandom::u32().unwrap_or(0) as usize) % count,
        };
        Connection::open_from(options, start).await.map(|(connection, _)| connection)
    }

    /// As [`Connection::open`], beginning at an address. Gives the number of the one that worked.
    pub(crate) async fn open_from(
        options: &ConnectOptions,
        start: usize,
    ) -> Result<(Connection, usize), ConnectError> {
        let (uris, tls_files) = match &options.targets {
            Targets::Memory { connector, .. } => {
                let opening = async { open_on(connect_memory(&**connector).await?, options, None).await };
                let opened = within(options.connect_timeout, options, "memory", opening).await?;
                return Ok((opened, 0));
            }
            Targets::Addresses { uris, tls_files } => (uris, tls_files),
        };
        let deadline = Instant::now() + options.connect_timeout;
        let mut last = ConnectError::Url { reason: "no address".to_owned() };
        for tried in 0..uris.len() {
            let at = (start + tried) % uris.len();
            let uri = &uris[at];
            // One address that swallows everything leaves time for the others.
            let share = deadline.duration_since(Instant::now()) / (uris.len() - tried) as u32;
            let opening =
                async { open_on(connect(options, uri, &tls_files[at]).await?, options, Some(uri)).await };
            match within(share, options, &uri.to_string(), opening).await {
                Ok(connection) => return Ok((connection, at)),
                Err(error) => last = error,
            }
            tracing::debug!(error = %last, "no connection");
        }
        Err(of_several(last, uris.len()))
    }

    /// A new channel.
    ///
    /// # Errors
    /// The connection is closed, or has as many channels as were agreed.
    pub async fn channel(&self) -> Result<Channel, ChannelError> {
        Channel::open(self).await
    }

    /// A new channel in confirm mode.
    ///
    /// # Errors
    /// As [`Connection::channel`].
    pub async fn confirm_channel(&self) -> Result<ConfirmChannel, ChannelError> {
        ConfirmChannel::open(self).await
    }

    /// How the broker introduced itself.
    pub fn server(&self) -> &ServerProperties {
        &self.handle.shared.server
    }

    /// Why the broker does not read publishes just now; `None` while it does.
    pub fn blocked(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.handle.shared.blocked.subscribe()
    }

    /// Whether it still works, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.shared().is_closing() && self.shared().closed().is_none()
    }

    /// Waits for its end. Everything in flight has been told by then.
    pub async fn closed(&self) -> Closed {
        self.handle.shared.until_closed().await
    }

    /// Says goodbye, after everything that was published, and waits for the answer for at most 5 s.
    pub async fn close(&self) {
        self.handle.shared.begin_close();
        self.closed().await;
    }

    /// A number that no other connection of this process has.
    pub fn local_id(&self) -> u64 {
        self.handle.shared.local_id
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = self.shared().closed();
        f.debug_struct("Connection").field("local_id", &self.local_id()).field("closed", &closed).finish()
    }
}

impl Drop for ConnectionHandle {
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

async fn within(
    time: Duration,
    options: &ConnectOptions,
    address: &str,
    opening: impl Future<Output = Result<Connection, ConnectError>>,
) -> Result<Connection, ConnectError> {
    let opened = tokio::time::timeout(time, opening).await;
    opened.unwrap_or_else(|_| {
        let timeout_ms = options.connect_timeout.as_millis().try_into().unwrap_or(u64::MAX);
        Err(ConnectError::TimedOut { address: address.to_owned(), timeout_ms })
    })
}

/// Logs in on a stream and starts the connection's task. `uri` is `None` in memory.
async fn open_on(
    halves: Halves,
    options: &ConnectOptions,
    uri: Option<&AmqpUri>,
) -> Result<Connection, ConnectError> {
    let Halves { mut reader, mut writer } = halves;
    let login = login(options, uri);
    let address = uri.map_or_else(|| "memory".to_owned(), ToString::to_string);
    let mut out = Vec::new();
    let mut handshake = Handshake::start(login.clone(), &mut out);
    let mut received = Vec::new();
    let (agreed, used) = loop {
        writer.write_all(&out).await.map_err(|error| unreachable_at(&address, &error))?;
        writer.flush().await.map_err(|error| unreachable_at(&address, &error))?;
        out.clear();
        let mut octets = [0; HANDSHAKE_READ_BYTES];
        let count = reader.read(&mut octets).await.map_err(|error| unreachable_at(&address, &error))?;
        if count == 0 {
            return Err(hung_up(address));
        }
        received.extend_from_slice(&octets[..count]);
        match handshake.receive(&received, &mut out) {
            Ok(Shake::Done(agreed, used)) => break (agreed, used),
            Ok(Shake::More(next, used)) => {
                handshake = next;
                received.drain(..used);
            }
            Err(error) => {
                let _best_effort = writer.write_all(&out).await;
                return Err(refusal(error, &login, address));
            }
        }
    };
    received.drain(..used);
    Ok(start(Halves { reader, writer }, options, agreed, received))
}

/// Brokers keep a dead letter's history in its headers, which may outgrow the frame that they came in; RabbitMQ
/// sends them all the same. Ending the connection would not help: the message comes again on the next one.
const HEADER_OVERRUN_MAX_BYTES: u32 = 64 << 10;

/// Starts the connection's task.
fn start(halves: Halves, options: &ConnectOptions, agreed: Agreed, received: Vec<u8>) -> Connection {
    let Agreed { server, limits: TuneLimits { channel_max, frame_max, heartbeat_s } } = agreed;
    let session = Session::new(Limits {
        channel_max,
        frame_max: frame_max.saturating_add(HEADER_OVERRUN_MAX_BYTES),
        message_max_bytes: options.message_max_bytes,
    });
    let outbox = Outbox::new(halves.writer, options.outbox_max_bytes, frame_max);
    let local_id = NEXT_LOCAL_ID.fetch_add(1, Ordering::Relaxed);
    let shared = Arc::new(Shared::new(session, outbox, server, local_id));
    let driver = Driver::new(shared.clone(), halves.reader, received, heartbeat_s);
    tokio::spawn(driver.run());
    Connection { handle: Arc::new(ConnectionHandle { shared }) }
}

fn login(options: &ConnectOptions, uri: Option<&AmqpUri>) -> Login {
    let in_memory = || match &options.targets {
        Targets::Memory { vhost, vouches: true, .. } => (String::new(), Proof::Certificate, vhost.clone()),
        Targets::Memory { vhost, .. } => guest(vhost),
        Targets::Addresses { .. } => guest("/"),
    };
    let of_uri = |uri: &AmqpUri| {
        let proof = match is_external(uri) {
            true => Proof::Certificate,
            false => Proof::Password(uri.password.clone()),
        };
        (uri.user.clone(), proof, uri.vhost.clone())
    };
    let (user, proof, vhost) = uri.map_or_else(in_memory, of_uri);
    let wish = TuneLimits {
        channel_max: options.channel_max,
        frame_max: options.frame_max,
        heartbeat_s: options.heartbeat_s,
    };
    Login { user, proof, vhost, name: options.name.clone(), wish }
}

fn guest(vhost: &str) -> (String, Proof, String) {
    ("guest".to_owned(), Proof::Password(Secret::from("guest")), vhost.to_owned())
}

fn refusal(error: HandshakeError, login: &Login, address: String) -> ConnectError {
    let (code, text, stage) = match error {
        HandshakeError::Protocol(reason) => return ConnectError::Protocol { address, reason },
        HandshakeError::Refused { code, text, stage } => (code, text, stage),
    };
    let (user, vhost) = (login.user.clone(), login.vhost.clone());
    match (ReplyCode(code), stage) {
        (ReplyCode::ACCESS_REFUSED, Stage::Login) => ConnectError::LoginRefused { user, address, text },
        (ReplyCode::NOT_ALLOWED, Stage::Vhost) if text.contains("not found") => {
            ConnectError::NoSuchVhost { vhost, address, text }
        }
        (ReplyCode::NOT_ALLOWED | ReplyCode::ACCESS_REFUSED, Stage::Vhost) => {
            ConnectError::VhostRefused { vhost, user, address, text }
        }
        _ => ConnectError::Closed(Closed::connection(By::Broker, code, &text)),
    }
}

fn hung_up(address: String) -> ConnectError {
    let reason = "it closed the connection during the handshake (a port for TLS wants amqps://)".to_owned();
    ConnectError::Unreachable { address, reason }
}

/// Says how many addresses were tried, where the network is to blame.
fn of_several(error: ConnectError, count: usize) -> ConnectError {
    match error {
        ConnectError::Unreachable { address, reason } if count > 1 => ConnectError::Unreachable {
            address,
            reason: format!("{reason} (the last of {count} addresses tried)"),
        },
        ConnectError::TimedOut { address, timeout_ms } if count > 1 => {
            let address = format!("{address} (the last of {count} addresses tried)");
            ConnectError::TimedOut { address, timeout_ms }
        }
        error => error,
    }
}
