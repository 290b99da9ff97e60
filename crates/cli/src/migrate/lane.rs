//! Moves the messages of the queues of one virtual host: a [`Transfer`] for each, over one connection to each broker.
//!
//! ```text
//!   connect ─► a transfer per queue ─► some broken? ─► wait, connect again ─► those once more
//! ```
//!
//! After whatever breaks, both connections are new: so the source has taken back what was not acknowledged, and delivers
//! it again with its mark.

use std::sync::Arc;
use std::time::Duration;

use leveret_client::{ConnectOptions, Connection, NotConfirmed};
use leveret_shovel::{AckMode, Broken, Changes, Ended, Give, Progress, Side, Take, Transfer, Until};
use leveret_wire::FieldTable;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::state::Counts;

/// Messages of a queue on their way at a time.
const PREFETCH: u16 = 64;
/// Queues moved at a time, so that there are never more than 1,024 messages in memory.
const QUEUES_AT_ONCE: usize = 16;
/// How long to wait before another connection is tried.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// A queue to be moved, and how far it is.
#[derive(Debug)]
pub(super) struct QueueMove {
    pub(super) vhost: String,
    pub(super) name: String,
    /// What earlier runs did.
    pub(super) before: Counts,
    pub(super) progress: Progress,
}

/// What became of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was found empty.
    Moved,
    /// The command was told to stop.
    Stopped,
    /// The source has no such queue any more.
    Gone,
    /// What cannot get better by itself, or did not in time.
    Failed(String),
}

/// The queues of a virtual host, and where they are.
pub(super) struct Lane {
    pub(super) source: ConnectOptions,
    pub(super) destination: ConnectOptions,
    pub(super) queues: Vec<Arc<QueueMove>>,
    /// Goes on when a queue is empty.
    pub(super) follows: bool,
    /// How long nothing may get better before a queue is given up.
    pub(super) patience: Duration,
}

impl QueueMove {
    /// What all runs did.
    pub(super) fn counts(&self) -> Counts {
        let Counts { moved, marked } = self.before;
        Counts { moved: moved + self.progress.moved(), marked: marked + self.progress.marked() }
    }

    fn transfer(&self, until: Until) -> Transfer {
        Transfer {
            take: Take::Queue { name: self.name.clone(), declare: None },
            consumer_tag: String::new(),
            consumer_arguments: FieldTable::new(),
            prefetch: PREFETCH,
            give: Give::Queue { name: self.name.clone(), declare: None },
            changes: Changes { mark_redelivered: true, put_aside: true, ..Changes::default() },
            ack_mode: AckMode::OnConfirm,
            until,
            federation: None,
        }
    }
}

impl Lane {
    /// Moves until every queue has its outcome, or `stop` turns true.
    pub(super) async fn run(self, stop: watch::Receiver<bool>) -> Vec<(Arc<QueueMove>, Outcome)> {
        let mut outcomes = Vec::new();
        let mut left = self.queues.clone();
        let mut moved = self.moved();
        let mut last_progress = Instant::now();
        while !left.is_empty() {
            let (settled, broken) = self.round(left, &stop).await;
            outcomes.extend(settled);
            if self.moved() > moved {
                (moved, last_progress) = (self.moved(), Instant::now());
            }
            if last_progress.elapsed() > self.patience {
                outcomes.extend(broken.into_iter().map(|(queue, why)| (queue, Outcome::Failed(why))));
                break;
            }
            left = broken.into_iter().map(|(queue, _)| queue).collect();
            if !left.is_empty() {
                pause(&stop).await;
            }
        }
        outcomes
    }

    fn moved(&self) -> u64 {
        self.queues.iter().map(|queue| queue.progress.moved()).sum()
    }

    /// Every queue once, over new connections. Gives those that have an outcome, and those that may work the next time.
    async fn round(
        &self,
        queues: Vec<Arc<QueueMove>>,
        stop: &watch::Receiver<bool>,
    ) -> (Vec<(Arc<QueueMove>, Outcome)>, Vec<(Arc<QueueMove>, String)>) {
        if *stop.borrow() {
            return (queues.into_iter().map(|queue| (queue, Outcome::Stopped)).collect(), Vec::new());
        }
        let opened = tokio::join!(Connection::open(&self.source), Connection::open(&self.destination));
        let (source, destination) = match opened {
            (Ok(source), Ok(destination)) => (source, destination),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "no connection");
                return (Vec::new(), queues.into_iter().map(|queue| (queue, error.to_string())).collect());
            }
        };
        let at_once = if self.follows { queues.len() } else { QUEUES_AT_ONCE };
        let turns = Arc::new(Semaphore::new(at_once));
        let until = if self.follows { Until::Stopped } else { Until::Empty };
        let mut transfers = JoinSet::new();
        for queue in queues {
            let (source, destination) = (source.clone(), destination.clone());
            let (turns, mut stop) = (turns.clone(), stop.clone());
            transfers.spawn(async move {
                let _turn = turns.acquire().await;
                let transfer = queue.transfer(until);
                let ended = transfer.run(&source, &destination, &queue.progress, &mut stop).await;
                (queue, ended)
            });
        }
        let (mut settled, mut broken) = (Vec::new(), Vec::new());
        while let Some(Ok((queue, ended))) = transfers.join_next().await {
            match outcome(ended) {
                Ok(outcome) => settled.push((queue, outcome)),
                Err(why) => {
                    tracing::warn!(queue = queue.name, why, "has to be moved again");
                    broken.push((queue, why));
                }
            }
        }
        tokio::join!(source.close(), destination.close());
        (settled, broken)
    }
}

/// `Err` is what may be better the next time.
fn outcome(ended: Result<Ended, Broken>) -> Result<Outcome, String> {
    let broken = match ended {
        Ok(Ended::Done) => return Ok(Outcome::Moved),
        Ok(Ended::Stopped) => return Ok(Outcome::Stopped),
        Err(broken) => broken,
    };
    let why = broken.to_string();
    match broken {
        Broken::Channel(side, error) => match (side, error.reply_code()) {
            (Side::Source, Some(404)) => Ok(Outcome::Gone),
            (_, Some(403..=406 | 530 | 540)) => Ok(Outcome::Failed(why)),
            _ => Err(why),
        },
        Broken::NotConfirmed(NotConfirmed::Returned(_)) => Ok(Outcome::Failed(why)),
        Broken::Connect(..) | Broken::Consumer(_) | Broken::NotConfirmed(_) | Broken::NotAccepted(_) => {
            Err(why)
        }
    }
}

async fn pause(stop: &watch::Receiver<bool>) {
    let mut stop = stop.clone();
    let told = stop.wait_for(|stop| *stop);
    let _either = tokio::time::timeout(RECONNECT_DELAY, told).await.is_err();
}

#[cfg(test)]
mod tests {
    use leveret_client::{By, Closed, Scope};

    use super::*;

    #[test]
    fn what_can_get_better_is_tried_again() {
        let closed = |code| Closed { scope: Scope::Channel, by: By::Broker, code, text: "words".into() };
        let check = |side, code, expected: Option<&str>| {
            let found = outcome(Err(Broken::Channel(side, closed(code).into())));
            assert_eq!(
                found.map(|outcome| format!("{outcome:?}")).ok().as_deref(),
                expected,
                "{side} {code}"
            );
        };
        let failed = r#"Failed("source: channel closed by the broker: 403 words")"#;
        check(Side::Source, 404, Some("Gone"));
        check(Side::Source, 403, Some(failed));
        check(Side::Destination, 320, None);
        check(Side::Destination, 541, None);
    }
}
