//! What can go wrong with a management API, and which exit code it has.

use std::fmt;

use crate::failure::Failure;

/// Why a request to a management API has no answer, or not the one that was hoped for. None of them quotes a
/// password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManagementError {
    /// What was given is no address of a management API; nothing was sent.
    Address(String),
    /// No connection, no TLS, or no answer in time. A request that was under way may have been carried out.
    Unreachable { address: String, reason: String },
    /// 401: not logged in, or not allowed to.
    Unauthorized { reason: String },
    /// 404: no such thing, or no such path on this broker.
    NotFound { reason: String },
    /// Another 4xx: the broker understood and refused.
    Refused { status: u16, reason: String },
    /// 5xx, or what no management API answers.
    Failed { status: u16, reason: String },
    /// An answer that cannot be read: not JSON, of another shape, or too large.
    Unreadable { path: String, reason: String },
}

impl ManagementError {
    /// The error of an answer with this status, unless it is a success. `body` is RabbitMQ's
    /// `{"error":"bad_request","reason":"..."}`, or whatever a proxy says.
    pub(super) fn of_status(status: u16, body: &[u8]) -> Option<Self> {
        let reason = reason(body);
        match status {
            200..=299 => None,
            401 => Some(Self::Unauthorized { reason }),
            404 => Some(Self::NotFound { reason }),
            400..=499 => Some(Self::Refused { status, reason }),
            _ => Some(Self::Failed { status, reason }),
        }
    }
}

impl fmt::Display for ManagementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(what) => f.write_str(what),
            Self::Unreachable { address, reason } => write!(f, "no management API at {address}: {reason}"),
            Self::Unauthorized { reason } => write!(f, "not authorized: {reason}"),
            Self::NotFound { reason } => write!(f, "not found: {reason}"),
            Self::Refused { status, reason } => write!(f, "refused ({status}): {reason}"),
            Self::Failed { status, reason } => write!(f, "the broker failed ({status}): {reason}"),
            Self::Unreadable { path, reason } => write!(f, "the answer to {path} cannot be read: {reason}"),
        }
    }
}

impl std::error::Error for ManagementError {}

/// 2 for an address that is none, 6 for nobody there, 1 for every answer that is not the one hoped for.
impl From<ManagementError> for Failure {
    fn from(error: ManagementError) -> Self {
        match error {
            ManagementError::Address(what) => Self::Usage(what),
            ManagementError::Unreachable { .. } => Self::Connection(error.to_string()),
            error => Self::Other(error.into()),
        }
    }
}

/// The longest reason that is shown, in characters: a proxy may answer with a page of HTML.
const REASON_MAX: usize = 500;

fn reason(body: &[u8]) -> String {
    let parsed: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = match (&parsed["reason"], &parsed["error"]) {
        (serde_json::Value::String(reason), _) => reason.clone(),
        (serde_json::Value::Null, serde_json::Value::String(error)) => error.clone(),
        (serde_json::Value::Null, _) => String::from_utf8_lossy(body).trim().to_owned(),
        (reason, _) => reason.to_string(),
    };
    match text.chars().take(REASON_MAX).collect::<String>() {
        nothing if nothing.is_empty() => "no reason given".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_brokers() {
        let check = |status, body: &str, expected: &str| {
            let error = ManagementError::of_status(status, body.as_bytes()).unwrap();
            assert_eq!(error.to_string(), expected);
        };
        check(401, r#"{"error":"not_authorised","reason":"Login failed"}"#, "not authorized: Login failed");
        check(404, r#"{"error":"Object Not Found","reason":"Not Found"}"#, "not found: Not Found");
        check(
            400,
            r#"{"error":"bad_request","reason":"inequivalent arg"}"#,
            "refused (400): inequivalent arg",
        );
        check(405, "", "refused (405): no reason given");
        check(400, r#"{"error":"not_json"}"#, "refused (400): not_json");
        check(503, r#"{"status":"failed","reason":["a","b"]}"#, r#"the broker failed (503): ["a","b"]"#);
        check(502, "<html>Bad gateway</html>", "the broker failed (502): <html>Bad gateway</html>");
        assert_eq!(ManagementError::of_status(204, b""), None);
    }
}
