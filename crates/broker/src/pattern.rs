//! Patterns over names, as permissions and policies have them.
//!
//! They are octet-wise and know no look-around or back-references: they match in linear time, so neither a pattern
//! nor a name can stall the broker.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// The longest pattern that is accepted.
const PATTERN_MAX_BYTES: usize = 4096;
/// The most memory that a compiled pattern may take.
const COMPILED_MAX_BYTES: usize = 256 * 1024;

/// A text that is no usable pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    /// The text, or its beginning.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Compiles a pattern, which matches anywhere in a name unless it is anchored.
///
/// # Errors
/// It is no regular expression, has more than 4,096 octets, or takes more than 256 KiB when compiled.
pub(crate) fn compile(pattern: &str) -> Result<Regex, BadPattern> {
    let bad = |reason: String| BadPattern { pattern: pattern.chars().take(100).collect(), reason };
    if pattern.len() > PATTERN_MAX_BYTES {
        return Err(bad(format!("longer than {PATTERN_MAX_BYTES} octets")));
    }
    // Octet-wise as in RabbitMQ, unless the pattern has characters that need more.
    let build = |unicode| RegexBuilder::new(pattern).unicode(unicode).size_limit(COMPILED_MAX_BYTES).build();
    build(false).or_else(|_| build(true)).map_err(|error| bad(reason(&error)))
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid regular expression '{}': {}", self.pattern, self.reason)
    }
}

impl std::error::Error for BadPattern {}

/// The last line of the error; those before it draw the pattern again.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_string()
}
