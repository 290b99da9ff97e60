//! Who may use the gateway.
//!
//! Without a token the gateway is for programs on the same machine, and a browser is one of them that does what strangers'
//! pages tell it. So a request without a token must be addressed to this machine (a page whose name was
//! redirected to 127.0.0.1 is not) and must not come from a page of another one.

use std::net::IpAddr;
use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use leveret_wire::Secret;
use subtle::{Choice, ConstantTimeEq};

use super::problem::Problem;
use crate::failure::Failure;

/// Who is let in.
#[derive(Debug)]
pub(super) enum Access {
    /// Who knows one of these. More than one, so that a token can be replaced while clients still use the old one.
    Tokens(Vec<Secret>),
    /// Programs on this machine.
    ThisMachine,
    /// Everybody: a proxy in front decides.
    Anybody,
}

impl Access {
    /// Reads a file of tokens, one a line.
    ///
    /// # Errors
    /// [`Failure::Usage`]: it cannot be read, or there is none in it.
    pub(super) fn read_tokens(file: &Path) -> Result<Access, Failure> {
        let usage = |what: &str| Failure::Usage(format!("--token {}: {what}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| usage(&error.to_string()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let tokens: Vec<Secret> = lines.map(Secret::from).collect();
        if tokens.is_empty() {
            return Err(usage("there is no token in it"));
        }
        Ok(Access::Tokens(tokens))
    }

    /// Whether other machines may be listened to.
    pub(super) fn is_for_networks(&self) -> bool {
        !matches!(self, Access::ThisMachine)
    }

    /// Lets a request in or says why not.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Access::Anybody => Ok(()),
            Access::Tokens(tokens) => match bearer(headers) {
                Some(given) if is_known(tokens, given) => Ok(()),
                _ => Err(Problem::unauthenticated()),
            },
            Access::ThisMachine => is_from_this_machine(headers),
        }
    }
}

/// The scheme's name has no case (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Compares with all of them, each in constant time: how long it takes tells nothing about a token but its length.
fn is_known(tokens: &[Secret], given: &[u8]) -> bool {
    let known = tokens.iter().fold(Choice::from(0), |known, token| known | token.expose().ct_eq(given));
    known.into()
}

fn is_from_this_machine(headers: &HeaderMap) -> Result<(), Problem> {
    // Programs that speak HTTP/1.0 send no Host; browsers always do.
    let to_us = headers.get(HOST).is_none_or(|host| host.to_str().is_ok_and(is_this_machine));
    let from_us = headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        origin.split_once("://").is_some_and(|(_scheme, authority)| is_this_machine(authority))
    });
    match to_us && from_us {
        true => Ok(()),
        false => {
            Err(Problem::forbidden("without --token this gateway serves programs on its own machine only"))
        }
    }
}

/// Whether `HOST[:PORT]` is a name of this machine that no stranger can give away.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn check(access: &Access, headers: &[(&'static str, &'static str)], expected_status: u16) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let status = access.check(&headers).err().map_or(200, |problem| problem.status.as_u16());
        assert_eq!(status, expected_status, "{headers:?}");
    }

    fn read(text: &str) -> Result<Access, Failure> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Access::read_tokens(file.path())
    }

    #[test]
    fn a_token_must_be_known() {
        let access = read("first\n\n  second \r\n").unwrap();
        check(&access, &[("authorization", "Bearer first")], 200);
        check(&access, &[("authorization", "bearer second")], 200);
        check(&access, &[("authorization", "Bearer  second")], 200);
        check(&access, &[("authorization", "Bearer")], 401);
        check(&access, &[("authorization", "Bearer ")], 401);
        check(&access, &[("authorization", "Bearer firs")], 401);
        check(&access, &[("authorization", "Bearer first second")], 401);
        check(&access, &[("authorization", "Basic first")], 401);
        check(&access, &[], 401);
        assert!(!format!("{access:?}").contains("first"));
    }

    #[test]
    fn a_file_without_a_token_lets_nobody_in() {
        for text in ["", "\n \n"] {
            assert!(matches!(read(text), Err(Failure::Usage(_))), "{text:?}");
        }
        let missing = Access::read_tokens(Path::new("/nonexistent/token"));
        assert!(missing.unwrap_err().to_string().contains("/nonexistent/token: No such file"));
    }

    #[test]
    fn pages_of_others_are_kept_out() {
        let access = Access::ThisMachine;
        check(&access, &[("host", "127.0.0.1:8080")], 200);
        check(&access, &[("host", "localhost:8080"), ("origin", "http://localhost:3000")], 200);
        check(&access, &[("host", "[::1]:8080")], 200);
        check(&access, &[], 200);
        check(&access, &[("host", "rebound.example:8080")], 403);
        check(&access, &[("host", "127.0.0.1.example")], 403);
        check(&access, &[("host", "localhost"), ("origin", "http://evil.example")], 403);
        check(&access, &[("host", "localhost"), ("origin", "null")], 403);
        check(&Access::Anybody, &[("host", "any"), ("origin", "null")], 200);
    }
}
