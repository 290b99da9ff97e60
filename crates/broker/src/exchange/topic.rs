//! The topic exchange: binding keys are patterns of words, `*` stands for one word, `#` for any number.
//!
//! All patterns are in one tree; an edge carries as many steps as are not shared with another pattern.
//!
//! ```text
//!   news.ohio     sports.#     #.ohio     #.virginia          (root)
//!                                        ┌───────────────┬────────┴───┐
//!                                    news.ohio        sports.#        #
//!                                                               ┌─────┴─────┐
//!                                                             ohio       virginia
//! ```
//!
//! A key is matched by one walk over the tree that carries the *set* of positions in the key that the steps so
//! far can have reached ([`Positions`]). A step moves the whole set by a few machine instructions, so every
//! step of the tree is looked at once at most, whatever the number of `#`: RabbitMQ, which tries the ways to
//! place each `#` one by one, had to limit their number (CVE-2026-67419).
//!
//! Long stretches of few different words are not even walked step by step ([`Block`](super::block::Block)).
//! The labels of one pattern take at most 20 octets per word, so 2.5 KiB for the longest without empty words.
//!
//! Patterns that match the same keys are stored as one: `#.#` is `#`, and `#.*` is `*.#`.
//!
//! Words are what is between the dots, so `a..b` has three, one of them empty, and `.` has two. The empty key
//! has none: as in RabbitMQ, `#` and the empty pattern match it, `*` does not.

use std::hash::Hash;

use super::destinations::{Destinations, OrderedMap};
use super::key::{Key, split};
use super::label::{Label, ONE, Piece, Step};
use super::positions::Positions;
use super::words::{WordId, Words};

/// The longest routing key that AMQP can carry.
const KEY_MAX_BYTES: usize = 255;

/// All patterns and where they lead.
#[derive(Debug)]
pub(super) struct Topic<D> {
    words: Words,
    root: Node<D>,
}

/// The steps from the parent, what follows them, and the destinations of the pattern that ends here.
#[derive(Debug)]
struct Node<D> {
    label: Label,
    /// Nothing for a leaf, as most nodes are.
    children: Option<Box<Children<D>>>,
    destinations: Destinations<D>,
}

/// The nodes below, by the first step of their labels. One at least.
#[derive(Debug)]
struct Children<D> {
    words: OrderedMap<WordId, Node<D>>,
    one: Option<Node<D>>,
    many: Option<Node<D>>,
}

impl<D: Eq + Hash> Topic<D> {
    pub(super) fn new() -> Self {
        Self { words: Words::new(), root: Node::new(&[]) }
    }

    pub(super) fn add(&mut self, destination: D, pattern: &str) {
        let words = &mut self.words;
        let steps = steps(pattern, |word| words.take(word));
        self.root.add(&steps, destination);
    }

    /// Removes what was once added.
    pub(super) fn remove(&mut self, destination: &D, pattern: &str) {
        let words = &mut self.words;
        // The word is in use as long as the binding is, so taking it once more finds its number.
        let steps = steps(pattern, |word| words.take(word));
        self.root.remove(&steps, destination);
        for word in literal_words(pattern) {
            words.release(word);
            words.release(word);
        }
    }

    pub(super) fn route(&self, key: &str, found: &mut dyn FnMut(&D)) {
        if key.len() > KEY_MAX_BYTES {
            return;
        }
        match split(key).count() {
            0..=15 => self.walk::<1, 16>(key, found),
            16..=63 => self.walk::<1, 64>(key, found),
            64..=127 => self.walk::<2, 128>(key, found),
            _ => self.walk::<5, 257>(key, found),
        }
    }

    /// Matches a key of fewer than `POSITIONS` words.
    fn walk<const N: usize, const POSITIONS: usize>(&self, key: &str, found: &mut dyn FnMut(&D)) {
        let key = Key::<N, POSITIONS>::new(key, &self.words);
        Walk { key, found }.arrive(&self.root, Positions::below(1));
    }
}

fn literal_words(pattern: &str) -> impl Iterator<Item = &str> {
    split(pattern).filter(|&word| word != "*" && word != "#")
}

/// The steps of a pattern. In a run of wildcards the `*` come first, then at most one `#`.
fn steps(pattern: &str, mut number: impl FnMut(&str) -> WordId) -> Vec<Step> {
    let mut steps = Vec::new();
    for word in split(pattern) {
        let follows_many = steps.last() == Some(&Step::Many);
        match word {
            "#" if follows_many => {}
            "#" => steps.push(Step::Many),
            "*" if follows_many => steps.insert(steps.len() - 1, ONE),
            "*" => steps.push(ONE),
            word => steps.push(Step::Word(number(word))),
        }
    }
    steps
}

