//! When the kernel is told to acknowledge what came at once.
//!
//! Clients that leave Nagle's algorithm on (amqplib) send two small things in two writes, and the second waits in their
//! kernel for the acknowledgement of the first. Ours puts that off for 40 ms or more where it expects an answer to carry
//! it. Telling it otherwise costs a system call and a segment for every small read, which most clients never need:
//!
//! ```text
//!   Young ──so many small reads──► Trusted ──a read that may have waited for us──► Waits
//!   (every one: set-up is slow talk)  (none)                                       (every one, for good)
//! ```

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// Small reads until a connection is trusted; it has been set up by then.
const YOUNG_READS: u8 = 64;
/// How long Linux puts acknowledgements off (40 to 200 ms), and what schedulers add.
const HELD_BACK: RangeInclusive<Duration> = Duration::from_millis(30)..=Duration::from_millis(300);

/// What is known of a client's patience.
#[derive(Debug)]
pub(super) enum Acknowledging {
    /// Nothing yet; so many small reads were acknowledged at once.
    Young(u8),
    /// Nothing it sent seems to have waited for an acknowledgement.
    Trusted(LastRead),
    /// Something has waited as long as an acknowledgement is put off.
    Waits,
}

/// A connection at the time of its last small read.
#[derive(Debug)]
pub(super) struct LastRead {
    at: Instant,
    /// Whatever was sent since has carried the acknowledgement.
    sent_bytes: u64,
}

impl Acknowledging {
    pub(super) fn new() -> Self {
        Self::Young(0)
    }

    /// After a small read: whether it is to be acknowledged at once. `sent_bytes` were sent in all when it came.
    pub(super) fn at_once(&mut self, now: Instant, sent_bytes: u64) -> bool {
        let this_read = LastRead { at: now, sent_bytes };
        match self {
            Self::Young(reads) if *reads < YOUNG_READS => *reads += 1,
            Self::Trusted(last) if last.has_held_back(&this_read) => *self = Self::Waits,
            Self::Waits => {}
            Self::Young(_) | Self::Trusted(_) => *self = Self::Trusted(this_read),
        }
        !matches!(self, Self::Trusted(_))
    }
}

impl LastRead {
    fn has_held_back(&self, next: &Self) -> bool {
        self.sent_bytes == next.sent_bytes && HELD_BACK.contains(&next.at.duration_since(self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads after the young ones, each so many ms after the one before and with so many octets sent between: the answers.
    fn check(reads: &[(u64, u64)], expected: &[bool]) {
        let mut acknowledging = Acknowledging::new();
        let (mut now, mut sent_bytes) = (Instant::now(), 0);
        for _ in 0..YOUNG_READS {
            assert!(acknowledging.at_once(now, sent_bytes));
        }
        let mut answers = Vec::new();
        for (pause_ms, answered_bytes) in reads {
            now += Duration::from_millis(*pause_ms);
            sent_bytes += answered_bytes;
            answers.push(acknowledging.at_once(now, sent_bytes));
        }
        assert_eq!(answers, expected, "{reads:?}");
    }

    #[test]
    fn only_who_has_waited_for_an_acknowledgement_gets_it_at_once() {
        check(&[(0, 0), (1, 0), (0, 0), (2, 0)], &[false; 4]); // it does not wait
        check(&[(0, 0), (40, 9), (40, 9)], &[false; 3]); // answers carry it
        check(&[(0, 0), (1000, 0), (5000, 0)], &[false; 3]); // it has nothing to say
        check(&[(0, 0), (41, 0), (1, 0), (1, 9)], &[false, true, true, true]);
        check(&[(0, 0), (205, 0), (1000, 0)], &[false, true, true]);
    }
}
