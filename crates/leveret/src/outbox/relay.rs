//! The one who carries rows from the table to the broker, for ever.
//!
//! ```text
//!   connect ─▶ wait for a broker ─▶ claim ─▶ publish ─▶ settle ─┐
//!      ▲              ▲                └─ nothing there: wait ──┤
//!      │              └─────────────────────────────────────────┘
//!      └── backoff ◀── the database failed: what came of the last rows is kept and written down first
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use leveret_client::Closed;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::courier::{Courier, Outcome};
use super::database::{Database, DatabaseError, Session};
use super::row::{Row, Settlement, Verdict};
use crate::Client;

/// Between attempts to reach the database.
const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// Carries the rows of an outbox to the broker. Made for one database, and begun with [`Relay::start`]; any number of
/// them may run, in any number of processes.
#[must_use = "a relay carries nothing until it is started"]
pub struct Relay {
    client: Client,
    settings: Settings,
    run: Run,
}

/// A [`Job`] on the database that the relay was made for.
type Run = Box<dyn FnOnce(Job) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

#[derive(Clone, Debug)]
struct Settings {
    batch: usize,
    poll: Duration,
    backoff_first: Duration,
    backoff_max: Duration,
    park_after: Option<u32>,
}

/// A running relay. Dropped, it ends after what is on its way; [`drain`](RelayHandle::drain) waits for that.
#[derive(Debug)]
#[must_use = "a dropped relay ends"]
pub struct RelayHandle {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    stats: Arc<Mutex<RelayStats>>,
}

/// What a relay has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayStats {
    /// Messages the broker has confirmed.
    pub sent: u64,
    /// Attempts that failed: no queue, refused. A broker that is away does not count.
    pub failed: u64,
    /// Messages given up.
    pub parked: u64,
    /// How often the database could not be used.
    pub database_errors: u64,
    /// The newest error, of whatever kind.
    pub last_error: Option<String>,
}

impl Relay {
    pub(super) fn new(client: &Client, database: impl Database) -> Relay {
        let settings = Settings {
            batch: 100,
            poll: Duration::from_secs(1),
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            park_after: None,
        };
        let run: Run = Box::new(move |job| Box::pin(job.run(database)));
        Relay { client: client.clone(), settings, run }
    }

    /// How many rows it takes at a time, at least 1. Default: 100.
    pub fn batch(mut self, rows: usize) -> Relay {
        self.settings.batch = rows.max(1);
        self
    }

    /// How often it looks into the table when nothing tells it to, which is also how exactly the time of the next
    /// attempt is kept. Default: 1 s.
    pub fn poll(mut self, interval: Duration) -> Relay {
        self.settings.poll = interval;
        self
    }

    /// When a message that no queue took is tried again: after `first`, then after twice that, up to `max`.
    /// Default: 1 s to 60 s.
    pub fn backoff(mut self, first: Duration, max: Duration) -> Relay {
        (self.settings.backoff_first, self.settings.backoff_max) = (first, max.max(first));
        self
    }

    /// Gives a message up after so many failed attempts: it stays in the table, parked, with the reason, and the next
    /// one with its order key may leave. Default: never.
    pub fn park_after(mut self, attempts: u32) -> Relay {
        self.settings.park_after = Some(attempts);
        self
    }

    /// Begins, on the current Tokio runtime. Neither the database nor the broker need be there yet.
    pub fn start(self) -> RelayHandle {
        let (stop, stopping) = watch::channel(false);
        let stats = Arc::<Mutex<RelayStats>>::default();
        let job = Job {
            courier: Courier::new(self.client),
            settings: self.settings,
            stopping,
            stats: stats.clone(),
            owed: Vec::new(),
        };
        RelayHandle { stop, task: tokio::spawn((self.run)(job)), stats }
    }
}

impl RelayHandle {
    /// What it has done so far.
    pub fn stats(&self) -> RelayStats {
        self.stats.lock().clone()
    }

    /// Takes no more rows, waits for the confirms of those on their way, and ends. What is in the table stays there.
    pub async fn drain(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the relay did not end in order");
        }
    }
}

/// A relay at work.
struct Job {
    courier: Courier,
    settings: Settings,
    stopping: watch::Receiver<bool>,
    stats: Arc<Mutex<RelayStats>>,
    /// What came of rows, and is not written down yet.
    owed: Vec<Settlement>,
}

/// Why a relay does not go on with a session.
enum End {
    Stopped,
    ClientClosed(Closed),
    Database(DatabaseError),
}

