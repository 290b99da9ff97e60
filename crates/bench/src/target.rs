//! Where the broker is, and whom to be there.

use crate::{Error, Result};
use leveret_wire::uri::AmqpUri;
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// A broker's address, looked up once: no name is resolved while something is measured.
#[derive(Clone)]
pub struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) vhost: String,
    /// What SASL PLAIN sends.
    pub(crate) plain: Vec<u8>,
}

impl Target {
    /// Reads `amqp://USER:PASSWORD@HOST:PORT/VHOST`. Parameters are not looked at.
    ///
    /// # Errors
    /// [`Error::Plan`] for what is no such URL, for `amqps` (the cost of encryption would be this tool's as much as
    /// the broker's) and for names of over 255 octets; [`Error::Socket`] when the host is not known.
    pub fn parse(url: &str) -> Result<Target> {
        let uri = AmqpUri::parse(url).map_err(|error| Error::Plan(error.to_string()))?;
        if uri.tls {
            return Err(Error::Plan("amqps:// cannot be loaded: the load generator has no TLS".to_owned()));
        }
        if uri.vhost.len() > 255 {
            return Err(Error::Plan("the name of the virtual host has more than 255 octets".to_owned()));
        }
        let addresses = (uri.host.as_str(), uri.port).to_socket_addrs();
        let address = addresses.map_err(Error::socket("looking up the host"))?.next();
        let address = address.ok_or_else(|| Error::Plan("the host has no address".to_owned()))?;
        let plain = [b"\0", uri.user.as_bytes(), b"\0", uri.password.expose()].concat();
        Ok(Target { address, vhost: uri.vhost, plain })
    }

    /// The user `guest` at the virtual host `/`.
    pub fn guest(address: SocketAddr) -> Target {
        Target { address, vhost: "/".to_owned(), plain: b"\0guest\0guest".to_vec() }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
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
        for wrong in ["http://x", "amqps://127.0.0.1", "amqp://127.0.0.1:0"] {
            assert!(matches!(Target::parse(wrong), Err(Error::Plan(_))), "{wrong}");
        }
    }
}
