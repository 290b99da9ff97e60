//! What a user may do in a virtual host: patterns over the names of queues and exchanges.
//!
//! As in RabbitMQ, a pattern matches anywhere in the name unless it is anchored, and the empty pattern means
//! `^$`, which no name matches. See [`crate::pattern`].

use regex::bytes::Regex;

use crate::pattern::{BadPattern, compile};

/// The three kinds of access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create and delete.
    Configure,
    /// Put messages in.
    Write,
    /// Take messages out.
    Read,
}

impl Operation {
    /// As in the texts: `configure`, `write`, `read`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// A user's permissions in one virtual host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl Permissions {
    /// Compiles the three patterns.
    ///
    /// # Errors
    /// One of them is no pattern, or too big.
    pub fn new(configure: &str, write: &str, read: &str) -> Result<Self, BadPattern> {
        Ok(Self {
            configure: Pattern::new(configure)?,
            write: Pattern::new(write)?,
            read: Pattern::new(read)?,
        })
    }

    /// Everything is allowed.
    pub fn all() -> Self {
        let any = Pattern { source: ".*".into(), matcher: Matcher::Everything };
        Self { configure: any.clone(), write: any.clone(), read: any }
    }

    /// Whether the operation is allowed on a queue or exchange of that name. The default exchange, whose name
    /// is empty, is called `amq.default` here.
    pub fn allows(&self, operation: Operation, name: &str) -> bool {
        let name = if name.is_empty() { "amq.default" } else { name };
        self.pattern_of(operation).matches(name)
    }

    /// The pattern as given.
    pub fn pattern(&self, operation: Operation) -> &str {
        &self.pattern_of(operation).source
    }

    fn pattern_of(&self, operation: Operation) -> &Pattern {
        match operation {
            Operation::Configure => &self.configure,
            Operation::Write => &self.write,
            Operation::Read => &self.read,
        }
    }
}

/// A user's restrictions on routing keys at one topic exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermissions {
    write: Pattern,
    read: Pattern,
}

impl TopicPermissions {
    /// Compiles the patterns. `{username}` and `{vhost}` in them stand for those names.
    ///
    /// # Errors
    /// One of them is no pattern, or too big.
    pub fn new(write: &str, read: &str, user: &str, vhost: &str) -> Result<Self, BadPattern> {
        let compile = |source: &str| {
            Ok(Pattern { source: source.into(), matcher: Matcher::new(&expand(source, user, vhost))? })
        };
        Ok(Self { write: compile(write)?, read: compile(read)? })
    }

    /// Whether a message with that key may be published, or the key bound. Configuring needs no key.
    pub fn allows(&self, operation: Operation, routing_key: &str) -> bool {
        match operation {
            Operation::Configure => true,
            Operation::Write => self.write.matches(routing_key),
            Operation::Read => self.read.matches(routing_key),
        }
    }

    /// The pattern for publishing, as given.
    pub fn write(&self) -> &str {
        &self.write.source
    }

    /// The pattern for binding, as given.
    pub fn read(&self) -> &str {
        &self.read.source
    }
}

/// The names are inserted as text, not as patterns: unlike in RabbitMQ, a user called `.*` gains nothing.
/// `{client_id}` exists only in MQTT and stands for itself.
fn expand(source: &str, user: &str, vhost: &str) -> String {
    source
        .replace("{client_id}", r"\{client_id\}")
        .replace("{username}", &regex::escape(user))
        .replace("{vhost}", &regex::escape(vhost))
}

#[derive(Clone, Debug)]
struct Pattern {
    source: Box<str>,
    matcher: Matcher,
}

/// Most users have the first two, which cost nothing.
#[derive(Clone, Debug)]
enum Matcher {
    Everything,
    OnlyEmpty,
    Regex(Regex),
}

impl Pattern {
    fn new(source: &str) -> Result<Self, BadPattern> {
        Ok(Self { source: source.into(), matcher: Matcher::new(source)? })
    }

    fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::OnlyEmpty => name.is_empty(),
            Matcher::Regex(regex) => regex.is_match(name.as_bytes()),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl Matcher {
    fn new(pattern: &str) -> Result<Self, BadPattern> {
        match pattern {
            "" | "^$" => Ok(Self::OnlyEmpty),
            ".*" | "^.*" | "^.*$" => Ok(Self::Everything),
            other => compile(other).map(Self::Regex),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, name: &str, expected: bool) {
        let permissions = Permissions::new(pattern, "", "").unwrap();
        assert_eq!(permissions.allows(Operation::Configure, name), expected, "{pattern:?} {name:?}");
        assert!(!permissions.allows(Operation::Write, name) && !permissions.allows(Operation::Read, name));
    }

    #[test]
    fn patterns_match_as_in_rabbitmq() {
        check("", "q", false);
        check("^$", "q", false);
        check(".*", "q", true);
        check(".*", "a\nb", true);
        check("a", "xay", true);
        check("^a", "xay", false);
        check("^(amq\\.gen.*|mine-.*)$", "amq.gen-x", true);
        check("^(amq\\.gen.*|mine-.*)$", "yours-1", false);
        check("amq\\.default", "", true);
        check("^$", "", false);
        check("^ü", "über", true);
        check("^[äü]ber$", "über", true);
        check("^\\w\\d$", "a1", true);
        check("^a{2}$", "aa", true);
    }

    #[test]
    fn unusable_patterns_are_refused_with_a_reason() {
        let refused = |pattern: &str| Permissions::new(".*", pattern, ".*").unwrap_err().to_string();
        assert_eq!(refused("^("), "invalid regular expression '^(': unclosed group");
        assert!(refused("^(?!secret).*").contains("look-around"), "{}", refused("^(?!secret).*"));
        assert!(refused("(a)\\1").contains("backreferences"), "{}", refused("(a)\\1"));
        assert!(refused("((a{100}){100}){100}").contains("size"), "{}", refused("((a{100}){100}){100}"));
        assert!(refused(&"a".repeat(5000)).ends_with("longer than 4096 octets"));
        assert!(refused(&"(".repeat(4000)).starts_with("invalid regular expression"));
    }

    #[test]
    fn hostile_patterns_match_in_linear_time() {
        let permissions = Permissions::new("^(a+)+$", "(.*)*(.*)*(.*)*b", "(x+x+)+y").unwrap();
        let name = "a".repeat(254) + "!";
        for operation in [Operation::Configure, Operation::Write, Operation::Read] {
            assert!(!permissions.allows(operation, &name));
        }
    }

    #[test]
    fn topic_patterns_expand_names_as_text() {
        let permissions = TopicPermissions::new("^{username}\\.{vhost}$", "{client_id}", "a.b", "/").unwrap();
        assert!(permissions.allows(Operation::Write, "a.b./"));
        assert!(!permissions.allows(Operation::Write, "axb./"));
        assert!(permissions.allows(Operation::Read, "x{client_id}"));
        assert!(!permissions.allows(Operation::Read, "x"));
        assert!(permissions.allows(Operation::Configure, "x"));
        assert_eq!((permissions.write(), permissions.read()), ("^{username}\\.{vhost}$", "{client_id}"));
    }

    #[test]
    fn all_is_what_three_wide_patterns_are() {
        assert_eq!(Permissions::all(), Permissions::new(".*", ".*", ".*").unwrap());
        assert_eq!(Permissions::all().pattern(Operation::Read), ".*");
    }
}
