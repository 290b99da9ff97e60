//! A storm of equal lines must not fill a disk: each place in the code may log so many lines in a row, then so many a
//! second. What was left out is told by the next line from there.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Lines in a row.
const BURST: u32 = 200;
/// Afterwards a place may log once in so long.
const REFILL: Duration = Duration::from_millis(100);

/// Counts lines by place.
pub(super) struct StormGuard<P> {
    places: HashMap<P, Place>,
}

struct Place {
    /// When all of the burst is allowed again.
    full_at: Instant,
    left_out: u64,
}

impl<P> Default for StormGuard<P> {
    fn default() -> Self {
        Self { places: HashMap::new() }
    }
}

impl<P: Eq + Hash> StormGuard<P> {
    /// Whether a line may be written; with how many of its kind were left out since the last one.
    pub(super) fn admit(&mut self, place: P, now: Instant) -> Option<u64> {
        let place = self.places.entry(place).or_insert(Place { full_at: now, left_out: 0 });
        let full_at = place.full_at.max(now) + REFILL;
        if full_at > now + BURST * REFILL {
            place.left_out += 1;
            return None;
        }
        place.full_at = full_at;
        Some(std::mem::take(&mut place.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_thinned_out_and_told() {
        let mut guard = StormGuard::default();
        let start = Instant::now();
        let admitted = (0..10_000).filter(|_| guard.admit("refused", start).is_some()).count();
        assert_eq!(admitted, BURST as usize);
        assert_eq!(guard.admit("another place", start), Some(0));
        assert_eq!(guard.admit("refused", start + REFILL), Some(10_000 - u64::from(BURST)));
        assert_eq!(guard.admit("refused", start + REFILL), None);
        assert_eq!(guard.admit("refused", start + 3 * REFILL), Some(1));
        let calm = start + 1_000 * REFILL;
        let admitted = (0..10_000).filter(|_| guard.admit("refused", calm).is_some()).count();
        assert_eq!(admitted, BURST as usize);
    }
}
