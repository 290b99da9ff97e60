//! Heartbeats: a sign of life every half interval if nothing else was sent; a peer that is silent for more than
//! two intervals is dead.

use std::time::Duration;

use tokio::time::Instant;

/// Ticks (half intervals) of silence that a peer may have.
const SILENT_TICKS_MAX: u8 = 5;

/// The heartbeats of one connection.
#[derive(Debug, Default)]
pub(super) struct Heart {
    beating: Option<Beating>,
}

#[derive(Debug)]
struct Beating {
    half_interval: Duration,
    next: Instant,
    sent_bytes: u64,
    heard: bool,
    silent_ticks: u8,
}

/// What a tick asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    None,
    Send,
    PeerIsDead,
}

impl Heart {
    /// Starts; an interval of 0 s means no heartbeats.
    pub(super) fn every(interval_s: u16) -> Self {
        let half_interval = Duration::from_secs(u64::from(interval_s)) / 2;
        let beating = (interval_s > 0).then(|| Beating {
            half_interval,
            next: Instant::now() + half_interval,
            sent_bytes: 0,
            heard: true,
            silent_ticks: 0,
        });
        Self { beating }
    }

    /// Anything from the peer is a sign of life.
    pub(super) fn heard(&mut self) {
        if let Some(beating) = &mut self.beating {
            beating.heard = true;
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        Some(self.beating.as_ref()?.next)
    }

    /// Looks whether it is time. While we do not read, the peer's silence means nothing.
    pub(super) fn beat(&mut self, sent_bytes: u64, deaf: bool) -> Beat {
        let Some(beating) = &mut self.beating else { return Beat::None };
        if beating.next > Instant::now() {
            return Beat::None;
        }
        beating.next += beating.half_interval;
        beating.silent_ticks = if beating.heard || deaf { 0 } else { beating.silent_ticks + 1 };
        beating.heard = false;
        let was_quiet = std::mem::replace(&mut beating.sent_bytes, sent_bytes) == sent_bytes;
        match (beating.silent_ticks >= SILENT_TICKS_MAX, was_quiet) {
            (true, _) => Beat::PeerIsDead,
            (false, true) => Beat::Send,
            (false, false) => Beat::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_beats_and_a_silent_peer_dies() {
        let mut heart = Heart::every(2);
        let mut beats = Vec::new();
        for _ in 0..SILENT_TICKS_MAX + 1 {
            tokio::time::advance(Duration::from_secs(1)).await;
            beats.push(heart.beat(7, false));
        }
        assert_eq!(beats[0], Beat::None, "the handshake was sent in this half interval");
        assert_eq!(beats[1], Beat::Send);
        assert_eq!(beats.last(), Some(&Beat::PeerIsDead));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_means_nothing_while_we_do_not_read() {
        let mut heart = Heart::every(2);
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_ne!(heart.beat(7, true), Beat::PeerIsDead);
        }
    }

    #[test]
    fn interval_0_means_none() {
        assert_eq!(Heart::every(0).next(), None);
    }
}
