//! When messages of a steady rate should leave. Whoever is late sends what is due at once, each message with the time
//! when it should have left: the wait of the late ones is part of what is measured, not left out.

use std::num::NonZeroU64;
use std::time::Duration;

/// What is written at once, messages: more would make the last of them wait for the first.
pub const PACED_BURST: u64 = 64;
/// The kernel may wake a sleeper this much too late; by default it is 50 µs, most of a fast round trip.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

/// From now on the calling thread is woken when it asked to be.
pub fn wake_punctually() {
    // Refused only where the kernel has no such thing; then latencies are a little longer.
    let _ = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS));
}

/// Messages at even distances from a start on. Times are nanoseconds since the load's epoch.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    start_ns: u64,
    per_second: f64,
    sent: u64,
}

impl Pacer {
    /// `share` of an interval (0 to 1) later than `start_ns`, so that several producers do not send together.
    pub fn new(per_second: f64, start_ns: u64, share: f64) -> Pacer {
        let start_ns = start_ns + (share * 1e9 / per_second) as u64;
        Pacer { start_ns, per_second, sent: 0 }
    }

    /// Messages whose time has come and that were not taken yet.
    pub fn due(&self, now_ns: u64) -> u64 {
        let Some(passed_ns) = now_ns.checked_sub(self.start_ns) else { return 0 };
        let all = (passed_ns as f64 * self.per_second / 1e9) as u64 + 1;
        all.saturating_sub(self.sent)
    }

    /// Takes the next message; returns when it should have left.
    pub fn take(&mut self) -> u64 {
        let intended_ns = self.intended_ns(self.sent);
        self.sent += 1;
        intended_ns
    }

    /// How long until the next one is due.
    pub fn wait(&self, now_ns: u64) -> Duration {
        Duration::from_nanos(self.intended_ns(self.sent).saturating_sub(now_ns))
    }

    /// When message `number`, the first is 0, should leave.
    pub fn intended_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * 1e9 / self.per_second) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_late_sender_owes_every_message_at_its_own_time() {
        let mut pacer = Pacer::new(1000.0, 10 * MS, 0.0);
        assert_eq!((pacer.due(9 * MS), pacer.due(10 * MS)), (0, 1));
        assert_eq!(pacer.wait(9 * MS), Duration::from_millis(1));
        // It stood still for 5 ms.
        assert_eq!(pacer.due(15 * MS), 6);
        let taken: Vec<u64> = (0..6).map(|_| pacer.take() / MS).collect();
        assert_eq!(taken, [10, 11, 12, 13, 14, 15]);
        assert_eq!((pacer.due(15 * MS), pacer.wait(15 * MS)), (0, Duration::from_millis(1)));
    }

    #[test]
    fn a_rate_holds_over_an_hour() {
        let mut pacer = Pacer::new(3333.3, 0, 0.5);
        let hour_ns = 3_600_000_000_000;
        let due = pacer.due(hour_ns);
        assert!((due as f64 - 3333.3 * 3600.0).abs() <= 1.0, "{due}");
        assert_eq!(pacer.take(), 150_001);
    }
}
