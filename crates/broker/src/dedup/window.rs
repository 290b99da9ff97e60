//! One window: the keys of the latest messages, each in a slot.
//!
//! ```text
//!   admit ─┬─► duplicate: dropped, counted
//!          └─► new: in the window, tentatively ─┬─► kept: the message has been taken; the oldest key makes room
//!                                               └─► forgotten: nobody took it, the next one is no duplicate
//! ```
//!
//! A durable window has a note in the store for each key whose message is in the log. The slot names the note; the slot of
//! a key that made room is the next to be used, so notes are replaced and not deleted. All that a restart may find too
//! much is the key that made room last.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

/// The keys that one exchange or queue remembers.
#[derive(Debug)]
pub struct Window {
    cache_size: usize,
    /// Sorted by number.
    entries: VecDeque<Entry>,
    /// The newest entry of each key.
    numbers: HashMap<Arc<[u8]>, u64>,
    next_number: u64,
    /// Used from the back: there are those whose notes are not over by themselves.
    free_slots: VecDeque<u32>,
    slots: u32,
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    key: Arc<[u8]>,
    expires_at_ms: u64,
    slot: u32,
    /// Where the log must be durable before a duplicate can be confirmed; 0: the message is not in the log.
    position: u64,
}

/// What a window says of a message.
#[derive(Debug)]
pub enum Verdict {
    /// It is the first with its key.
    New(Admission),
    /// It is not; whoever published it may rely on the first, which is durable past this position of the log (0: is
    /// in no log).
    Duplicate(u64),
}

/// A message that a window has let in, and whose fate it must be told.
#[derive(Debug)]
pub struct Admission {
    number: u64,
    /// What the store has to know, if the message is logged.
    pub(crate) noted: Noted,
}

/// A key as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Names the note among those of its window.
    pub slot: u32,
    /// Orders the notes of a window.
    pub number: u64,
    /// Until when the key is remembered, ms since 1970.
    pub expires_at_ms: u64,
    /// The key.
    pub key: Arc<[u8]>,
}

impl Window {
    /// A window of that many keys that has seen nothing.
    pub fn new(cache_size: u32) -> Self {
        Self {
            cache_size: cache_size as usize,
            entries: VecDeque::new(),
            numbers: HashMap::new(),
            next_number: 1,
            free_slots: VecDeque::new(),
            slots: 0,
            dropped: 0,
        }
    }

    /// Takes what a restart found in the store.
    pub fn recover(&mut self, mut notes: Vec<Noted>) {
        notes.sort_unstable_by_key(|note| note.number);
        self.slots = notes.iter().map(|note| note.slot + 1).max().unwrap_or(0);
        let mut is_used = vec![false; self.slots as usize];
        for Noted { slot, number, expires_at_ms, key } in notes {
            is_used[slot as usize] = true;
            self.next_number = number + 1;
            self.push(Entry { number, key, expires_at_ms, slot, position: 0 });
        }
        self.free_slots = (0..self.slots).filter(|slot| !is_used[*slot as usize]).collect();
        self.make_room();
    }

    /// Judges a message with that key, to be remembered until `expires_at_ms`. One that is new must be
    /// [`kept`](Self::kept) or [`forgotten`](Self::forget) before anybody else asks.
    pub fn admit(&mut self, key: &[u8], expires_at_ms: u64, now_ms: u64) -> Verdict {
        while self.entries.front().is_some_and(|oldest| oldest.expires_at_ms <= now_ms) {
            if let Some(slot) = self.drop_oldest() {
                self.free_slots.push_front(slot);
            }
        }
        let first = self.numbers.get(key).and_then(|number| self.entry(*number));
        if let Some(first) = first.filter(|first| first.expires_at_ms > now_ms) {
            let position = first.position;
            self.dropped += 1;
            return Verdict::Duplicate(position);
        }
        let (number, slot, key): (_, _, Arc<[u8]>) = (self.next_number, self.take_slot(), key.into());
        self.next_number += 1;
        self.push(Entry { number, key: key.clone(), expires_at_ms, slot, position: 0 });
        Verdict::New(Admission { number, noted: Noted { slot, number, expires_at_ms, key } })
    }

    /// A message that was new has been taken; its record in the log is at `position` (0: it is in no log).
    pub fn kept(&mut self, admission: &Admission, position: u64) {
        if let Ok(at) = self.find(admission.number) {
            self.entries[at].position = position;
        }
        self.make_room();
    }

    /// A message that was new has not been taken.
    pub fn forget(&mut self, admission: &Admission) {
        if let Ok(at) = self.find(admission.number)
            && let Some(entry) = self.entries.remove(at)
        {
            self.unlink(&entry);
            self.free_slots.push_front(entry.slot);
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many duplicates it has found since the start of the process.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Slots that may have a note in the store.
    pub(crate) fn slots(&self) -> std::ops::Range<u32> {
        0..self.slots
    }

    fn push(&mut self, entry: Entry) {
        self.numbers.insert(entry.key.clone(), entry.number);
        self.entries.push_back(entry);
    }

    fn find(&self, number: u64) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&number, |entry| entry.number)
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        self.find(number).ok().and_then(|at| self.entries.get(at))
    }

