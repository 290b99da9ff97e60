//! What the log says of connections: who came, who was turned away, and why they went.

use leveret_broker::roster::{ConnectionRecord, Over};
use leveret_wire::ReplyCode;

/// Why a connection ended.
pub(crate) enum Ending<'a> {
    /// The client said goodbye.
    Goodbye,
    /// The broker closed it.
    Closed(ReplyCode, &'a str),
    /// The broker stops.
    Stop,
    /// The socket ended without a word.
    Gone,
}

/// A client opened a virtual host.
pub(crate) fn opened(record: &ConnectionRecord) {
    let (user, vhost, tls) = (&*record.user, &*record.vhost, record.introduction.tls.is_some());
    tracing::info!(connection = record.name, user, vhost, tls, "connection opened");
}

/// Its connection ended.
pub(crate) fn ended(record: &ConnectionRecord, why: &Ending<'_>) {
    let (connection, user) = (&record.name, &*record.user);
    match why {
        Ending::Goodbye => tracing::info!(connection, user, "connection closed by the client"),
        Ending::Closed(code, text) => {
            tracing::warn!(connection, user, code = code.0, text, "connection closed by the broker");
        }
        Ending::Stop => tracing::info!(connection, user, "connection closed: the broker stops"),
        Ending::Gone => tracing::warn!(connection, user, "client unexpectedly closed the TCP connection"),
    }
}

/// A client did not get as far as a virtual host.
pub(crate) fn turned_away(over: Over, code: ReplyCode, text: &str) {
    tracing::warn!(peer = name(over), code = code.0, text, "connection refused");
}

/// A client did not finish its handshake, or its goodbye, in time.
pub(crate) fn timed_out(over: Over) {
    tracing::info!(peer = name(over), "client took too long and was cut off");
}

fn name(over: Over) -> String {
    match over {
        Over::Tcp { peer, host } => format!("{peer} -> {host}"),
        Over::Memory => "memory".to_owned(),
        Over::Nothing => "unknown".to_owned(),
    }
}
