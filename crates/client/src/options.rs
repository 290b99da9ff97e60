//! Where to connect, and how.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use leveret_wire::AmqpUri;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::ConnectError;

/// Time to connect, over all addresses.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The largest message to accept, in octets.
const MESSAGE_MAX_BYTES: u64 = 128 << 20;
/// Unsent octets above which publishers wait.
const OUTBOX_MAX_BYTES: usize = 1 << 20;
/// What we ask for in connection.tune-ok.
const CHANNEL_MAX: u16 = 2047;

/// Addresses, credentials and limits of a connection.
///
/// ```
/// use leveret_client::ConnectOptions;
///
/// let options = ConnectOptions::parse("amqp://me:secret@a.example/%2f,amqps://b.example?heartbeat=5")?.name("site");
/// assert_eq!(options.addresses().len(), 2);
/// assert!(!format!("{options:?}").contains("secret"));
/// assert!(ConnectOptions::parse("amqp://a?haertbeat=5").unwrap_err().to_string().contains("'haertbeat'"));
/// # Ok::<(), leveret_client::ConnectError>(())
/// ```
#[derive(Clone)]
pub struct ConnectOptions {
    pub(crate) targets: Targets,
    pub(crate) name: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) heartbeat_s: u16,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) message_max_bytes: u64,
    pub(crate) outbox_max_bytes: usize,
    pub(crate) backoff: Backoff,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

/// Who is at the other end.
#[derive(Clone)]
pub(crate) enum Targets {
    Addresses {
        uris: Vec<AmqpUri>,
        tls_files: Vec<TlsFiles>,
    },
    /// With a connector that vouches for the user, the login is EXTERNAL.
    Memory {
        connector: Arc<dyn Connector>,
        vhost: String,
        vouches: bool,
    },
}

/// Files that an address names for TLS, PEM all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Whom to trust instead of the system's list.
    pub authorities: Option<PathBuf>,
    /// Who we are: the certificate chain.
    pub certificate: Option<PathBuf>,
    /// The private key that belongs to it.
    pub key: Option<PathBuf>,
}

/// How long to wait before connecting again: a random time (full jitter) below a bound that doubles from
/// `min` to `max`, so that a thousand clients of a restarted broker do not come in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first bound.
    pub min: Duration,
    /// The last bound.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { min: Duration::from_millis(50), max: Duration::from_secs(5) }
    }
}

/// Makes connections that are not sockets, e.g. to a broker in the same process.
pub trait Connector: Send + Sync {
    /// A new stream of octets to the broker.
    fn connect(&self) -> Connecting<'_>;
}

/// A stream on its way.
pub type Connecting<'c> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send + 'c>>;

