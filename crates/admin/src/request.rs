//! A request, as handlers see it: the names in its path, its query, its body, and who asks.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use leveret_broker::users::User;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Names are short strings in AMQP.
const NAME_MAX_BYTES: usize = 255;

/// A request that has been read whole. `Debug` shows who asks and how much was sent, but not what: passwords are in paths,
/// queries, headers and bodies.
pub(crate) struct Request {
    /// By the name in the route's path, percent-decoded.
    pub(crate) params: Vec<(&'static str, String)>,
    /// By name, percent-decoded, in the order given.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Who asks; nobody where [`Access::Open`](crate::Access::Open) lets everybody in.
    pub(crate) user: Option<Arc<User>>,
    pub(crate) peer: IpAddr,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.params.iter().map(|(name, _)| *name).collect();
        let mut shown = f.debug_struct("Request");
        shown.field("params", &names).field("peer", &self.peer).field("user", &self.user);
        shown.field("body_bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl Request {
    /// Who asks.
    ///
    /// # Errors
    /// 401 where nobody had to log in.
    pub(crate) fn caller(&self) -> Result<Arc<User>, ApiError> {
        self.user.clone().ok_or_else(|| ApiError::not_authorised("Login failed"))
    }

    /// A name of the path.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.param_if(name).unwrap_or_default()
    }

    /// A name of the path, if this path has it.
    pub(crate) fn param_if(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str())
    }

    /// A value of the query; the first where there are several.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.queries(name).first().copied()
    }

    /// All values that the query has for a name.
    pub(crate) fn queries(&self, name: &str) -> Vec<&str> {
        self.query.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }

    /// A header, where it is text.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the query says `name=true`.
    pub(crate) fn asks_for(&self, name: &str) -> bool {
        self.query(name) == Some("true")
    }

    /// The body as JSON of a known shape.
    ///
    /// # Errors
    /// 400, and what is wrong where.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => ApiError::bad_request(error.to_string()),
            _ => ApiError::bad_request(format!("not_json: {error}")),
        })
    }

    /// The same, where no body is the same as `{}`.
    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.body.trim_ascii().is_empty() { Ok(T::default()) } else { self.json() }
    }
}

/// Decodes one segment of a path. `None`: it is not percent-encoded UTF-8, or longer than a name.
pub(crate) fn decode_segment(segment: &str) -> Option<String> {
    decode(segment, false).filter(|name| name.len() <= NAME_MAX_BYTES)
}

/// Decodes a query string; what cannot be decoded is left out.
pub(crate) fn decode_query(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter_map(|(name, value)| Some((decode(name, true)?, decode(value, true)?))).collect()
}

fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' if plus_is_space => b' ',
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

fn hex(octet: u8) -> Option<u8> {
    char::from(octet).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_percent_encoded_names() {
        let check = |segment: &str, expected: Option<&str>| {
            assert_eq!(decode_segment(segment).as_deref(), expected, "{segment}");
        };
        check("%2F", Some("/"));
        check("%2f", Some("/"));
        check("a+b%20c", Some("a+b c"));
        check("..%2F..", Some("../.."));
        check("%00", Some("\0"));
        check("%", None);
        check("%4", None);
        check("%zz", None);
        check("%ff", None);
        check(&"n".repeat(256), None);
    }

    #[test]
    fn a_query_is_pairs_of_names_and_values() {
        let query = decode_query("a=1&a=2&b=x+y%26&&c&=d&e=%zz");
        let expected = [("a", "1"), ("a", "2"), ("b", "x y&"), ("c", ""), ("", "d")];
        assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
