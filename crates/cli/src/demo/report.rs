//! What the demo prints: a line per check, so that one can read what happened, and a count at the end.

use std::fmt::{Debug, Display};
use std::io::{self, Write};
use std::time::Duration;

use super::speeds::Speeds;
use crate::failure::Failure;
use crate::logging::is_coloured;

/// Collects and prints what happened.
pub(super) struct Report {
    coloured: bool,
    held: u32,
    broken: u32,
    speeds: Speeds,
}

enum Colour {
    Bold,
    Green,
    Red,
}

impl Report {
    pub(super) fn new() -> Self {
        Self { coloured: is_coloured(&io::stdout()), held: 0, broken: 0, speeds: Speeds::default() }
    }

    /// The title of a story.
    pub(super) fn title(&mut self, title: &str) {
        let title = self.paint(Colour::Bold, title);
        self.line(format!("\n{title}"));
    }

    /// The end of a story. What stopped it counts like a check that failed.
    pub(super) fn ended(&mut self, ended: anyhow::Result<()>) {
        if let Err(error) = ended {
            self.broken(&format!("{error:#}"));
        }
    }

    /// Something that must be so.
    pub(super) fn check<T: PartialEq + Debug>(&mut self, what: impl Display, found: T, expected: T) {
        if found == expected {
            self.held += 1;
            let mark = self.paint(Colour::Green, "✓");
            self.line(format!("   {mark} {what}"));
        } else {
            self.broken(&format!("{what}\n     found    {found:?}\n     expected {expected:?}"));
        }
    }

    /// An answer, for the table at the end.
    pub(super) fn answered(&mut self, asked: &str, by: &str, took: Duration) {
        self.speeds.note(asked, by, took);
    }

    fn broken(&mut self, what: &str) {
        self.broken += 1;
        let mark = self.paint(Colour::Red, "✗");
        self.line(format!("   {mark} {what}"));
    }

    /// Anything else worth a line.
    pub(super) fn line(&mut self, text: impl Display) {
        // Whoever closes stdout still gets the exit code.
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// The table of answers, the last line, and whether all is well.
    pub(super) fn finish(mut self, took: Duration) -> Result<(), Failure> {
        self.title("Who was asked, who answered, and how long that took");
        for line in self.speeds.table() {
            self.line(format!("   {line}"));
        }
        let seconds = took.as_secs_f64();
        let Self { held, broken, .. } = self;
        if broken == 0 {
            self.line(format!("\nAll {held} checks held, in {seconds:.1} s."));
            return Ok(());
        }
        Err(Failure::Other(anyhow::anyhow!("{broken} of {} checks failed", held + broken)))
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Bold => 1,
            Colour::Green => 32,
            Colour::Red => 31,
        };
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