impl<D: Eq + Hash> Node<D> {
    fn new(label: &[Step]) -> Self {
        Self { label: Label::new(label), children: None, destinations: Destinations::None }
    }

    fn add(&mut self, steps: &[Step], destination: D) {
        let mut node = self;
        let mut steps = steps;
        while let Some(&first) = steps.first() {
            let child = node.children.get_or_insert_default().get_or_insert(first, steps);
            let shared = child.label.steps().iter().zip(steps).take_while(|(a, b)| a == b).count();
            if shared < child.label.steps().len() {
                child.split(shared);
            }
            steps = &steps[shared..];
            node = child;
        }
        node.destinations.add(destination);
    }

    /// Keeps the first `at` steps here and moves the rest, with all that hangs on it, one level down.
    fn split(&mut self, at: usize) {
        let upper = Self::new(&self.label.steps()[..at]);
        let mut lower = std::mem::replace(self, upper);
        let first = lower.label.steps()[at];
        lower.label = Label::new(&lower.label.steps()[at..]);
        self.children.get_or_insert_default().insert(first, lower);
    }

    /// Recurses as deep as the pattern has steps: 256 at most.
    fn remove(&mut self, steps: &[Step], destination: &D) {
        let Some(&first) = steps.first() else { return self.destinations.remove(destination) };
        let Some(children) = &mut self.children else { return };
        let Some(child) = children.find(first) else { return };
        let Some(rest) = steps.strip_prefix(child.label.steps()) else { return };
        child.remove(rest, destination);
        if child.is_dead() {
            children.remove(first);
        } else {
            child.absorb_only_child();
        }
        if children.len() == 0 {
            self.children = None;
        }
    }

    /// No pattern ends here or below.
    fn is_dead(&self) -> bool {
        self.destinations.is_empty() && self.children.is_none()
    }

    /// Undoes a [`split`](Self::split) that is no longer needed.
    fn absorb_only_child(&mut self) {
        if !self.destinations.is_empty() {
            return;
        }
        let Some(mut child) = self.children.as_mut().and_then(|children| children.take_only()) else {
            return;
        };
        child.label = Label::new(&[self.label.steps(), child.label.steps()].concat());
        *self = child;
    }
}

impl<D: Eq + Hash> Children<D> {
    fn len(&self) -> usize {
        self.words.len() + usize::from(self.one.is_some()) + usize::from(self.many.is_some())
    }

    fn find(&mut self, first: Step) -> Option<&mut Node<D>> {
        match first {
            ONE => self.one.as_mut(),
            Step::Word(word) => self.words.get_mut(&word),
            Step::Many => self.many.as_mut(),
        }
    }

    fn get_or_insert(&mut self, first: Step, label: &[Step]) -> &mut Node<D> {
        let fresh = || Node::new(label);
        match first {
            ONE => self.one.get_or_insert_with(fresh),
            Step::Word(word) => self.words.entry(word).or_insert_with(fresh),
            Step::Many => self.many.get_or_insert_with(fresh),
        }
    }

    fn insert(&mut self, first: Step, node: Node<D>) {
        match first {
            ONE => self.one = Some(node),
            Step::Word(word) => drop(self.words.insert(word, node)),
            Step::Many => self.many = Some(node),
        }
    }

    fn remove(&mut self, first: Step) {
        match first {
            ONE => self.one = None,
            Step::Word(word) => drop(self.words.swap_remove(&word)),
            Step::Many => self.many = None,
        }
    }

    fn take_only(&mut self) -> Option<Node<D>> {
        if self.len() != 1 {
            return None;
        }
        let wildcard = self.one.take().or_else(|| self.many.take());
        wildcard.or_else(|| self.words.pop().map(|(_, node)| node))
    }
}

impl<D> Default for Children<D> {
    fn default() -> Self {
        Self { words: OrderedMap::default(), one: None, many: None }
    }
}

/// One key on its way through the tree.
struct Walk<'w, D, const N: usize, const POSITIONS: usize> {
    key: Key<N, POSITIONS>,
    found: &'w mut dyn FnMut(&D),
}

