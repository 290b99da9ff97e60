//! The newest lines, for whoever asks over HTTP. Older ones are in the file or the journal that stderr goes to.

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::Level;

use super::line::Line;

/// Lines kept.
const LINES_MAX: usize = 2000;

/// A ring of numbered lines.
#[derive(Default)]
pub(super) struct Recent {
    lines: VecDeque<Arc<Line>>,
    /// Lines that have left; the first one kept has the number after them.
    left: u64,
}

/// A line with its number, from 1, that the next question can begin after.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    /// How many lines came before it, and itself.
    pub(crate) number: u64,
    /// The line.
    pub(crate) line: Arc<Line>,
}

impl Recent {
    pub(super) fn push(&mut self, line: Line) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
            self.left += 1;
        }
        self.lines.push_back(Arc::new(line));
    }

    /// The newest `count` lines at least as serious as `level` with numbers above `after`, oldest first.
    pub(super) fn newest(&self, level: Level, after: u64, count: usize) -> Vec<Numbered> {
        let numbered = self.lines.iter().enumerate().rev();
        let numbered = numbered
            .map(|(place, line)| Numbered { number: self.left + 1 + place as u64, line: line.clone() });
        let new = numbered.take_while(|line| line.number > after);
        let mut newest: Vec<_> = new.filter(|line| line.line.severity() <= level).take(count).collect();
        newest.reverse();
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: usize, level: Level, after: u64, count: usize, expected: &[u64]) {
        let mut recent = Recent::default();
        for number in 1..=lines {
            recent.push(Line::example(if number % 2 == 0 { Level::WARN } else { Level::DEBUG }));
        }
        let numbers: Vec<_> = recent.newest(level, after, count).iter().map(|line| line.number).collect();
        assert_eq!(numbers, expected);
    }

    #[test]
    fn the_newest_are_found_by_level_and_number() {
        check(0, Level::TRACE, 0, 10, &[]);
        check(4, Level::TRACE, 0, 10, &[1, 2, 3, 4]);
        check(4, Level::TRACE, 0, 2, &[3, 4]);
        check(6, Level::WARN, 2, 10, &[4, 6]);
        check(6, Level::ERROR, 0, 10, &[]);
        check(LINES_MAX + 10, Level::DEBUG, 0, 1, &[LINES_MAX as u64 + 10]);
        check(LINES_MAX + 2, Level::DEBUG, u64::MAX, 5, &[]);
    }
}
