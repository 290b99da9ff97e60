//! Paths of a management API. Names are percent-encoded, so that the virtual host `/` and a queue `../x` are one
//! segment each: `/api/queues/%2f/..%2fx`.

use std::fmt;

use leveret_wire::uri::percent_encode;

/// A path below `/api`, with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// The path of these segments, each a name as it is: `Path::of(&["queues", "/", "po box"])`.
    pub(crate) fn of(segments: &[&str]) -> Path {
        let start = Path { text: "/api".to_owned(), has_query: false };
        segments.iter().fold(start, |path, segment| path.segment(segment))
    }

    /// One more segment.
    #[must_use]
    pub(crate) fn segment(mut self, name: &str) -> Path {
        debug_assert!(!self.has_query, "the query comes last");
        self.text.push('/');
        match name {
            // Intermediaries and servers resolve these two, even where they are names.
            "." | ".." => self.text.push_str(&name.replace('.', "%2e")),
            name => self.text.push_str(&percent_encode(name)),
        }
        self
    }

    /// The path alone, for people.
    pub(super) fn without_query(&self) -> &str {
        self.text.split('?').next().unwrap_or_default()
    }

    /// One more parameter.
    #[must_use]
    pub(crate) fn query(mut self, name: &str, value: &str) -> Path {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(&percent_encode(name));
        self.text.push('=');
        self.text.push_str(&percent_encode(value));
        self
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_segment() {
        let check = |segments: &[&str], expected: &str| {
            assert_eq!(Path::of(segments).to_string(), expected);
        };
        check(&["overview"], "/api/overview");
        check(&["queues", "/", "po box"], "/api/queues/%2f/po%20box");
        check(&["queues", "a/b", "../x?y#z"], "/api/queues/a%2fb/..%2fx%3fy%23z");
        check(&["queues", "..", "."], "/api/queues/%2e%2e/%2e");
        check(&["users", "grüß\u{0}"], "/api/users/gr%c3%bc%c3%9f%00");
        let path = Path::of(&["queues"]).query("columns", "name,a.b").query("sort", "x&y");
        assert_eq!(path.to_string(), "/api/queues?columns=name%2ca.b&sort=x%26y");
        assert_eq!(path.without_query(), "/api/queues");
    }
}
