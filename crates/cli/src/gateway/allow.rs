//! What may be called through the gateway: patterns of service names, and of exchanges with their keys.
//!
//! `weather.*` allows services, `amq.topic/#.ohio` an exchange and a key. `*` stands for any characters, dots too. Names
//! that begin with `amq.` or `rpc.` belong to brokers and to the profile (reply queues, for one: who may publish
//! there may forge answers), so a `*` at the front does not reach them; a pattern that begins like them does.

use std::fmt;
use std::str::FromStr;

/// Prefixes of queues that are not services.
const RESERVED_SERVICES: [&str; 2] = ["amq.", "rpc."];
/// Prefixes of exchanges that are not for requests. `amq.topic` is.
const RESERVED_EXCHANGES: [&str; 1] = ["rpc."];

/// One `--allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    Service(String),
    Exchange { exchange: String, key: String },
}

/// All of them.
#[derive(Clone, Debug)]
pub(super) struct Allow {
    patterns: Vec<Pattern>,
}

impl Allow {
    /// These and nothing else; none: everything that is not reserved.
    pub(super) fn only(patterns: Vec<Pattern>) -> Allow {
        if !patterns.is_empty() {
            return Allow { patterns };
        }
        let everywhere = Pattern::Exchange { exchange: "*".to_owned(), key: "*".to_owned() };
        Allow { patterns: vec![Pattern::Service("*".to_owned()), everywhere] }
    }

    /// Whether the queue of this name may be asked.
    pub(super) fn service(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Service(pattern) => matches(pattern, name, &RESERVED_SERVICES),
            Pattern::Exchange { .. } => false,
        })
    }

    /// Whether this exchange may be asked with this key. The default exchange is asked by services' names.
    pub(super) fn exchange(&self, exchange: &str, key: &str) -> bool {
        if exchange.is_empty() {
            return self.service(key);
        }
        self.patterns.iter().any(|pattern| match pattern {
            Pattern::Service(_) => false,
            Pattern::Exchange { exchange: exchanges, key: keys } => {
                matches(exchanges, exchange, &RESERVED_EXCHANGES) && glob(keys, key)
            }
        })
    }
}

impl FromStr for Pattern {
    type Err = EmptyPattern;

    fn from_str(text: &str) -> Result<Pattern, EmptyPattern> {
        match text.split_once('/') {
            None if text.is_empty() => Err(EmptyPattern),
            Some(("", _)) => Err(EmptyPattern),
            None => Ok(Pattern::Service(text.to_owned())),
            Some((exchange, key)) => {
                Ok(Pattern::Exchange { exchange: exchange.to_owned(), key: key.to_owned() })
            }
        }
    }
}

/// A pattern without a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EmptyPattern;

impl fmt::Display for EmptyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SERVICE, or an EXCHANGE/KEY, where * is anything")
    }
}

impl std::error::Error for EmptyPattern {}

fn matches(pattern: &str, name: &str, reserved: &[&str]) -> bool {
    let shielded = reserved.iter().any(|prefix| name.starts_with(prefix) && !pattern.starts_with(prefix));
    !shielded && glob(pattern, name)
}

/// Greedy from left to right: the parts between the stars in order, the first and the last one at the ends.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(patterns: &str) -> Allow {
        Allow::only(patterns.split_whitespace().map(|pattern| pattern.parse().unwrap()).collect())
    }

    #[test]
    fn services() {
        let check = |patterns: &str, service: &str, expected| {
            assert_eq!(allow(patterns).service(service), expected, "{patterns}: {service}");
        };
        check("", "weather.ohio", true);
        check("", "ampersand", true);
        check("", "amq.gen-x", false);
        check("", "rpc.reply.x", false);
        check("*", "rpc.reply.x", false);
        check("rpc.*", "rpc.reply.x", true);
        check("*reply*", "rpc.reply.x", false);
        check("weather.*", "weather.ohio.columbus", true);
        check("weather.*", "weather", false);
        check("weather.*", "xweather.ohio", false);
        check("news weather.*", "news", true);
        check("news", "newsx", false);
        check("*.ohio", "a/b.ohio", true);
        check("amq.topic/*", "weather", false);
    }

    #[test]
    fn exchanges() {
        let check = |patterns: &str, exchange: &str, key: &str, expected| {
            assert_eq!(allow(patterns).exchange(exchange, key), expected, "{patterns}: {exchange}/{key}");
        };
        check("", "amq.topic", "news.ohio", true);
        check("", "rpc.ctl", "cancel.x", false);
        check("rpc.ctl/ping", "rpc.ctl", "ping", true);
        check("rpc.ctl/ping", "rpc.ctl", "pings", false);
        check("*", "amq.topic", "news.ohio", false);
        check("amq.topic/*.ohio", "amq.topic", "news.ohio", true);
        check("amq.topic/*.ohio", "amq.topic", "news.iowa", false);
        check("amq.topic/*.ohio", "amq.fanout", "news.ohio", false);
        check("", "", "weather", true);
        check("", "", "rpc.reply.x", false);
        check("*/*", "", "weather", false);
    }

    #[test]
    fn stars() {
        let check = |pattern, text, expected| assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        check("a*b*c", "abc", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "ac", false);
        check("a*a", "a", false);
        check("**", "", true);
        check("*é*", "caféteria", true);
        check("*ab", "aab", true);
        check("*ab*ab", "ab", false);
    }

    #[test]
    fn a_pattern_names_something() {
        for text in ["", "/key", "/"] {
            assert_eq!(text.parse::<Pattern>(), Err(EmptyPattern), "{text:?}");
        }
    }
}
