//! The part of a URL behind the `?`. A parameter that nobody knows is an error, not a wish that goes unheard.

use std::borrow::Cow;
use std::time::Duration;

use leveret_wire::uri::percent_decode;

use super::problem::Problem;
use crate::toolkit::duration;

/// The parameters of one request; each at most once.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it as forms write it: `a=b&c=d`, percent-encoded, `+` for a blank.
    pub(super) fn parse(text: Option<&str>, known: &[&str]) -> Result<Query, Problem> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                let name: String = name.chars().take(40).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::invalid(format!("no parameter `{name}` here; there is {known}")));
            }
            if parameters.iter().any(|(other, _)| *other == name) {
                return Err(Problem::invalid(format!("the parameter `{name}` comes twice")));
            }
            parameters.push((name, value));
        }
        Ok(Query(parameters))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `true`, `false`, or the name alone, which is `true`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true" | "") => Ok(true),
            Some(_) => Err(Problem::invalid(format!("{name} is true or false"))),
        }
    }

    /// At least one.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err(Problem::invalid(format!("{name} is a number from 1 up"))),
        }
    }

    pub(super) fn time(&self, name: &str) -> Result<Option<Duration>, Problem> {
        let time = self.text(name).map(duration).transpose();
        time.map_err(|reason| Problem::invalid(format!("{name}: {reason}")))
    }
}

fn decode(text: &str) -> Result<String, Problem> {
    let text = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let octets = percent_decode(&text);
    let octets = octets.map_err(|error| Problem::invalid(format!("the query of the URL: {error}")))?;
    String::from_utf8(octets).map_err(|_| Problem::invalid("the query of the URL is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Query, Problem> {
        Query::parse(Some(text), &["exchange", "key", "count", "silence", "fail_fast"])
    }

    #[test]
    fn parameters() {
        let query = parse("exchange=amq.topic&&key=a%2Fb+%C3%BC%2b&count=3&silence=50ms&fail_fast").unwrap();
        assert_eq!(query.text("exchange"), Some("amq.topic"));
        assert_eq!(query.text("key"), Some("a/b ü+"));
        assert_eq!(query.count("count"), Ok(Some(3)));
        assert_eq!(query.time("silence"), Ok(Some(Duration::from_millis(50))));
        assert_eq!(query.flag("fail_fast"), Ok(true));
        assert_eq!((query.text("x"), query.count("x"), query.time("x")), (None, Ok(None), Ok(None)));
        assert_eq!(Query::parse(None, &[]).unwrap().flag("fail_fast"), Ok(false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |outcome: Result<String, Problem>, words: &str| {
            let problem = outcome.unwrap_err().to_json().to_string();
            assert!(problem.contains(words), "{problem}");
        };
        let whole = |text| parse(text).map(|query| format!("{query:?}"));
        check(whole("exchnge=x"), "no parameter `exchnge` here; there is exchange, key");
        check(whole("key=a&key=b"), "`key` comes twice");
        check(whole("key=%f"), "two hexadecimal digits");
        check(whole("key=%ff"), "not UTF-8");
        let one = |text, read: fn(&Query) -> Result<String, Problem>| read(&parse(text).unwrap());
        check(one("count=0", |query| query.count("count").map(|count| format!("{count:?}"))), "from 1 up");
        check(one("silence=x", |query| query.time("silence").map(|time| format!("{time:?}"))), "silence: ");
        check(
            one("fail_fast=1", |query| query.flag("fail_fast").map(|flag| flag.to_string())),
            "true or false",
        );
    }
}
