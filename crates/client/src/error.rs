//! What can go wrong, and whose doing it was. Every error is one line that names the thing it is about.

use std::fmt;
use std::sync::Arc;

use leveret_wire::{EncodeError, UriError};

/// What ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One channel; the connection goes on.
    Channel,
    /// The connection with all its channels.
    Connection,
}

/// Who ended it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// This side: it was asked to close, or the broker broke the protocol.
    Us,
    /// The broker said so.
    Broker,
    /// Nobody said anything: the network, or a process that died.
    Network,
}

/// The end of a channel or a connection. Everything that was in flight on it ended with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// What ended.
    pub scope: Scope,
    /// Who ended it.
    pub by: By,
    /// AMQP's reply code, 0 if nobody said one.
    pub code: u16,
    /// The reply text, or what was observed.
    pub text: Arc<str>,
}

impl Closed {
    pub(crate) fn connection(by: By, code: u16, text: &str) -> Closed {
        Closed { scope: Scope::Connection, by, code, text: text.into() }
    }

    pub(crate) fn channel(by: By, code: u16, text: &str) -> Closed {
        Closed { scope: Scope::Channel, by, code, text: text.into() }
    }

    /// Closed by this side, because it was asked to.
    pub(crate) fn is_wanted(&self) -> bool {
        self.by == By::Us && self.code == leveret_wire::ReplyCode::REPLY_SUCCESS.0
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.scope {
            Scope::Channel => "channel",
            Scope::Connection => "connection",
        };
        let text = one_line(&self.text);
        match (self.by, self.code) {
            (By::Network, _) => write!(f, "{what} lost: {text}"),
            (By::Us, 200) => write!(f, "{what} was closed here"),
            (By::Us, code) => write!(f, "{what} closed here: {code} {text}"),
            (By::Broker, code) => write!(f, "{what} closed by the broker: {code} {text}"),
        }
    }
}

impl std::error::Error for Closed {}

/// Why a connection could not be opened. With several addresses: why the last one failed.
#[derive(Debug, Clone)]
pub enum ConnectError {
    /// The address or a parameter of it cannot be used.
    Url {
        /// What is wrong with it; never the text of a part that may hold the password.
        reason: String,
    },
    /// There is nobody at this address.
    Unreachable {
        /// The address, without the password.
        address: String,
        /// What the operating system said, and how many addresses were tried.
        reason: String,
    },
    /// There was not enough time.
    TimedOut {
        /// The address, without the password.
        address: String,
        /// The time all addresses had together, in milliseconds.
        timeout_ms: u64,
    },
    /// The broker does not know this user with this password.
    LoginRefused {
        /// The user.
        user: String,
        /// The address, without the password.
        address: String,
        /// The broker's words.
        text: String,
    },
    /// The broker has no such virtual host.
    NoSuchVhost {
        /// Its name.
        vhost: String,
        /// The address, without the password.
        address: String,
        /// The broker's words.
        text: String,
    },
    /// The user may not use this virtual host.
    VhostRefused {
        /// Its name.
        vhost: String,
        /// The user.
        user: String,
        /// The address, without the password.
        address: String,
        /// The broker's words.
        text: String,
    },
    /// No secured connection: certificates, names, or no cryptography installed.
    Tls {
        /// The address, without the password.
        address: String,
        /// What failed, and the way out where there is one.
        reason: String,
    },
    /// The peer does not speak AMQP 0-9-1 as it should.
    Protocol {
        /// The address, without the password.
        address: String,
        /// What it did.
        reason: String,
    },
    /// The broker ended the connection while it was being opened.
    Closed(Closed),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Url { reason } => write!(f, "unusable broker address: {}", one_line(reason)),
            ConnectError::Unreachable { address, reason } => {
                write!(f, "no broker reachable at {address}: {}", one_line(reason))
            }
            ConnectError::TimedOut { address, timeout_ms } => {
                write!(f, "no connection to {address} within {timeout_ms} ms")
            }
            ConnectError::LoginRefused { user, address, text } => {
                write!(f, "login of user '{user}' refused at {address}: {}", one_line(text))
            }
            ConnectError::NoSuchVhost { vhost, address, text } => {
                write!(f, "no virtual host '{vhost}' at {address}: {}", one_line(text))
            }
            ConnectError::VhostRefused { vhost, user, address, text } => {
                write!(f, "user '{user}' may not use virtual host '{vhost}' at {address}: {}", one_line(text))
            }
            ConnectError::Tls { address, reason } => {
                write!(f, "no TLS connection to {address}: {}", one_line(reason))
            }
            ConnectError::Protocol { address, reason } => {
                write!(f, "{address} does not speak AMQP 0-9-1 properly: {}", one_line(reason))
            }
            ConnectError::Closed(closed) => write!(f, "not connected: {closed}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl From<UriError> for ConnectError {
    fn from(error: UriError) -> ConnectError {
        ConnectError::Url { reason: error.to_string() }
    }
}

/// Why an operation on a channel failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChannelError {
    /// The channel or its connection is closed. Whether the operation took effect is unknown.
    Closed(Closed),
    /// A value has no form on the wire. Nothing was sent.
    Encode(EncodeError),
    /// Arguments or properties do not fit a frame. Nothing was sent.
    FrameTooLarge {
        /// Octets of the frame.
        size_bytes: usize,
        /// What was agreed with the broker, in octets.
        max_bytes: u32,
    },
    /// The connection has as many channels as were agreed.
    TooManyChannels {
        /// How many.
        channel_max: u16,
    },
}