impl<D: Eq + Hash, const N: usize, const POSITIONS: usize> Walk<'_, D, N, POSITIONS> {
    /// Goes on from the end of a node's label. `reached` are the positions of the key reached there.
    ///
    /// Recurses once per node on the way: a path that matches has at most two steps per word of the key.
    fn arrive(&mut self, node: &Node<D>, reached: Positions<N>) {
        if reached.contains(self.key.len()) {
            node.destinations.each(self.found);
        }
        let Some(children) = &node.children else { return };
        if let Some(child) = &children.many {
            self.follow(child, reached.and_later());
        }
        let before_word = reached.intersection(self.key.before_any());
        if before_word.is_empty() {
            return;
        }
        if let Some(child) = &children.one {
            self.follow(child, before_word.next());
        }
        if !children.words.is_empty() {
            self.follow_words(&children.words, before_word);
        }
    }

    /// Goes along the label of a node. `reached` are the positions after its first step.
    fn follow(&mut self, node: &Node<D>, reached: Positions<N>) {
        if !self.key.may_contain(node.label.signature()) {
            return;
        }
        if node.children.is_none() {
            if self.reaches_end(&node.label, reached) {
                node.destinations.each(self.found);
            }
            return;
        }
        let reached = match node.label.pieces() {
            [] => self.along(node.label.rest(), reached),
            pieces => self.along_pieces(pieces, reached),
        };
        if !reached.is_empty() {
            self.arrive(node, reached);
        }
    }

    fn along_pieces(&self, pieces: &[Piece], mut reached: Positions<N>) -> Positions<N> {
        for piece in pieces {
            reached = match piece {
                Piece::Steps(steps) => self.along(steps, reached),
                Piece::Block(block) => block.after(&self.key, reached),
                Piece::BlockAndMany(block) => block.after_and_later(&self.key, reached),
            };
            if reached.is_empty() {
                break;
            }
        }
        reached
    }

    #[inline]
    fn along(&self, steps: &[Step], mut reached: Positions<N>) -> Positions<N> {
        for &step in steps {
            reached = match step {
                Step::Word(word) => reached.intersection(self.key.before(word)).next(),
                Step::Many => reached.and_later(),
            };
            if reached.is_empty() {
                break;
            }
        }
        reached
    }

    /// Whether the last steps of a pattern lead to the end of the key. What follows the last `#` has only one
    /// place where it can match, so that is compared first, from the end on.
    fn reaches_end(&self, label: &Label, reached: Positions<N>) -> bool {
        let end = self.key.len();
        if !label.pieces().is_empty() {
            return self.pieces_reach_end(label.pieces(), reached);
        }
        self.before_last_words(label.rest(), end)
            .is_some_and(|(open, end)| self.along(open, reached).contains(end))
    }

    fn pieces_reach_end(&self, pieces: &[Piece], reached: Positions<N>) -> bool {
        let mut end = self.key.len();
        let mut open = pieces;
        while let Some((Piece::Block(block), before)) = open.split_last() {
            if end < block.len() || !block.fits(&self.key, end - block.len()) {
                return false;
            }
            end -= block.len();
            open = before;
        }
        let Some((Piece::Steps(steps), before)) = open.split_last() else {
            return self.along_pieces(open, reached).contains(end);
        };
        let Some((steps, end)) = self.before_last_words(steps, end) else { return false };
        let reached = self.along_pieces(before, reached);
        !reached.is_empty() && self.along(steps, reached).contains(end)
    }

    /// Takes off the words after the last `#`: the steps before them, and the position where these have to lead.
    /// Nothing if the words before `end` are other ones.
    #[inline]
    fn before_last_words<'s>(&self, steps: &'s [Step], mut end: usize) -> Option<(&'s [Step], usize)> {
        let mut open = steps;
        while let Some((&Step::Word(word), before)) = open.split_last() {
            if end == 0 || !self.key.is_at(word, end - 1) {
                return None;
            }
            end -= 1;
            open = before;
        }
        Some((open, end))
    }

    /// Follows the children that begin with a word: one look-up if only one word can come next, else over the
    /// children or over the words of the key, whichever are fewer.
    fn follow_words(&mut self, children: &OrderedMap<WordId, Node<D>>, before_word: Positions<N>) {
        if let Some(position) = before_word.single() {
            let child = self.key.word_at(position).and_then(|word| children.get(&word));
            if let Some(child) = child {
                self.follow(child, before_word.next());
            }
        } else if children.len() <= self.key.places().len() {
            for (&word, child) in children {
                self.follow_if_any(child, before_word.intersection(self.key.before(word)));
            }
        } else {
            for at in 0..self.key.places().len() {
                let (word, before) = self.key.places()[at];
                if let Some(child) = children.get(&word) {
                    self.follow_if_any(child, before_word.intersection(before));
                }
            }
        }
    }

    fn follow_if_any(&mut self, child: &Node<D>, before_word: Positions<N>) {
        if !before_word.is_empty() {
            self.follow(child, before_word.next());
        }
    }
}

#[cfg(test)]
impl<D: Eq + Hash> Topic<D> {
    /// Whether nothing is left of any pattern.
    pub(super) fn is_bare(&self) -> bool {
        self.words.is_empty() && self.root.is_dead()
    }
}