impl Job {
    async fn run(mut self, database: impl Database) {
        let mut pause = RECONNECT_FIRST;
        loop {
            match self.session(&database, &mut pause).await {
                End::Stopped => return,
                End::ClientClosed(closed) => {
                    return self.note_error(format!("the relay has ended: {closed}"));
                }
                End::Database(error) => {
                    self.stats.lock().database_errors += 1;
                    self.note_error(format!("the outbox cannot be read: {error}"));
                }
            }
            if self.unless_stopped(sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    async fn session<D: Database>(&mut self, database: &D, pause: &mut Duration) -> End {
        let mut session = match self.unless_stopped(database.open()).await {
            Some(Ok(session)) => session,
            Some(Err(error)) => return End::Database(error),
            None => return End::Stopped,
        };
        loop {
            match self.round(&mut session).await {
                Ok(()) => *pause = RECONNECT_FIRST,
                Err(end) => return end,
            }
        }
    }

    /// Carries one batch, or waits for something to carry.
    async fn round(&mut self, session: &mut impl Session) -> Result<(), End> {
        self.settle(session).await?;
        let mut stopping = self.stopping.clone();
        tokio::select! {
            ready = self.courier.ready() => ready.map_err(End::ClientClosed)?,
            () = stopped(&mut stopping) => return Err(End::Stopped),
        }
        let rows = session.claim(self.settings.batch).await.map_err(End::Database)?;
        if rows.is_empty() {
            let poll = self.settings.poll;
            let waited = self.unless_stopped(session.wait(poll)).await.ok_or(End::Stopped)?;
            return waited.map_err(End::Database);
        }
        let told_to_stop = || *stopping.borrow() || stopping.has_changed().is_err();
        let outcomes = self.courier.carry(&rows, told_to_stop).await;
        let uncertain = outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Unknown(_)));
        for (index, outcome) in outcomes {
            self.judge(&rows[index], outcome);
        }
        self.settle(session).await?;
        if uncertain {
            self.unless_stopped(sleep(RECONNECT_FIRST)).await.ok_or(End::Stopped)?;
        }
        Ok(())
    }

    /// Writes down what is owed. Kept if that fails, so that it is not sent again for that reason.
    async fn settle(&mut self, session: &mut impl Session) -> Result<(), End> {
        session.settle(&self.owed).await.map_err(End::Database)?;
        self.owed.clear();
        Ok(())
    }

    fn judge(&mut self, row: &Row, outcome: Outcome) {
        let verdict = match outcome {
            Outcome::Delivered => Verdict::Delivered,
            Outcome::Unsendable(error) => Verdict::Park { error },
            Outcome::Refused(error) => self.settings.after_failure(row.attempts, error),
            Outcome::Unknown(error) => return self.note_error(error),
        };
        self.count(row, &verdict);
        self.owed.push(Settlement { id: row.id, verdict });
    }

    fn count(&self, row: &Row, verdict: &Verdict) {
        let mut stats = self.stats.lock();
        let error = match verdict {
            Verdict::Delivered => {
                stats.sent += 1;
                return;
            }
            Verdict::Retry { error, .. } => error,
            Verdict::Park { error } => {
                stats.parked += 1;
                error
            }
        };
        stats.failed += 1;
        tracing::warn!(message_id = row.message.message_id, %error, "a message of the outbox was not taken");
        stats.last_error = Some(error.clone());
    }

    fn note_error(&self, error: String) {
        tracing::warn!(%error, "outbox");
        self.stats.lock().last_error = Some(error);
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            done = work => Some(done),
            () = stopped(&mut stopping) => None,
        }
    }
}

impl Settings {
    fn after_failure(&self, failed_before: u32, error: String) -> Verdict {
        let failed = failed_before.saturating_add(1);
        match self.park_after {
            Some(most) if failed >= most => Verdict::Park { error },
            _ => {
                let doubled = self.backoff_first.saturating_mul(1 << failed_before.min(20));
                Verdict::Retry { after: doubled.min(self.backoff_max), error }
            }
        }
    }
}

/// The handle was told to stop, or is gone.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _or_dropped = stopping.wait_for(|stopping| *stopping).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failed_before: u32, park_after: Option<u32>, expected_s: Option<u64>) {
        let settings = Settings {
            batch: 1,
            poll: Duration::ZERO,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            park_after,
        };
        let error = "no route".to_owned();
        let expected = match expected_s {
            Some(after_s) => Verdict::Retry { after: Duration::from_secs(after_s), error: error.clone() },
            None => Verdict::Park { error: error.clone() },
        };
        assert_eq!(settings.after_failure(failed_before, error), expected, "{failed_before} {park_after:?}");
    }

    #[test]
    fn failures_come_later_and_later_until_they_are_parked() {
        for (failed_before, expected_s) in [(0, 1), (1, 2), (5, 32), (6, 60), (7, 60), (u32::MAX, 60)] {
            check(failed_before, None, Some(expected_s));
        }
        check(0, Some(2), Some(1));
        check(1, Some(2), None);
        check(2, Some(2), None);
        check(0, Some(0), None);
    }
}
