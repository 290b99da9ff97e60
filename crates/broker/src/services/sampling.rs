//! Which requests are watched: all, until there are so many that watching would slow them down; then one in 2, 4, … 256,
//! and each counts for that many.
//!
//! Whether a request is watched follows from its id alone, so an answer that nobody watches for is known as such without
//! a look at any table. After the share has fallen, answers are looked up by the larger one for a while, so that what
//! is under way is not taken for unanswered.
//!
//! ```text
//!   second         1        2        3        4        5
//!   watched/s    80,000   20,000   20,000   20,000   20,000
//!   share        all      1/4      1/4      1/4      1/4        of requests
//!                all      all      all      1/4      1/4        of answers
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Watched requests a second beyond which the share falls.
const WATCHED_MAX: u64 = 16_384;
/// The share falls to one in 2 to the power of this.
const LEVEL_MAX: u32 = 8;
/// For so many seconds an answer is looked up as if the share had not fallen.
const GRACE_S: usize = 3;
const SECOND_US: u64 = 1_000_000;

/// The share that is watched.
#[derive(Debug, Default)]
pub(super) struct Sampling {
    /// One request in 2 to the power of this is watched.
    level: AtomicU32,
    /// The same for answers: the lowest level of late.
    answer_level: AtomicU32,
    /// The second under way.
    second: AtomicU64,
    watched: AtomicU64,
    /// Levels of the last seconds.
    history: Mutex<[u32; GRACE_S]>,
}

/// One in 2 to the power of this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share(u32);

impl Sampling {
    /// The share of requests that is watched, if this one belongs to it.
    pub(super) fn watches(&self, id: &[u8]) -> Option<Share> {
        let level = self.level.load(Ordering::Relaxed);
        is_watched(id, level).then_some(Share(level))
    }

    /// For how many requests one of this share counts.
    pub(super) fn weight(&self, share: Share, now_us: u64) -> u64 {
        self.watched.fetch_add(1, Ordering::Relaxed);
        if now_us / SECOND_US > self.second.load(Ordering::Relaxed) {
            self.adjust(now_us / SECOND_US);
        }
        1 << share.0
    }

    /// Whether the answer with this id may belong to a request that is watched.
    pub(super) fn may_be_watched(&self, id: &[u8]) -> bool {
        is_watched(id, self.answer_level.load(Ordering::Relaxed))
    }

    /// Whether answers to requests of this weight are no longer looked up.
    pub(super) fn has_given_up(&self, weight: u64) -> bool {
        weight < 1 << self.answer_level.load(Ordering::Relaxed)
    }

    /// A second has begun: the share follows the last one.
    fn adjust(&self, second: u64) {
        let mut history = self.history.lock();
        let before = self.second.swap(second, Ordering::Relaxed);
        if before >= second {
            return;
        }
        let passed = if before == 0 { 1 } else { second - before };
        let watched = self.watched.swap(0, Ordering::Relaxed) / passed;
        let level = self.level.load(Ordering::Relaxed);
        let next = match watched {
            _ if watched > WATCHED_MAX => level + (watched / WATCHED_MAX).ilog2() + 1,
            _ if watched < WATCHED_MAX / 4 => level.saturating_sub(1),
            _ => level,
        };
        self.level.store(next.min(LEVEL_MAX), Ordering::Relaxed);
        history.rotate_right(1);
        history[0] = level;
        let lowest = history.iter().copied().min().unwrap_or(0);
        self.answer_level.store(lowest.min(next), Ordering::Relaxed);
    }
}

/// One id in 2 to the power of `level`, always the same ones.
fn is_watched(id: &[u8], level: u32) -> bool {
    if level == 0 {
        return true;
    }
    let mut last = [0; 8];
    let tail = &id[id.len().saturating_sub(8)..];
    last[..tail.len()].copy_from_slice(tail);
    // The golden ratio spreads counters and random ids alike over the upper bits.
    u64::from_le_bytes(last).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - level) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watched requests of a second with so many requests.
    fn second(sampling: &Sampling, second: u64, requests: u64) -> (u64, u64) {
        let ids = (0..requests).map(|id| format!("{second}-{id}"));
        let weights: Vec<u64> = ids
            .filter_map(|id| Some(sampling.weight(sampling.watches(id.as_bytes())?, second * SECOND_US)))
            .collect();
        (weights.len() as u64, weights.iter().sum())
    }

    #[test]
    fn all_are_watched_until_there_are_too_many() {
        let sampling = Sampling::default();
        assert_eq!(second(&sampling, 1, 10_000), (10_000, 10_000));
        assert_eq!(second(&sampling, 2, 100_000).1, 100_000);
        second(&sampling, 3, 100_000);
        let (watched, counted) = second(&sampling, 4, 100_000);
        assert!((3_000..20_000).contains(&watched), "{watched}");
        assert!((85_000..115_000).contains(&counted), "{counted}");
        for quiet in 5..20 {
            second(&sampling, quiet, 100);
        }
        assert_eq!(second(&sampling, 20, 100), (100, 100));
    }

    #[test]
    fn answers_are_looked_up_for_a_while_as_before() {
        let sampling = Sampling::default();
        second(&sampling, 1, 100_000);
        let all = |sampling: &Sampling| (0..1_000u32).all(|id| sampling.may_be_watched(&id.to_le_bytes()));
        for busy in 2..=4 {
            second(&sampling, busy, 100_000);
            assert!(all(&sampling) && !sampling.has_given_up(1), "second {busy}");
        }
        second(&sampling, 5, 100_000);
        second(&sampling, 6, 100_000);
        assert!(!all(&sampling) && sampling.has_given_up(1));
    }
}
