//! What the disk owes: every copy that must outlive the process, and what a stop may leave of it.
//!
//! ```text
//!   begun ── commit ──► owed ── ended ──► may come back ── commit ──► over: must not come back
//!     │                           └ heirs: the dead letters it became; one of both is owed
//!     └ lost or not, both is right
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::letter::{Attempts, Letter};
use super::queue::{Copy, CopyId, Rank};

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// In order.
    Clean,
    /// By a crash.
    Unclean,
    /// By a crash while it was being stopped: the next start may find the mark of a clean stop.
    Either,
}

/// A message that a restart brought back.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) letter: Letter,
    pub(super) redelivered: bool,
}

#[derive(Clone, Debug)]
struct Fate {
    queue: usize,
    copy: Copy,
    delivered: bool,
    /// A commit has made its beginning durable.
    synced: bool,
    /// How often its delivery came to nothing, as far as a commit has made that durable.
    synced_attempts: Attempts,
    /// It is over, and what it became.
    heirs: Option<Vec<CopyId>>,
    /// The transaction that it began in.
    transaction: Option<u64>,
}

/// Every copy that the disk knows or may know.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    fates: BTreeMap<CopyId, Fate>,
}

impl Ledger {
    pub(super) fn begun(&mut self, queue: usize, copy: &Copy, transaction: Option<u64>) {
        let copy = copy.clone();
        let fate = Fate {
            queue,
            copy,
            delivered: false,
            synced: false,
            synced_attempts: Attempts::default(),
            heirs: None,
            transaction,
        };
        self.fates.insert(fate.copy.id, fate);
    }

    pub(super) fn delivered(&mut self, id: CopyId) {
        if let Some(fate) = self.fates.get_mut(&id) {
            fate.delivered = true;
        }
    }

    /// Its delivery came to nothing.
    pub(super) fn counted(&mut self, id: CopyId, attempts: Attempts) {
        if let Some(fate) = self.fates.get_mut(&id) {
            fate.copy.letter.attempts = attempts;
        }
    }

    pub(super) fn ended(&mut self, id: CopyId, heirs: Vec<CopyId>) {
        if let Some(fate) = self.fates.get_mut(&id) {
            fate.heirs = Some(heirs);
        }
    }

    /// Whether it must outlive the process.
    pub(super) fn knows(&self, id: CopyId) -> bool {
        self.fates.contains_key(&id)
    }

    /// Whether it would survive a crash at this moment, or is over.
    pub(super) fn is_safe(&self, id: CopyId) -> bool {
        self.fates.get(&id).is_none_or(|fate| fate.synced)
    }

    /// A commit: what happened so far has happened for good.
    pub(super) fn synced(&mut self) {
        self.fates.retain(|_, fate| fate.heirs.is_none());
        for fate in self.fates.values_mut() {
            fate.synced = true;
            fate.synced_attempts = fate.copy.letter.attempts;
        }
    }

    /// What each queue holds after a stop, `None` where there is no queue. Answers the copies, or what is missing
    /// or should not be there.
    pub(super) fn recover(
        &mut self,
        found: &[Option<Vec<Found>>],
        stop: Stop,
    ) -> Result<Vec<Vec<Copy>>, String> {
        if stop == Stop::Clean {
            self.synced();
        }
        let mut here = BTreeMap::new();
        for (queue, found) in found.iter().enumerate() {
            self.recognize(queue, found.as_deref().unwrap_or_default(), stop, &mut here)?;
        }
        let is_there = |queue: usize| found.get(queue).is_some_and(Option::is_some);
        self.check_missing(&here.keys().copied().collect(), &is_there)?;
        Ok(self.adopt(&here, found.len()))
    }

