//! Where the broker is, and whom to be there.

use crate::transport::Tls;
use crate::{Error, Result};
use leveret_wire::uri::AmqpUri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

const REACHED_WITHIN: Duration = Duration::from_secs(2);

/// A broker's address, looked up once: no name is resolved while something is measured.
#[derive(Clone)]
pub struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) vhost: String,
    /// What SASL PLAIN sends.
    pub(crate) plain: Vec<u8>,
    /// None for a bare socket.
    pub(crate) tls: Option<Tls>,
}

impl Target {
    /// Reads `amqp://USER:PASSWORD@HOST:PORT/VHOST`. Parameters are not looked at.
    ///
    /// # Errors
    /// [`Error::Plan`] for what is no such URL, for `amqps` (see [`Target::parse_secure`]) and for names of over 255
    /// octets; [`Error::Socket`] when the host is not known.
    pub fn parse(url: &str) -> Result<Target> {
        let uri = read(url)?;
        match uri.tls {
            true => Err(Error::Plan("amqps:// needs to know whom to trust".to_owned())),
            false => Target::at(uri, None),
        }
    }

    /// Reads `amqps://USER:PASSWORD@HOST:PORT/VHOST`; the broker's certificate must be one of HOST that `config`
    /// trusts.
    ///
    /// # Errors
    /// As of [`Target::parse`], for `amqp` and for a host that no certificate can be of.
    pub fn parse_secure(url: &str, config: Arc<ClientConfig>) -> Result<Target> {
        let uri = read(url)?;
        if !uri.tls {
            return Err(Error::Plan("this URL does not ask for TLS; amqps:// does".to_owned()));
        }
        let name = ServerName::try_from(uri.host.clone());
        let name =
            name.map_err(|_| Error::Plan(format!("{:?} is no name that a certificate has", uri.host)))?;
        Target::at(uri, Some(Tls { config, name }))
    }

    fn at(uri: AmqpUri, tls: Option<Tls>) -> Result<Target> {
        if uri.vhost.len() > 255 {
            return Err(Error::Plan("the name of the virtual host has more than 255 octets".to_owned()));
        }
        let addresses = (uri.host.as_str(), uri.port).to_socket_addrs();
        let addresses: Vec<_> = addresses.map_err(Error::socket("looking up the host"))?.collect();
        let address = reachable(&addresses).or(addresses.first().copied());
        let address = address.ok_or_else(|| Error::Plan("the host has no address".to_owned()))?;
        let plain = [b"\0", uri.user.as_bytes(), b"\0", uri.password.expose()].concat();
        Ok(Target { address, vhost: uri.vhost, plain, tls })
    }

    /// The user `guest` at the virtual host `/`.
    pub fn guest(address: SocketAddr) -> Target {
        Target { address, vhost: "/".to_owned(), plain: b"\0guest\0guest".to_vec(), tls: None }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Of several the first that somebody listens on: `localhost` is `::1` too, and few brokers are there.
fn reachable(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let listens = |address: &&SocketAddr| TcpStream::connect_timeout(address, REACHED_WITHIN).is_ok();
    match addresses {
        [only] => Some(*only),
        several => several.iter().find(listens).copied(),
    }
}

fn read(url: &str) -> Result<AmqpUri> {
    AmqpUri::parse(url).map_err(|error| Error::Plan(error.to_string()))
}

/// Never the password.
impl fmt::Debug for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Target({}/{})", self.address, self.vhost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_targets() {
        let target = Target::parse("amqp://me:se%3Acret@127.0.0.1:5673/a%2fb").unwrap();
        assert_eq!((target.address.port(), target.vhost.as_str()), (5673, "a/b"));
        assert_eq!(target.plain, b"\0me\0se:cret");
        assert!(!format!("{target:?}").contains("cret"));
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        assert_eq!(reachable(&[nobody, open]), Some(open));
        for wrong in ["http://x", "amqps://127.0.0.1", "amqp://127.0.0.1:0"] {
            assert!(matches!(Target::parse(wrong), Err(Error::Plan(_))), "{wrong}");
        }
    }
}
