//! The lists of `leveret top` and their columns.

use serde_json::Value;

use super::poll::Sample;

/// One list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Queues,
    Connections,
    Services,
}

/// One column of a list.
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Where its value is, see [`crate::table::at`].
    pub(super) path: &'static str,
    /// Columns of the terminal. The first of a list takes what the others leave.
    pub(super) width: u16,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Count,
    /// Per second.
    Rate,
    /// Octets per second.
    Bytes,
    /// Shown as milliseconds.
    Microseconds,
}

const fn column(title: &'static str, path: &'static str, width: u16, kind: Kind) -> Column {
    Column { title, path, width, kind }
}

const QUEUES: &[Column] = &[
    column("QUEUE", "name", 0, Kind::Text),
    column("VHOST", "vhost", 6, Kind::Text),
    column("STATE", "state", 7, Kind::Text),
    column("READY", "messages_ready", 8, Kind::Count),
    column("UNACKED", "messages_unacknowledged", 8, Kind::Count),
    column("CONS", "consumers", 5, Kind::Count),
    column("IN/S", "message_stats.publish_details.rate", 7, Kind::Rate),
    column("OUT/S", "message_stats.deliver_get_details.rate", 7, Kind::Rate),
];

const CONNECTIONS: &[Column] = &[
    column("CONNECTION", "name", 0, Kind::Text),
    column("CLIENT", "user_provided_name", 14, Kind::Text),
    column("USER", "user", 8, Kind::Text),
    column("STATE", "state", 7, Kind::Text),
    column("CHAN", "channels", 4, Kind::Count),
    column("FROM/S", "recv_oct_details.rate", 7, Kind::Bytes),
    column("TO/S", "send_oct_details.rate", 7, Kind::Bytes),
];

const SERVICES: &[Column] = &[
    column("SERVICE", "name", 0, Kind::Text),
    column("VHOST", "vhost", 6, Kind::Text),
    column("WORK", "workers", 5, Kind::Count),
    column("CALLS/S", "request_rate", 8, Kind::Rate),
    column("P50 MS", "latency_us.p50", 7, Kind::Microseconds),
    column("P99 MS", "latency_us.p99", 7, Kind::Microseconds),
    column("OPEN", "in_flight", 6, Kind::Count),
    column("UNANSW", "unanswered", 7, Kind::Count),
    column("LATE", "late", 6, Kind::Count),
];

impl Tab {
    pub(super) const ALL: [Tab; 3] = [Tab::Queues, Tab::Connections, Tab::Services];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Queues => "Queues",
            Self::Connections => "Connections",
            Self::Services => "Services",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Queues => QUEUES,
            Self::Connections => CONNECTIONS,
            Self::Services => SERVICES,
        }
    }

    /// What is listed; `None` where the broker has no such list.
    pub(super) fn rows(self, sample: &Sample) -> Option<&[Value]> {
        match self {
            Self::Queues => Some(&sample.queues),
            Self::Connections => Some(&sample.connections),
            Self::Services => sample.services.as_deref(),
        }
    }
}
