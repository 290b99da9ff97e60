//! The steps between two nodes of the tree of topic patterns, and the form in which they are walked: long
//! stretches of few different words as [`Block`]s.

use super::block::Block;
use super::words::WordId;

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A word, or `*`.
    Word(WordId),
    /// `#`
    Many,
}

/// `*`
pub(super) const ONE: Step = Step::Word(WordId::ANY);

/// The steps from a node to one of those below it.
///
/// Takes four octets per step; where blocks make it faster up to sixteen more.
#[derive(Debug)]
pub(super) struct Label {
    steps: Box<[Step]>,
    signature: u64,
    /// All steps but the first, if a block is among them.
    pieces: Box<[Piece]>,
}

/// A part of a label.
#[derive(Debug)]
pub(super) enum Piece {
    Steps(Box<[Step]>),
    Block(Block),
    /// The block and the `#` behind it.
    BlockAndMany(Block),
}

impl Label {
    pub(super) fn new(steps: &[Step]) -> Self {
        let rest = steps.get(1..).unwrap_or_default();
        Self { steps: steps.into(), signature: signature(steps), pieces: pieces(rest) }
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps after the first, by which the label was found.
    pub(super) fn rest(&self) -> &[Step] {
        self.steps.get(1..).unwrap_or_default()
    }

    /// The same as the [`rest`](Self::rest) in a form that is faster to walk. Empty if there is none.
    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The words, as a signature: a key without one of them cannot match.
    pub(super) fn signature(&self) -> u64 {
        self.signature
    }
}

fn signature(steps: &[Step]) -> u64 {
    steps.iter().fold(0, |bits, step| match step {
        &Step::Word(word) if word != WordId::ANY => bits | word.signature(),
        _ => bits,
    })
}

fn pieces(steps: &[Step]) -> Box<[Piece]> {
    let mut pieces = Vec::new();
    let mut plain: Vec<Step> = Vec::new();
    let mut open = steps;
    while !open.is_empty() {
        let words = open.iter().take(Block::MAX_WORDS).take_while(|&&step| step != Step::Many).count();
        let Some(block) = block(&open[..words]) else {
            let (passed, rest) = open.split_at(words.max(1));
            plain.extend(passed);
            open = rest;
            continue;
        };
        if !plain.is_empty() {
            pieces.push(Piece::Steps(std::mem::take(&mut plain).into()));
        }
        open = &open[words..];
        match open.split_first() {
            Some((Step::Many, rest)) => {
                pieces.push(Piece::BlockAndMany(block));
                open = rest;
            }
            _ => pieces.push(Piece::Block(block)),
        }
    }
    if !pieces.is_empty() && !plain.is_empty() {
        pieces.push(Piece::Steps(plain.into()));
    }
    pieces.into()
}

fn block(steps: &[Step]) -> Option<Block> {
    let words: Option<Vec<WordId>> = steps
        .iter()
        .map(|step| match step {
            Step::Word(word) => Some(*word),
            Step::Many => None,
        })
        .collect();
    Block::new(words?.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `#` for itself, `*` for itself, any other character for a word.
    fn steps(pattern: &str) -> Vec<Step> {
        let mut words = crate::exchange::words::Words::new();
        let step = |word: char| match word {
            '#' => Step::Many,
            '*' => ONE,
            word => Step::Word(words.take(&word.to_string())),
        };
        pattern.chars().map(step).collect()
    }

    /// `expected` are the lengths of the pieces: blocks as negative numbers, with `#` a hundred less.
    fn check(pattern: &str, expected: &[isize]) {
        let label = Label::new(&steps(pattern));
        let lens = label.pieces().iter().map(|piece| match piece {
            Piece::Steps(steps) => steps.len() as isize,
            Piece::Block(block) => -(block.len() as isize),
            Piece::BlockAndMany(block) => -100 - (block.len() as isize),
        });
        assert_eq!(lens.collect::<Vec<_>>(), expected, "{pattern}");
    }

    #[test]
    fn long_stretches_become_blocks() {
        check("", &[]);
        check("a", &[]);
        check("#aaaaaaa", &[]);
        check("#aaaaaaaa", &[-8]);
        check("#abcdefgh#abcdefgh", &[]);
        check("#abcdaaaaaaaaaaaa#c", &[-116, 1]);
        check("#abcdefgaaaaaaa", &[]);
        check("#b#aaaaaaaa#bc", &[2, -108, 2]);
        check("#aaaaaaaa#bbbb****", &[-108, -8]);
        check(&format!("#{}", "a".repeat(70)), &[-63, 7]);
        check(&format!("#{}", "*".repeat(126)), &[-63, -63]);
    }
}
