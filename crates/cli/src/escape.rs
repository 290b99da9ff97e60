//! Names that others chose, on a terminal: what would move the cursor, colour the screen, or turn the text around is
//! shown, never executed.

use unicode_width::UnicodeWidthStr;

/// Where a text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A terminal.
    Screen,
    /// A cell between tabs: a backslash is doubled, so that nothing is lost.
    Cell,
}

/// A text that does nothing but be read: control characters and those that change the direction of text become
/// `\n`, `\t` or `\u{1b}`.
pub(crate) fn escape(text: &str, place: Place) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' if place == Place::Cell => escaped.push_str("\\\\"),
            character if is_active(character) => escaped.extend(character.escape_default()),
            character => escaped.push(character),
        }
    }
    escaped
}

/// How many columns of a terminal an escaped text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Control characters of both sets, line and paragraph separators, and the marks, embeddings, overrides and
/// isolates of bidirectional text; and those that have no width, with which two names look the same.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_execute_is_shown() {
        let check = |text, expected| assert_eq!(escape(text, Place::Screen), expected);
        check("grüß 日本", "grüß 日本");
        check("a\\b", "a\\b");
        check("\x1b[31mred\x1b]0;title\x07", "\\u{1b}[31mred\\u{1b}]0;title\\u{7}");
        check("one\r\ntwo\tthree\0", "one\\r\\ntwo\\tthree\\u{0}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("a\u{202e}b\u{200b}", "a\\u{202e}b\\u{200b}");
        assert_eq!(escape("a\\n\n", Place::Cell), "a\\\\n\\n");
        assert_eq!(width("日本"), 4);
    }
}