impl ChannelError {
    /// AMQP's reply code, e.g. 404 (no such queue) or 406 (it is not like that); `None` if no one said one.
    pub fn reply_code(&self) -> Option<u16> {
        match self {
            ChannelError::Closed(closed) if closed.code != 0 => Some(closed.code),
            _ => None,
        }
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelError::Closed(closed) => closed.fmt(f),
            ChannelError::Encode(error) => write!(f, "not sendable: {error}"),
            ChannelError::FrameTooLarge { size_bytes, max_bytes } => {
                write!(
                    f,
                    "not sendable: {size_bytes} octets of arguments or properties, a frame holds {max_bytes}"
                )
            }
            ChannelError::TooManyChannels { channel_max } => {
                write!(f, "all {channel_max} channels of the connection are in use; open another connection")
            }
        }
    }
}

impl std::error::Error for ChannelError {}

impl From<Closed> for ChannelError {
    fn from(closed: Closed) -> ChannelError {
        ChannelError::Closed(closed)
    }
}

impl From<EncodeError> for ChannelError {
    fn from(error: EncodeError) -> ChannelError {
        ChannelError::Encode(error)
    }
}

/// A broker's text may hold anything; an error is one line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &dyn std::error::Error, expected: &str) {
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn errors_are_one_line() {
        let forced = Closed::connection(By::Broker, 320, "CONNECTION_FORCED -\nbye");
        check(&forced, "connection closed by the broker: 320 CONNECTION_FORCED - bye");
        check(&Closed::connection(By::Network, 0, "reset"), "connection lost: reset");
        check(&Closed::channel(By::Us, 200, ""), "channel was closed here");
        check(&ConnectError::Closed(forced.clone()), &format!("not connected: {forced}"));
        check(
            &ChannelError::TooManyChannels { channel_max: 7 },
            "all 7 channels of the connection are in use; open another connection",
        );
        let missing = Closed::channel(By::Broker, 404, "NOT_FOUND - no queue 'q' in vhost '/'");
        assert_eq!(ChannelError::from(missing).reply_code(), Some(404));
        assert_eq!(ChannelError::from(Closed::channel(By::Network, 0, "")).reply_code(), None);
    }
}