/// A stream of octets in both directions.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl ConnectOptions {
    /// One or several addresses, separated by commas (a comma separates only before a scheme). Parameters:
    /// `heartbeat` (s), `connection_timeout` (ms), `channel_max`, `frame_max` (octets), which count for all
    /// addresses, the last one wins; `cacertfile`, `certfile`, `keyfile` (PEM), for their address;
    /// `verify=verify_peer`, which is always so; `auth_mechanism`: `plain`, or `external` to log in by the client's
    /// certificate instead of a password (over `amqps://`).
    ///
    /// # Errors
    /// [`ConnectError::Url`], which names an unknown parameter, and never the password.
    pub fn parse(urls: &str) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::defaults(Targets::Addresses { uris: vec![], tls_files: vec![] });
        let (mut uris, mut tls_files) = (Vec::new(), Vec::new());
        for url in split_addresses(urls) {
            let uri = AmqpUri::parse(url.trim())?;
            let mut files = TlsFiles::default();
            for (name, value) in &uri.parameters {
                options.set(&mut files, name, value)?;
            }
            if files.certificate.is_some() != files.key.is_some() {
                return Err(refuse("certfile and keyfile only make sense together"));
            }
            if !uri.tls && is_external(&uri) {
                return Err(refuse("auth_mechanism=external needs amqps://"));
            }
            if !uri.tls && files != TlsFiles::default() {
                return Err(refuse("cacertfile, certfile and keyfile need amqps://"));
            }
            uris.push(uri);
            tls_files.push(files);
        }
        options.targets = Targets::Addresses { uris, tls_files };
        Ok(options)
    }

    /// Streams from a connector, as user `guest` with password `guest`, virtual host `/` unless
    /// [another](Self::vhost) is named.
    pub fn memory(connector: Arc<dyn Connector>) -> ConnectOptions {
        ConnectOptions::defaults(Targets::Memory { connector, vhost: "/".to_owned(), vouches: false })
    }

    /// As [`Self::memory`], as the user for whom the connector vouches at the other end: without a password.
    pub fn vouched(connector: Arc<dyn Connector>) -> ConnectOptions {
        ConnectOptions::defaults(Targets::Memory { connector, vhost: "/".to_owned(), vouches: true })
    }

    /// Another virtual host than the addresses name, at all of them.
    #[must_use]
    pub fn vhost(mut self, name: &str) -> Self {
        match &mut self.targets {
            Targets::Addresses { uris, .. } => uris.iter_mut().for_each(|uri| uri.vhost = name.to_owned()),
            Targets::Memory { vhost, .. } => *vhost = name.to_owned(),
        }
        self
    }

    /// What the broker's operator sees.
    #[must_use]
    pub fn name(self, connection_name: &str) -> Self {
        ConnectOptions { name: Some(connection_name.to_owned()), ..self }
    }

    /// Time to connect and log in, over all addresses. Default: 10 s.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        ConnectOptions { connect_timeout: timeout, ..self }
    }

    /// Time between signs of life, rounded up to seconds; a peer silent for twice as long is lost. 0 is off.
    /// Default: 10 s, or less if the broker wants so.
    #[must_use]
    pub fn heartbeat(self, interval: Duration) -> Self {
        let seconds = interval.as_secs() + u64::from(interval.subsec_nanos() > 0);
        ConnectOptions { heartbeat_s: seconds.try_into().unwrap_or(u16::MAX), ..self }
    }

    /// Cryptography, trust and client certificates. Default: the installed rustls provider and the system's
    /// certificates, or the files that the address names.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(self, config: Arc<rustls::ClientConfig>) -> Self {
        ConnectOptions { tls: Some(config), ..self }
    }

    /// The largest message to accept, in octets; a larger delivery ends the connection. Default: 128 MiB.
    #[must_use]
    pub fn message_bytes_max(self, bytes: u64) -> Self {
        ConnectOptions { message_max_bytes: bytes, ..self }
    }

    /// Unsent octets above which publishers wait. Default: 1 MiB.
    #[must_use]
    pub fn outbox_bytes_max(self, bytes: usize) -> Self {
        ConnectOptions { outbox_max_bytes: bytes.max(1), ..self }
    }

    /// How a [`Link`](crate::Link) waits between attempts. Default: 50 ms to 5 s.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        ConnectOptions { backoff, ..self }
    }

    /// The addresses in order; none for [`ConnectOptions::memory`].
    pub fn addresses(&self) -> &[AmqpUri] {
        match &self.targets {
            Targets::Addresses { uris, .. } => uris,
            Targets::Memory { .. } => &[],
        }
    }

    fn defaults(targets: Targets) -> ConnectOptions {
        ConnectOptions {
            targets,
            name: None,
            connect_timeout: CONNECT_TIMEOUT,
            heartbeat_s: HEARTBEAT.as_secs() as u16,
            channel_max: CHANNEL_MAX,
            frame_max: leveret_wire::DEFAULT_FRAME_MAX,
            message_max_bytes: MESSAGE_MAX_BYTES,
            outbox_max_bytes: OUTBOX_MAX_BYTES,
            backoff: Backoff::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    fn set(&mut self, files: &mut TlsFiles, name: &str, value: &str) -> Result<(), ConnectError> {
        match name {
            "heartbeat" => self.heartbeat_s = number(name, value)?,
            "connection_timeout" => self.connect_timeout = Duration::from_millis(number(name, value)?),
            "channel_max" => self.channel_max = number(name, value)?,
            "frame_max" => self.frame_max = number(name, value)?,
            "cacertfile" => files.authorities = Some(value.into()),
            "certfile" => files.certificate = Some(value.into()),
            "keyfile" => files.key = Some(value.into()),
            "auth_mechanism" if ["plain", "amqplain", "external"].contains(&value) => {}
            "auth_mechanism" => return Err(refuse("auth_mechanism is none of plain, amqplain, external")),
            "verify" if value == "verify_peer" => {}
            "verify" => {
                return Err(refuse("the peer is always verified; name its authority with cacertfile"));
            }
            _ => return Err(refuse(&format!("unknown parameter '{name}'"))),
        }
        Ok(())
    }
}

impl FromStr for ConnectOptions {
    type Err = ConnectError;

    fn from_str(urls: &str) -> Result<ConnectOptions, ConnectError> {
        ConnectOptions::parse(urls)
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("addresses", &self.addresses())
            .field("name", &self.name)
            .field("connect_timeout", &self.connect_timeout)
            .field("heartbeat_s", &self.heartbeat_s)
            .finish_non_exhaustive()
    }
}

/// Whether the user is whom the client's certificate names.
pub(crate) fn is_external(uri: &AmqpUri) -> bool {
    uri.parameter("auth_mechanism") == Some("external")
}

/// A comma may be part of a password or a parameter, but not in front of a scheme.
fn split_addresses(urls: &str) -> Vec<&str> {
    let mut addresses = Vec::new();
    let mut start = 0;
    for (at, _) in urls.match_indices(',') {
        let next = urls[at + 1..].trim_start().to_ascii_lowercase();
        if next.starts_with("amqp://") || next.starts_with("amqps://") {
            addresses.push(&urls[start..at]);
            start = at + 1;
        }
    }
    addresses.push(&urls[start..]);
    addresses
}

fn number<N: FromStr>(name: &str, value: &str) -> Result<N, ConnectError> {
    value.parse().map_err(|_| refuse(&format!("parameter '{name}' is not a number in its range")))
}

fn refuse(reason: &str) -> ConnectError {
    ConnectError::Url { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(urls: &str, expected: Result<&[&str], &str>) {
        let found = ConnectOptions::parse(urls).map_err(|error| error.to_string());
        let found =
            found.map(|options| options.addresses().iter().map(ToString::to_string).collect::<Vec<_>>());
        let expected = expected.map(|all| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(found, expected.map_err(|reason| format!("unusable broker address: {reason}")), "{urls}");
    }

    #[test]
    fn addresses_are_split_before_a_scheme_only() {
        check("amqp://", Ok(&["amqp://guest@localhost:5672/%2f"]));
        check("amqp://a,amqps://b", Ok(&["amqp://guest@a:5672/%2f", "amqps://guest@b:5671/%2f"]));
        check("amqp://a , AMQP://b", Ok(&["amqp://guest@a:5672/%2f", "amqp://guest@b:5672/%2f"]));
        check("amqp://u:a,b@h", Ok(&["amqp://u@h:5672/%2f"]));
    }

    #[test]
    fn what_is_no_address_is_named() {
        check("localhost", Err("the URI must start with amqp:// or amqps://"));
        check("amqp://a,amqps://b:x", Err("the port in the URI is not a number from 1 to 65535"));
        check("amqp://a?haertbeat=3", Err("unknown parameter 'haertbeat'"));
        check("amqp://a?heartbeat=70000", Err("parameter 'heartbeat' is not a number in its range"));
        let verified = "the peer is always verified; name its authority with cacertfile";
        check("amqps://a?verify=verify_none", Err(verified));
        check("amqps://a?certfile=c.pem", Err("certfile and keyfile only make sense together"));
        check("amqp://a?auth_mechanism=external", Err("auth_mechanism=external needs amqps://"));
        let unknown = "auth_mechanism is none of plain, amqplain, external";
        check("amqps://a?auth_mechanism=anonymous", Err(unknown));
        check("amqps://a?auth_mechanism=external", Ok(&["amqps://guest@a:5671/%2f"]));
        check("amqp://a?cacertfile=c.pem", Err("cacertfile, certfile and keyfile need amqps://"));
    }

    #[test]
    fn parameters_count() {
        let urls = "amqp://a?heartbeat=3&frame_max=8192,amqp://b?connection_timeout=250&channel_max=9&verify=verify_peer";
        let options = ConnectOptions::parse(urls).unwrap();
        assert_eq!((options.heartbeat_s, options.frame_max, options.channel_max), (3, 8192, 9));
        assert_eq!(options.connect_timeout, Duration::from_millis(250));
        assert_eq!(options.heartbeat(Duration::from_millis(1500)).heartbeat_s, 2);
    }

    #[test]
    fn another_virtual_host_counts_for_all_addresses() {
        let options = ConnectOptions::parse("amqp://a/x,amqp://b").unwrap().vhost("a/b");
        assert!(options.addresses().iter().all(|uri| uri.vhost == "a/b"));
    }

    #[test]
    fn no_password_is_shown() {
        let options = ConnectOptions::parse("amqp://u:canary@h").unwrap();
        assert!(!format!("{options:?}").contains("canary"));
    }
}