    fn take_slot(&mut self) -> u32 {
        self.free_slots.pop_back().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    fn make_room(&mut self) {
        while self.entries.len() > self.cache_size {
            let slot = self.drop_oldest();
            self.free_slots.extend(slot);
        }
    }

    /// Answers the slot that is free now.
    fn drop_oldest(&mut self) -> Option<u32> {
        let entry = self.entries.pop_front()?;
        self.unlink(&entry);
        Some(entry.slot)
    }

    fn unlink(&mut self, entry: &Entry) {
        if self.numbers.get(&entry.key) == Some(&entry.number) {
            self.numbers.remove(&entry.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The plainest window: a list of keys and ends, oldest first.
    #[derive(Default)]
    struct Model(Vec<(u8, u64)>);

    impl Model {
        fn is_duplicate(&self, key: u8, now_ms: u64) -> bool {
            self.0.iter().any(|(known, end_ms)| *known == key && *end_ms > now_ms)
        }

        fn keep(&mut self, key: u8, end_ms: u64, cache_size: usize) {
            self.0.push((key, end_ms));
            let excess = self.0.len().saturating_sub(cache_size);
            self.0.drain(..excess);
        }

        /// What has expired at the old end makes room.
        fn expire(&mut self, now_ms: u64) {
            let live = self.0.iter().position(|(_, end_ms)| *end_ms > now_ms).unwrap_or(self.0.len());
            self.0.drain(..live);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish { key: u8, ttl_ms: u64, is_taken: bool },
        Wait(u64),
        Restart,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let publish = (0..8u8, prop_oneof![Just(u64::MAX), 1..30u64], prop::bool::weighted(0.8));
        prop_oneof![
            8 => publish.prop_map(|(key, ttl_ms, is_taken)| Step::Publish { key, ttl_ms, is_taken }),
            2 => (1..20u64).prop_map(Step::Wait),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn any_history_is_judged_as_by_a_plain_list(
            cache_size in 1..6u32,
            steps in prop::collection::vec(any_step(), 0..80),
        ) {
            let (mut window, mut model, mut now_ms) = (Window::new(cache_size), Model::default(), 1000);
            let mut notes: BTreeMap<u32, Noted> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Wait(ms) => now_ms += ms,
                    Step::Restart => {
                        window = Window::new(cache_size);
                        window.recover(notes.values().cloned().collect());
                        let found: Vec<_> =
                            window.entries.iter().map(|entry| (entry.key[0], entry.expires_at_ms)).collect();
                        model.0.retain(|(_, end_ms)| *end_ms > now_ms);
                        prop_assert!(model.0.iter().all(|known| found.contains(known)), "forgotten");
                        let live = found.iter().filter(|(_, end_ms)| *end_ms > now_ms).count();
                        prop_assert!(live <= model.0.len() + 1, "remembered too long: {:?}", found);
                        model.0 = found;
                    }
                    Step::Publish { key, ttl_ms, is_taken } => {
                        let end_ms = now_ms.saturating_add(ttl_ms);
                        model.expire(now_ms);
                        match window.admit(&[key], end_ms, now_ms) {
                            Verdict::Duplicate(_) => prop_assert!(model.is_duplicate(key, now_ms)),
                            Verdict::New(admission) => {
                                prop_assert!(!model.is_duplicate(key, now_ms));
                                if is_taken {
                                    notes.insert(admission.noted.slot, admission.noted.clone());
                                    window.kept(&admission, 7);
                                    model.keep(key, end_ms, cache_size as usize);
                                } else {
                                    window.forget(&admission);
                                    notes.remove(&admission.noted.slot);
                                }
                            }
                        }
                        prop_assert_eq!(window.len(), model.0.len());
                        prop_assert!(window.slots <= 2 * cache_size + 2);
                    }
                }
            }
        }
    }

    #[test]
    fn a_duplicate_waits_for_the_first() {
        let mut window = Window::new(2);
        let Verdict::New(admission) = window.admit(b"k", u64::MAX, 0) else { panic!("nothing was there") };
        window.kept(&admission, 42);
        assert!(matches!(window.admit(b"k", u64::MAX, 0), Verdict::Duplicate(42)));
        assert_eq!(window.dropped(), 1);
    }

    #[test]
    fn several_may_be_let_in_before_their_fate_is_known() {
        let mut window = Window::new(1);
        let admit = |window: &mut Window, key: &[u8]| match window.admit(key, u64::MAX, 0) {
            Verdict::New(admission) => admission,
            Verdict::Duplicate(_) => panic!("{key:?} is new"),
        };
        let (a, b) = (admit(&mut window, b"a"), admit(&mut window, b"b"));
        assert!(matches!(window.admit(b"a", u64::MAX, 0), Verdict::Duplicate(0)));
        window.forget(&a);
        window.kept(&b, 1);
        let again = admit(&mut window, b"a");
        window.kept(&again, 2);
        let b = admit(&mut window, b"b");
        window.forget(&b);
        assert_eq!(window.len(), 1);
    }
}
