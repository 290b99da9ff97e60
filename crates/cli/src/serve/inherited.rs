//! Sockets that systemd opened for us (sd_listen_fds(3)): clients can connect while the broker still starts or restarts, and
//! ports below 1024 need no privilege.
//!
//! ```text
//!   leveret-amqp.socket   FileDescriptorName=amqp ─▶ descriptor 3 ─┐
//!   leveret-http.socket   FileDescriptorName=http ─▶ descriptor 4 ─┴▶ the listeners of `listen`, `http`, …
//! ```

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::net::sockopt::socket_acceptconn;

use crate::config::{Given, Origin};

const FIRST: RawFd = 3;
const VARIABLE: &str = "LISTEN_FDS";
/// Names that a descriptor may have, and the settings that they stand for.
const NAMES: [(&str, &str); 5] = [
    ("amqp", "listen"),
    ("amqps", "listen_tls"),
    ("http", "http"),
    ("https", "http_tls"),
    ("metrics", "metrics"),
];

/// Listeners that were open before the process began. Whoever listens on an address takes its own.
#[derive(Debug, Default)]
pub(super) struct Inherited(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    key: &'static str,
    address: SocketAddr,
    listener: TcpListener,
}

/// A socket that cannot be used: the unit has to be put right.
#[derive(Debug)]
pub(super) struct WrongSocket {
    number: RawFd,
    what: String,
}

impl fmt::Display for WrongSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VARIABLE}: descriptor {}: {}", self.number, self.what)
    }
}

impl std::error::Error for WrongSocket {}

impl Inherited {
    /// The sockets that were opened for this process. To be called once.
    ///
    /// # Errors
    /// A name that means nothing here, or something other than a listening TCP socket.
    pub(super) fn of_environment() -> Result<Inherited, WrongSocket> {
        let variable = |name| std::env::var(name).unwrap_or_default();
        if variable("LISTEN_PID") != std::process::id().to_string() {
            return Ok(Inherited::default());
        }
        let count = variable(VARIABLE).parse().unwrap_or(0);
        let names = variable("LISTEN_FDNAMES");
        let names = names.split(':').chain(std::iter::repeat(""));
        let numbered = (FIRST..FIRST.saturating_add(count)).zip(names);
        Ok(Inherited(numbered.map(|(number, name)| own(number, name)).collect::<Result<_, _>>()?))
    }

    /// The settings that they amount to: a socket is stronger than an address of the configuration.
    pub(super) fn settings(&self) -> Vec<Given> {
        let given = NAMES.iter().filter_map(|&(_, key)| {
            let sockets = self.0.iter().filter(|socket| socket.key == key);
            let texts: Vec<_> = sockets.map(|socket| socket.address.to_string()).collect();
            let origin = Origin::Variable(VARIABLE.to_owned());
            (!texts.is_empty()).then(|| Given { key: key.to_owned(), texts, origin })
        });
        given.collect()
    }

    /// The listener of an address, once.
    pub(super) fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|socket| socket.address == address)?;
        Some(self.0.swap_remove(place).listener)
    }

    /// All that nobody has taken.
    pub(super) fn take_rest(&mut self) -> Vec<TcpListener> {
        self.0.drain(..).map(|socket| socket.listener).collect()
    }
}

fn own(number: RawFd, name: &str) -> Result<Socket, WrongSocket> {
    let wrong = |what: String| WrongSocket { number, what };
    let Some(&(_, key)) = NAMES.iter().find(|(known, _)| *known == name) else {
        let names = NAMES.map(|(name, _)| name).join(", ");
        return Err(wrong(format!("its name is {name:?}; FileDescriptorName= is one of {names}")));
    };
    let link = std::fs::read_link(format!("/proc/self/fd/{number}"));
    if !link.is_ok_and(|link| link.to_string_lossy().starts_with("socket:")) {
        return Err(wrong("it is not an open socket".to_owned()));
    }
    let socket = own_descriptor(number);
    if !socket_acceptconn(&socket).unwrap_or(false) {
        return Err(wrong("it is not a listening socket".to_owned()));
    }
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().map_err(|_| wrong("it is not a TCP socket".to_owned()))?;
    listener.set_nonblocking(true).map_err(|error| wrong(error.to_string()))?;
    Ok(Socket { key, address, listener })
}

#[allow(unsafe_code)]
fn own_descriptor(number: RawFd) -> OwnedFd {
    // SAFETY: the descriptor is open, and `LISTEN_PID` says that it was made for this process to have; nothing else in here
    // knows its number, and each is taken once.
    unsafe { OwnedFd::from_raw_fd(number) }
}
