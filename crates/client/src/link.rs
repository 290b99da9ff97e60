//! A connection that comes back.
//!
//! ```text
//!   Connected ──lost──▶ Reconnecting ──wait (jitter), next host──▶ Connected …
//!       └──────────────close, or the last Link dropped──▶ Closed
//! ```
//!
//! A [`Link`] only opens connections: what was in flight on the old one has failed, with all that is known about it,
//! and channels belong to the connection they were opened on. A [`RecoveringConsumer`] builds on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::{By, ChannelError, Closed, ConnectError};
use crate::options::{Backoff, ConnectOptions};
use crate::recovering::{ConsumerPlan, RecoveringConsumer};

/// A connection that lived this long was worth to start over with the shortest wait.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// A connection that is opened again whenever it is lost, for ever, until it is closed. Clones are the same link.
#[derive(Clone)]
pub struct Link {
    handle: Arc<LinkHandle>,
}

struct LinkHandle {
    state: watch::Receiver<LinkState>,
    stop: watch::Sender<bool>,
    options: ConnectOptions,
}

/// Where a link stands.
#[derive(Debug, Clone)]
pub enum LinkState {
    /// There is a connection.
    Connected(Connection),
    /// There is none, and the next attempt waits or is under way.
    Reconnecting {
        /// Counts from 1.
        attempt: u32,
        /// Why there is no connection.
        last_error: Arc<str>,
    },
    /// It was closed.
    Closed,
}

impl Link {
    /// Opens the first connection, which must succeed. Needs a Tokio runtime.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn open(options: ConnectOptions) -> Result<Link, ConnectError> {
        let start = match options.addresses().len() {
            0 | 1 => 0,
            count => (getrandom::u32().unwrap_or(0) as usize) % count,
        };
        let (connection, at) = Connection::open_from(&options, start).await?;
        let (sender, state) = watch::channel(LinkState::Connected(connection.clone()));
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper { options: options.clone(), at, sender, stopped };
        tokio::spawn(keeper.run(connection));
        Ok(Link { handle: Arc::new(LinkHandle { state, stop, options }) })
    }

    /// The connection; waits while there is none.
    ///
    /// # Errors
    /// The link was closed.
    pub async fn connection(&self) -> Result<Connection, Closed> {
        let mut state = self.state();
        loop {
            match &*state.borrow_and_update() {
                LinkState::Connected(connection) if connection.is_open() => return Ok(connection.clone()),
                LinkState::Closed => return Err(closed()),
                _ => {}
            }
            if state.changed().await.is_err() {
                return Err(closed());
            }
        }
    }

    /// The connection, if there is one just now.
    pub fn current(&self) -> Option<Connection> {
        match &*self.handle.state.borrow() {
            LinkState::Connected(connection) if connection.is_open() => Some(connection.clone()),
            _ => None,
        }
    }

    /// One more connection to the same addresses, which does not come back: for what may cost a connection.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn another(&self) -> Result<Connection, ConnectError> {
        Connection::open(&self.handle.options).await
    }

    /// Where it stands, and every change of it.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.handle.state.clone()
    }

    /// Closes the connection, in order, and opens no other.
    pub async fn close(&self) {
        self.handle.stop.send_replace(true);
        let mut state = self.state();
        let _keeper_gone = state.wait_for(|state| matches!(state, LinkState::Closed)).await;
    }

    /// Consumes, over all connections to come: declares the topology and starts the consumer on each.
    ///
    /// # Errors
    /// Why it does not work the first time.
    pub async fn consume(&self, plan: ConsumerPlan) -> Result<RecoveringConsumer, ChannelError> {
        RecoveringConsumer::start(self.clone(), plan).await
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(&*self.handle.state.borrow(), LinkState::Closed)
    }

    pub(crate) fn backoff(&self) -> Backoff {
        self.handle.options.backoff
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&*self.handle.state.borrow()).finish()
    }
}

impl Drop for LinkHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// The task behind a link.
struct Keeper {
    options: ConnectOptions,
    /// The address of the last connection.
    at: usize,
    sender: watch::Sender<LinkState>,
    stopped: watch::Receiver<bool>,
}

impl Keeper {
    async fn run(mut self, mut connection: Connection) {
        let mut attempt = 0;
        loop {
            let opened_at = Instant::now();
            let lost = tokio::select! {
                lost = connection.closed() => lost,
                () = stop(&mut self.stopped) => {
                    connection.close().await;
                    break;
                }
            };
            if opened_at.elapsed() >= STABLE_AFTER {
                attempt = 0;
            }
            tracing::info!(%lost, "reconnecting");
            let next = tokio::select! {
                next = reconnect(&self.options, &mut self.at, &self.sender, &mut attempt, &lost) => next,
                () = stop(&mut self.stopped) => break,
            };
            connection = next;
            self.sender.send_replace(LinkState::Connected(connection.clone()));
        }
        self.sender.send_replace(LinkState::Closed);
    }
}

async fn reconnect(
    options: &ConnectOptions,
    at: &mut usize,
    sender: &watch::Sender<LinkState>,
    attempt: &mut u32,
    lost: &Closed,
) -> Connection {
    let mut last_error: Arc<str> = lost.to_string().into();
    loop {
        *attempt += 1;
        sender.send_replace(LinkState::Reconnecting { attempt: *attempt, last_error: last_error.clone() });
        tokio::time::sleep(wait_before(options.backoff, *attempt)).await;
        match Connection::open_from(options, *at + 1).await {
            Ok((connection, opened)) => {
                *at = opened;
                return connection;
            }
            Err(error) => {
                tracing::debug!(attempt, %error, "no connection");
                last_error = error.to_string().into();
            }
        }
    }
}

async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _or_gone = stopped.wait_for(|stopped| *stopped).await;
}

/// A random time below a bound that doubles.
pub(crate) fn wait_before(backoff: Backoff, attempt: u32) -> Duration {
    let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    let bound = backoff.min.saturating_mul(doubled).min(backoff.max);
    let share = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    bound.mul_f64(share)
}

fn closed() -> Closed {
    Closed::connection(By::Us, leveret_wire::ReplyCode::REPLY_SUCCESS.0, "closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound() {
        let backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_secs(5) };
        for attempt in [1, 2, 3, 8, 31, 32, 33, u32::MAX] {
            let bound = Duration::from_millis(50 << attempt.saturating_sub(1).min(20)).min(backoff.max);
            for _ in 0..100 {
                assert!(wait_before(backoff, attempt) <= bound, "attempt {attempt}");
            }
        }
        assert!((0..100).any(|_| wait_before(backoff, 10) > Duration::from_millis(500)), "there is jitter");
    }
}
