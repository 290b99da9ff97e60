//! How long an HTTP client wants to wait, in whichever way it says so.
//!
//! | Header | Example | From |
//! |---|---|---|
//! | `X-Rpc-Timeout` | `500ms` | us |
//! | `grpc-timeout` | `500m` | gRPC over HTTP/2 |
//! | `Prefer` | `wait=5` | RFC 7240 |
//!
//! The first of them counts. More than the gateway allows is cut to what it allows, as a gRPC server does.

use std::time::Duration;

use axum::http::HeaderMap;

use super::problem::Problem;
use crate::toolkit::duration;

const TIMEOUT: &str = "x-rpc-timeout";
const GRPC_TIMEOUT: &str = "grpc-timeout";
const PREFER: &str = "prefer";

/// What `--timeout` and `--timeout-max` say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) default: Duration,
    pub(super) max: Duration,
}

impl Patience {
    /// The time from now to the deadline.
    pub(super) fn of(self, headers: &HeaderMap) -> Result<Duration, Problem> {
        let asked = match (text(headers, TIMEOUT)?, text(headers, GRPC_TIMEOUT)?) {
            (Some(text), _) => duration(text).map_err(|reason| wrong("X-Rpc-Timeout", text, &reason))?,
            (None, Some(text)) => grpc(text)
                .ok_or_else(|| wrong(GRPC_TIMEOUT, text, "up to 8 digits and one of H, M, S, m, u, n"))?,
            (None, None) => preferred(headers)?.unwrap_or(self.default),
        };
        if asked.is_zero() {
            return Err(Problem::invalid("the timeout is 0: no time to answer"));
        }
        Ok(asked.min(self.max))
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let text = headers.get(name).map(|value| value.to_str());
    text.transpose().map_err(|_| Problem::invalid(format!("the header {name} is no text")))
}

fn wrong(header: &str, text: &str, reason: &str) -> Problem {
    let text: String = text.chars().take(40).collect();
    Problem::invalid(format!("{header} `{text}`: {reason}"))
}

fn grpc(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=8).contains(&number.len()) && number.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Preferences we do not know are not ours to judge.
fn preferred(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let lines = headers.get_all(PREFER).iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split([',', ';']));
    let wait = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    let Some(seconds) = wait else { return Ok(None) };
    let parsed: Result<u32, _> = seconds.parse();
    let seconds = parsed.map_err(|_| wrong("Prefer: wait", seconds, "a number of seconds"))?;
    Ok(Some(Duration::from_secs(seconds.into())))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const PATIENCE: Patience = Patience { default: Duration::from_secs(30), max: Duration::from_secs(300) };

    fn of(headers: &[(&'static str, &'static str)]) -> Result<u128, String> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let timeout = PATIENCE.of(&headers).map_err(|problem| problem.to_json().to_string());
        timeout.map(|timeout| timeout.as_millis())
    }

    #[test]
    fn times_in_three_notations() {
        let check =
            |headers: &[_], expected_ms: u128| assert_eq!(of(headers), Ok(expected_ms), "{headers:?}");
        check(&[], 30_000);
        check(&[("x-rpc-timeout", "500ms")], 500);
        check(&[("x-rpc-timeout", "1h")], 300_000);
        check(&[("grpc-timeout", "500m")], 500);
        check(&[("grpc-timeout", "2S")], 2_000);
        check(&[("grpc-timeout", "99999999H")], 300_000);
        check(&[("grpc-timeout", "1M"), ("x-rpc-timeout", "1s")], 1_000);
        check(&[("prefer", "wait=10")], 10_000);
        check(&[("prefer", "respond-async, Wait = \"10\"; x=y")], 10_000);
        check(&[("prefer", "return=minimal")], 30_000);
    }

    #[test]
    fn what_is_no_time_is_named() {
        let check = |name: &'static str, value: &'static str, words: &str| {
            let problem = of(&[(name, value)]).unwrap_err();
            assert!(problem.contains(words), "{name}: {value}: {problem}");
        };
        check("x-rpc-timeout", "soon", "X-Rpc-Timeout `soon`: a time like 500ms");
        check("x-rpc-timeout", "-1s", "X-Rpc-Timeout");
        check("x-rpc-timeout", "0", "no time to answer");
        check("x-rpc-timeout", "", "X-Rpc-Timeout");
        for value in ["", "m", "500", "500x", "123456789m", "+1m", "1.5S"] {
            check("grpc-timeout", value, "grpc-timeout `");
        }
        check("prefer", "wait=long", "Prefer: wait `long`: a number");
        check("prefer", "wait=-1", "Prefer: wait");
        check("prefer", "wait=0", "no time to answer");
    }
}
