//! How often something happened lately: a ring of seconds that is brought up to date whenever it is used.

/// Seconds that are kept; the power of two above a minute and the second that is under way.
const SECONDS: u64 = 64;

/// Events of the last minute, by seconds. No thread turns the ring: each use clears what has passed.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    counts: [u32; SECONDS as usize],
    first_s: u64,
    newest_s: u64,
}

/// Events per second, over whole seconds that are over. A service younger than a period is measured since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PerSecond {
    /// In the last second.
    pub last_second: f64,
    /// In the last ten.
    pub last_ten_seconds: f64,
    /// In the last sixty.
    pub last_minute: f64,
}

impl Rate {
    pub(super) fn new(now_s: u64) -> Self {
        Self { counts: [0; SECONDS as usize], first_s: now_s, newest_s: now_s }
    }

    /// So many more. A clock that goes back counts for the newest second.
    pub(super) fn count(&mut self, events: u64, now_s: u64) {
        self.turn(now_s);
        let count = &mut self.counts[(self.newest_s % SECONDS) as usize];
        *count = count.saturating_add(u32::try_from(events).unwrap_or(u32::MAX));
    }

    pub(super) fn per_second(&mut self, now_s: u64) -> PerSecond {
        self.turn(now_s);
        PerSecond { last_second: self.over(1), last_ten_seconds: self.over(10), last_minute: self.over(60) }
    }

    fn over(&self, seconds: u64) -> f64 {
        let seconds = seconds.min(self.newest_s - self.first_s);
        let over = self.newest_s - seconds..self.newest_s;
        let events: u64 = over.map(|second| u64::from(self.counts[(second % SECONDS) as usize])).sum();
        if seconds == 0 { 0.0 } else { events as f64 / seconds as f64 }
    }

    fn turn(&mut self, now_s: u64) {
        if now_s <= self.newest_s {
            return;
        }
        let passed = (now_s - self.newest_s).min(SECONDS);
        for second in now_s - passed + 1..=now_s {
            self.counts[(second % SECONDS) as usize] = 0;
        }
        self.newest_s = now_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_that_are_over_count() {
        // (second, events) …, then the second of the question
        let check = |events: &[(u64, u32)], now_s: u64, expected: [f64; 3]| {
            let mut rate = Rate::new(100);
            for (second, times) in events {
                (0..*times).for_each(|_| rate.count(1, *second));
            }
            let told = rate.per_second(now_s);
            assert_eq!([told.last_second, told.last_ten_seconds, told.last_minute], expected, "{events:?}");
        };
        check(&[], 100, [0.0; 3]);
        check(&[(100, 5)], 100, [0.0; 3]);
        check(&[(100, 5)], 101, [5.0, 5.0, 5.0]);
        check(&[(100, 5)], 102, [0.0, 2.5, 2.5]);
        check(&[(100, 60)], 160, [0.0, 0.0, 1.0]);
        check(&[(100, 60)], 161, [0.0, 0.0, 0.0]);
        check(&[(100, 60)], 10_000, [0.0, 0.0, 0.0]);
        check(&[(150, 10), (159, 20)], 160, [20.0, 3.0, 0.5]);
        check(&[(150, 10), (140, 10)], 151, [20.0, 2.0, 20.0 / 51.0]);
        check(&[(100, 7), (164, 1)], 165, [1.0, 0.1, 1.0 / 60.0]);
    }
}
