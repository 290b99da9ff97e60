//! What an operation answers when it refuses.
//!
//! A [`Refusal`] says how far the damage reaches ([`Scope`]) and in which words. RabbitMQ's reply code decides
//! both the scope and who is to blame: soft codes close the channel and are the user's mistake, hard codes
//! close the connection and are the peer's (5xx but 541) or ours (541).

use std::fmt;

use leveret_store::StoreFailed;
use leveret_wire::{EncodeError, ReplyCode, WireError};

/// How much has to be closed because of a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The channel; other channels of the connection go on.
    Channel,
    /// The whole connection.
    Connection,
}

/// Whose fault it is; decides the log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// A request that cannot be served as things are: missing queue, no permission, wrong arguments.
    User,
    /// The client broke the protocol.
    Peer,
    /// The broker or the machine below it failed.
    Us,
}

/// An operation was refused. `Display` gives the reply text of AMQP: `NOT_FOUND - no queue 'q' in vhost '/'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The AMQP reply code.
    pub code: ReplyCode,
    /// The explanation, without the code's name.
    pub explanation: String,
}

impl Refusal {
    /// A refusal with any code.
    pub fn new(code: ReplyCode, explanation: impl Into<String>) -> Self {
        Self { code, explanation: explanation.into() }
    }

    /// 404.
    pub fn not_found(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::NOT_FOUND, explanation)
    }

    /// 320: the broker's own wish.
    pub fn forced(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::CONNECTION_FORCED, explanation)
    }

    /// 403.
    pub fn access(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::ACCESS_REFUSED, explanation)
    }

    /// 405.
    pub fn locked(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::RESOURCE_LOCKED, explanation)
    }

    /// 406.
    pub fn precondition(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::PRECONDITION_FAILED, explanation)
    }

    /// 530.
    pub fn not_allowed(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::NOT_ALLOWED, explanation)
    }

    /// 540.
    pub fn not_implemented(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::NOT_IMPLEMENTED, explanation)
    }

    /// 541: our own fault.
    pub fn internal(explanation: impl Into<String>) -> Self {
        Self::new(ReplyCode::INTERNAL_ERROR, explanation)
    }

    /// What must be closed.
    pub fn scope(&self) -> Scope {
        if self.code.is_hard() { Scope::Connection } else { Scope::Channel }
    }

    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self.code {
            ReplyCode::INTERNAL_ERROR => Blame::Us,
            code if code.is_hard() => Blame::Peer,
            _ => Blame::User,
        }
    }

    /// The reply text for the wire: at most 255 octets, cut at a character and marked by three dots.
    pub fn reply_text(&self) -> String {
        WireError::new(self.code, self.explanation.clone()).reply_text()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.code.name(), self.explanation)
    }
}

impl std::error::Error for Refusal {}

/// Arguments that no AMQP client could have sent.
impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        Self::precondition(error.to_string())
    }
}

impl From<StoreFailed> for Refusal {
    fn from(failed: StoreFailed) -> Self {
        Self::internal(failed.to_string())
    }
}

/// `queue 'q' in vhost '/'`, the way RabbitMQ names a queue in every text.
pub(crate) fn queue_in(name: &str, vhost: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}

/// `exchange 'x' in vhost '/'`; the default exchange is shown without a name, as RabbitMQ does.
pub(crate) fn exchange_in(name: &str, vhost: &str) -> String {
    format!("exchange '{name}' in vhost '{vhost}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_scope_and_blame() {
        let check = |code, scope, blame| {
            let refusal = Refusal::new(code, "x");
            assert_eq!((refusal.scope(), refusal.blame()), (scope, blame), "{refusal}");
        };
        check(ReplyCode::NOT_FOUND, Scope::Channel, Blame::User);
        check(ReplyCode::PRECONDITION_FAILED, Scope::Channel, Blame::User);
        check(ReplyCode::NOT_ALLOWED, Scope::Connection, Blame::Peer);
        check(ReplyCode::INTERNAL_ERROR, Scope::Connection, Blame::Us);
    }

    #[test]
    fn a_long_text_is_cut_to_255_octets_at_a_character() {
        let text = Refusal::not_found("é".repeat(200)).reply_text();
        assert!(text.len() <= 255 && text.len() >= 254, "{}", text.len());
        assert!(text.starts_with("NOT_FOUND - é"));
    }
}
