//! Sentences on stderr.

use std::io::{self, Write};

/// Tells the user something, if there still is one: `eprintln!` panics when nobody reads stderr any more, and what has
/// begun would not be finished.
pub(crate) fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "{sentence}");
}
