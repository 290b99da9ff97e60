//! Why a call has no answer, as a caller can act on it.
//!
//! ```text
//!   never reached a worker                 reached one                    nobody can tell
//!   NoRoute  NoWorker  Busy  Overloaded    Remote  Rejected  Undecodable  ConnectionLost { may_have_run }
//!   Expired { ran: No }                                                   Expired { ran: Maybe }
//! ```

use std::fmt;

use leveret_client::Closed;

use crate::content::ContentError;
use crate::{Code, Failure};

/// Whether a worker may have begun the work of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// It waited in its queue to the end: asking again cannot do the work twice.
    No,
    /// A worker may have begun, and may have finished.
    Maybe,
}

/// Why a call has no answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallError {
    /// No queue takes requests for this service: it was never started here, or the name is wrong.
    NoRoute {
        /// The service that was called.
        service: String,
    },
    /// There is a queue, but no worker consumes it.
    NoWorker {
        /// The service that was called.
        service: String,
    },
    /// Every worker is at its limit, and the call did not want to wait ([`fail_fast`](crate::Call::fail_fast)).
    Busy {
        /// The service that was called.
        service: String,
    },
    /// The queue is full or the broker takes nothing at the moment.
    Overloaded {
        /// The service that was called.
        service: String,
        /// What is full.
        reason: String,
    },
    /// The deadline passed.
    Expired {
        /// The service that was called.
        service: String,
        /// Whether a worker may have begun.
        ran: Ran,
    },
    /// A worker refused the request without an answer, or it was given up after crashing workers.
    Rejected {
        /// The service that was called.
        service: String,
        /// `rejected` or `delivery_limit`.
        reason: String,
    },
    /// The service answered with an error.
    Remote(Failure),
    /// The connection ended before the answer.
    ConnectionLost {
        /// `false`: the request never left, or the broker never took it.
        may_have_run: bool,
        /// What ended it.
        reason: String,
    },
    /// The client was closed.
    Cancelled,
    /// There is an answer, but not of the type asked for.
    Undecodable(ContentError),
    /// The request cannot be sent as it is: a header, an id or a body without a form on the wire.
    Unsendable(String),
}

impl CallError {
    /// Whether the same request, with the same message id, may be sent again.
    pub fn is_retryable(&self) -> bool {
        match self {
            CallError::NoRoute { .. }
            | CallError::Expired { .. }
            | CallError::Rejected { .. }
            | CallError::Cancelled
            | CallError::Undecodable(_)
            | CallError::Unsendable(_) => false,
            CallError::NoWorker { .. }
            | CallError::Busy { .. }
            | CallError::Overloaded { .. }
            | CallError::ConnectionLost { .. } => true,
            CallError::Remote(failure) => failure.retryable,
        }
    }

    /// Whether no worker can have begun with the request: asking again cannot do the work twice.
    pub fn has_not_run(&self) -> bool {
        match self {
            CallError::NoRoute { .. }
            | CallError::NoWorker { .. }
            | CallError::Busy { .. }
            | CallError::Overloaded { .. }
            | CallError::Unsendable(_) => true,
            CallError::Expired { ran, .. } => *ran == Ran::No,
            CallError::ConnectionLost { may_have_run, .. } => !may_have_run,
            CallError::Rejected { .. }
            | CallError::Remote(_)
            | CallError::Cancelled
            | CallError::Undecodable(_) => false,
        }
    }

    /// The error that the service reported.
    pub fn remote(&self) -> Option<&Failure> {
        match self {
            CallError::Remote(failure) => Some(failure),
            _ => None,
        }
    }

    /// The nearest of gRPC's codes: for HTTP statuses, metrics, and services that pass the error on.
    pub fn code(&self) -> Code {
        match self {
            CallError::NoRoute { .. } | CallError::NoWorker { .. } | CallError::ConnectionLost { .. } => {
                Code::Unavailable
            }
            CallError::Busy { .. } | CallError::Overloaded { .. } => Code::ResourceExhausted,
            CallError::Expired { .. } => Code::DeadlineExceeded,
            CallError::Rejected { .. } => Code::Aborted,
            CallError::Remote(failure) => failure.code,
            CallError::Cancelled => Code::Cancelled,
            CallError::Undecodable(_) => Code::Internal,
            CallError::Unsendable(_) => Code::InvalidArgument,
        }
    }

    /// The name of the kind, for logs and metrics: `no_route`, `expired`, …
    pub fn kind(&self) -> &'static str {
        match self {
            CallError::NoRoute { .. } => "no_route",
            CallError::NoWorker { .. } => "no_worker",
            CallError::Busy { .. } => "busy",
            CallError::Overloaded { .. } => "overloaded",
            CallError::Expired { .. } => "expired",
            CallError::Rejected { .. } => "rejected",
            CallError::Remote(_) => "remote",
            CallError::ConnectionLost { .. } => "connection_lost",
            CallError::Cancelled => "cancelled",
            CallError::Undecodable(_) => "undecodable",
            CallError::Unsendable(_) => "unsendable",
        }
    }

    pub(crate) fn lost(closed: &Closed, may_have_run: bool) -> CallError {
        CallError::ConnectionLost { may_have_run, reason: closed.to_string() }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NoRoute { service } => {
                write!(
                    f,
                    "no queue takes requests for `{service}`; is the name right, was a worker ever started?"
                )
            }
            CallError::NoWorker { service } => write!(f, "no worker serves `{service}` at the moment"),
            CallError::Busy { service } => write!(f, "every worker of `{service}` is busy"),
            CallError::Overloaded { service, reason } => write!(f, "`{service}` is overloaded: {reason}"),
            CallError::Expired { service, ran: Ran::No } => {
                write!(f, "no worker of `{service}` took the request before its deadline; it has not run")
            }
            CallError::Expired { service, ran: Ran::Maybe } => {
                write!(f, "`{service}` did not answer before the deadline; the request may have run")
            }
            CallError::Rejected { service, reason } => write!(f, "`{service}` gave the request up: {reason}"),
            CallError::Remote(failure) => failure.fmt(f),
            CallError::ConnectionLost { may_have_run, reason } => {
                let ran = if *may_have_run { "the request may have run" } else { "the request has not run" };
                write!(f, "the connection was lost ({reason}); {ran}")
            }
            CallError::Cancelled => f.write_str("the client was closed"),
            CallError::Undecodable(error) => write!(f, "the answer does not decode: {error}"),
            CallError::Unsendable(reason) => write!(f, "the request cannot be sent: {reason}"),
        }
    }
}

impl std::error::Error for CallError {}

impl crate::IntoFailure for CallError {
    /// What a service tells its own caller when a call of its own failed.
    fn into_failure(self) -> Failure {
        match self {
            CallError::Remote(failure) => failure,
            error => Failure::new(error.code(), error.to_string()).retryable(error.is_retryable()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IntoFailure;

    #[test]
    fn a_nested_failure_passes_through_unchanged() {
        let failure = Failure::not_found("no such city").with_details(&"Oz");
        assert_eq!(CallError::Remote(failure.clone()).into_failure(), failure);
    }

    #[test]
    fn what_has_surely_not_run_says_so() {
        let error = CallError::ConnectionLost { may_have_run: false, reason: "gone".into() };
        assert!(error.to_string().ends_with("the request has not run"), "{error}");
        let error = CallError::Expired { service: "s".into(), ran: Ran::Maybe };
        assert!(error.to_string().ends_with("may have run"), "{error}");
    }
}