    /// Which copies these are. Each is recognized once, and in the order of its queue.
    fn recognize(
        &self,
        queue: usize,
        found: &[Found],
        stop: Stop,
        here: &mut BTreeMap<CopyId, (bool, Attempts)>,
    ) -> Result<(), String> {
        let mut last: Option<Rank> = None;
        for Found { letter, redelivered } in found {
            let number = letter.number;
            let twins = || {
                let same = |fate: &&Fate| fate.queue == queue && fate.copy.letter.is_twin(letter);
                self.fates.values().filter(same).filter(|fate| !here.contains_key(&fate.copy.id))
            };
            let next = twins().filter(|fate| Some(fate.copy.rank) > last).min_by_key(|fate| fate.copy.rank);
            let Some(fate) = next else {
                let why = match twins().next() {
                    Some(_) => "is not in its place (P6)",
                    None => "should not be there (P3, P5)",
                };
                return Err(format!("message {number} of q{queue} {why}: {letter:?}"));
            };
            let (least, most) = (fate.synced_attempts, fate.copy.letter.attempts);
            let is_between = |least, count, most| least <= count && count <= most;
            if !is_between(least.failed, letter.attempts.failed, most.failed)
                || !is_between(least.acquired, letter.attempts.acquired, most.acquired)
            {
                return Err(format!("message {number} of q{queue} forgot {least:?} to {most:?}: {letter:?}"));
            }
            let must_say_so = fate.delivered || fate.copy.redelivered || stop == Stop::Unclean;
            if must_say_so && !redelivered {
                return Err(format!("P4: message {number} of q{queue} came again without the flag"));
            }
            if *redelivered && !must_say_so && stop == Stop::Clean {
                return Err(format!("message {number} of q{queue} is flagged and was never handed out"));
            }
            last = Some(fate.copy.rank);
            here.insert(fate.copy.id, (*redelivered, letter.attempts));
        }
        Ok(())
    }

    fn check_missing(&self, here: &BTreeSet<CopyId>, is_there: &dyn Fn(usize) -> bool) -> Result<(), String> {
        let committed: BTreeSet<u64> = here.iter().filter_map(|id| self.fates.get(id)?.transaction).collect();
        for (id, fate) in &self.fates {
            let in_part = fate.transaction.is_some_and(|transaction| committed.contains(&transaction));
            let owed = fate.synced || in_part;
            if owed && is_there(fate.queue) && !self.is_replaced(*id, here) && !self.has_twin(fate, here) {
                let promise = if fate.synced { "P1" } else { "P3, half a transaction" };
                let number = fate.copy.letter.number;
                return Err(format!("{promise}: message {number} of q{} is lost: {fate:?}", fate.queue));
            }
        }
        Ok(())
    }

    /// Whether it is there, or over in a way that leaves nothing owed.
    fn is_replaced(&self, id: CopyId, here: &BTreeSet<CopyId>) -> bool {
        let Some(fate) = self.fates.get(&id) else { return true };
        let heirs_are = |heirs: &Vec<CopyId>| heirs.iter().all(|heir| self.is_replaced(*heir, here));
        here.contains(&id) || fate.heirs.as_ref().is_some_and(heirs_are)
    }

    /// Whether one that looks the same was taken for it.
    fn has_twin(&self, fate: &Fate, here: &BTreeSet<CopyId>) -> bool {
        let is_twin = |other: &Fate| {
            other.queue == fate.queue
                && other.copy.letter.is_twin(&fate.copy.letter)
                && (other.heirs.is_some() || !other.synced)
        };
        here.iter().filter_map(|id| self.fates.get(id)).any(is_twin)
    }

    /// Forgets everything but what is here, and answers that, by queue.
    fn adopt(&mut self, here: &BTreeMap<CopyId, (bool, Attempts)>, queues: usize) -> Vec<Vec<Copy>> {
        let mut copies = vec![Vec::new(); queues];
        self.fates.retain(|id, fate| {
            let Some((redelivered, attempts)) = here.get(id) else { return false };
            fate.copy.redelivered = *redelivered;
            fate.copy.letter.attempts = *attempts;
            fate.delivered |= *redelivered;
            (fate.heirs, fate.transaction) = (None, None);
            copies[fate.queue].push(fate.copy.clone());
            true
        });
        copies
    }
}
