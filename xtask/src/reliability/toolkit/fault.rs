//! What goes wrong: chosen by a seed, described so that a report can name it.

use leveret_testkit::random::Random;
use std::fmt;
use std::time::Duration;

/// Whose connections something happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Caller,
    /// The worker in this process.
    Worker,
    /// The worker in a process of its own.
    Process,
    /// Both workers.
    Workers,
    All,
}

/// One thing that goes wrong. Times are those from its begin to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// `kill -9`, and started again after a while.
    BrokerKilled { down: Duration },
    /// Reset, on both sides.
    Cut(Whose),
    /// Reset again and again.
    Flapping { whose: Whose, times: u64 },
    /// Nothing passes; with `dies`, the connections never come back to life.
    HalfOpen { whose: Whose, time: Duration, dies: bool },
    /// Late, and unevenly so.
    Delayed { whose: Whose, delay: Duration, jitter: Duration },
    /// So slow that a request takes a while.
    Trickle { whose: Whose, bytes_per_s: u64, time: Duration },
    /// Cut, and nobody listens for a while.
    Refused { whose: Whose, time: Duration },
    /// `kill -9`, and started again after a while.
    ProcessKilled { down: Duration },
    /// A request that kills its worker whenever it is delivered.
    DeadlyRequest,
    /// Some handlers panic.
    Panics,
    /// Some handlers do not end.
    Hangs,
    /// Messages that are wrong.
    Poison,
    /// All callers go away.
    CancelStorm,
    /// Somebody deletes the caller's reply queue.
    ReplyQueueDeleted,
    /// Somebody deletes the queue of the service.
    ServiceQueueDeleted,
}

const WHOSE: [Whose; 5] = [Whose::Caller, Whose::Worker, Whose::Process, Whose::Workers, Whose::All];

impl Fault {
    /// Any fault. `broker_kills` of 100 are kills of the broker.
    pub(super) fn choose(random: &mut Random, broker_kills: u64) -> Fault {
        if random.chance(broker_kills, 100) {
            return Fault::BrokerKilled { down: millis(random, 0, 600) };
        }
        let whose = random.pick(&WHOSE).copied().unwrap_or(Whose::All);
        match random.below(18) {
            0..=2 => Fault::Cut(whose),
            3 => Fault::Flapping { whose, times: 2 + random.below(6) },
            4 | 5 => Fault::HalfOpen { whose, time: millis(random, 200, 1_500), dies: false },
            6 => Fault::HalfOpen { whose, time: millis(random, 2_000, 3_500), dies: true },
            7 => Fault::Delayed { whose, delay: millis(random, 1, 80), jitter: millis(random, 0, 80) },
            8 => Fault::Trickle {
                whose,
                bytes_per_s: 2_000 + random.below(20_000),
                time: millis(random, 300, 1_500),
            },
            9 => Fault::Refused { whose, time: millis(random, 100, 1_500) },
            10 | 11 => Fault::ProcessKilled { down: millis(random, 0, 400) },
            12 => Fault::DeadlyRequest,
            13 => Fault::Panics,
            14 => Fault::Hangs,
            15 => Fault::Poison,
            16 => Fault::CancelStorm,
            _ if random.chance(1, 2) => Fault::ReplyQueueDeleted,
            _ => Fault::ServiceQueueDeleted,
        }
    }

    /// The kind, for counting.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Fault::BrokerKilled { .. } => "broker killed",
            Fault::Cut(Whose::Caller) => "cut: caller",
            Fault::Cut(Whose::Worker | Whose::Process | Whose::Workers) => "cut: worker",
            Fault::Cut(Whose::All) => "cut: all",
            Fault::Flapping { .. } => "flapping",
            Fault::HalfOpen { dies: false, .. } => "half-open, thawed",
            Fault::HalfOpen { dies: true, .. } => "half-open until heartbeat",
            Fault::Delayed { .. } => "delayed",
            Fault::Trickle { .. } => "trickle",
            Fault::Refused { .. } => "reconnects refused",
            Fault::ProcessKilled { .. } => "worker killed",
            Fault::DeadlyRequest => "deadly request",
            Fault::Panics => "panics",
            Fault::Hangs => "hangs",
            Fault::Poison => "poison",
            Fault::CancelStorm => "cancel storm",
            Fault::ReplyQueueDeleted => "reply queue deleted",
            Fault::ServiceQueueDeleted => "service queue deleted",
        }
    }

    /// Whether it may cost a connection, a queue or a process: only then may work be done twice or be lost
    /// track of.
    pub(super) fn has_losses(self) -> bool {
        !matches!(
            self,
            Fault::Delayed { .. } | Fault::Panics | Fault::Hangs | Fault::Poison | Fault::CancelStorm
        )
    }

    /// Whether tasks that the broker has confirmed may be lost with it.
    pub(super) fn takes_tasks(self) -> bool {
        self == Fault::ServiceQueueDeleted
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

fn millis(random: &mut Random, least: u64, most: u64) -> Duration {
    Duration::from_millis(least + random.below(most - least + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_decides_and_every_kind_comes_up() {
        let chosen = |seed| {
            let mut random = Random::new(seed);
            (0..500).map(|_| Fault::choose(&mut random, 10)).collect::<Vec<_>>()
        };
        assert_eq!(chosen(7), chosen(7));
        let kinds: BTreeSet<_> = chosen(7).into_iter().map(Fault::kind).collect();
        assert_eq!(kinds.len(), 18, "{kinds:?}");
    }
}
