//! Who waits for which answer.
//!
//! One table per connection: a correlation id of ours leads to the one that asked. Whatever happens to a request
//! ends here, once: an answer, a bounce, or the end of the connection. An answer that nobody waits for any more
//! is counted and dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use leveret_client::{Closed, Delivery};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::profile;

/// Answers of a gathering call that may wait unread. More means that the caller does not read; they are dropped.
const GATHERED_UNREAD_MAX: usize = 1 << 16;

/// What a request came to.
pub(crate) enum Arrival {
    /// Somebody answered.
    Answer(Delivery),
    /// The broker gave the request back.
    Bounced(Bounce),
    /// The connection ended.
    Lost(Closed),
}

/// Why a request came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounce {
    /// `expired`, `rejected`, `maxlen`, `delivery_limit`
    pub(crate) reason: String,
    /// Where it waited.
    pub(crate) queue: String,
    /// It was delivered to a worker at least once.
    pub(crate) delivered: bool,
}

enum Waiter {
    One(oneshot::Sender<Arrival>),
    Many(mpsc::Sender<Arrival>),
}

/// The table of one connection.
pub(crate) struct Pending {
    /// What all correlation ids of this connection begin with.
    prefix: String,
    next: AtomicU64,
    table: Mutex<Table>,
    over: Notify,
    unclaimed: Arc<AtomicU64>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<u64, Waiter>,
    ended: Option<Closed>,
}

/// The right to one answer. Dropped: nobody waits any more.
pub(crate) struct Ticket {
    pending: Arc<Pending>,
    number: u64,
}

impl Pending {
    /// `prefix` must be unique among connections; `unclaimed` counts answers that nobody waits for.
    pub(crate) fn new(prefix: String, unclaimed: Arc<AtomicU64>) -> Arc<Pending> {
        let (next, over) = (AtomicU64::new(1), Notify::new());
        Arc::new(Pending { prefix, next, table: Mutex::default(), over, unclaimed })
    }

    /// A place in the table for one answer.
    pub(crate) fn expect_one(self: &Arc<Self>) -> Result<(Ticket, oneshot::Receiver<Arrival>), Closed> {
        let (sender, receiver) = oneshot::channel();
        Ok((self.enter(Waiter::One(sender))?, receiver))
    }

    /// A place in the table for any number of answers.
    pub(crate) fn expect_many(self: &Arc<Self>) -> Result<(Ticket, mpsc::Receiver<Arrival>), Closed> {
        let (sender, receiver) = mpsc::channel(GATHERED_UNREAD_MAX);
        Ok((self.enter(Waiter::Many(sender))?, receiver))
    }

    fn enter(self: &Arc<Self>, waiter: Waiter) -> Result<Ticket, Closed> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut table = self.table.lock();
        if let Some(closed) = &table.ended {
            return Err(closed.clone());
        }
        table.waiting.insert(number, waiter);
        Ok(Ticket { pending: self.clone(), number })
    }

    /// No answer can come any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.table.lock().ended.is_some()
    }

    /// Returns when no answer can come any more.
    pub(crate) async fn ended(&self) {
        loop {
            let over = self.over.notified();
            if self.has_ended() {
                return;
            }
            over.await;
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().waiting.len()
    }

    /// Hands a delivery of the reply queue to whoever waits for it.
    pub(crate) fn deliver(&self, delivery: Delivery) {
        let Some(number) = delivery.properties().correlation_id().and_then(|id| self.number_of(id)) else {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.settle(number, || match bounce_of(&delivery) {
            Some(bounce) => Arrival::Bounced(bounce),
            None => Arrival::Answer(delivery),
        });
    }

    fn settle(&self, number: u64, arrival: impl FnOnce() -> Arrival) {
        let mut table = self.table.lock();
        let heard = match table.waiting.get(&number) {
            None => false,
            Some(Waiter::Many(sender)) => sender.try_send(arrival()).is_ok(),
            Some(Waiter::One(_)) => match table.waiting.remove(&number) {
                Some(Waiter::One(sender)) => {
                    drop(table);
                    sender.send(arrival()).is_ok()
                }
                _ => false,
            },
        };
        if !heard {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells everybody that no answer will come, and refuses whoever comes later.
    pub(crate) fn end(&self, closed: &Closed) {
        let waiting = {
            let mut table = self.table.lock();
            table.ended = Some(closed.clone());
            std::mem::take(&mut table.waiting)
        };
        self.over.notify_waiters();
        for waiter in waiting.into_values() {
            // One that stopped waiting needs no news.
            let _ = match waiter {
                Waiter::One(sender) => sender.send(Arrival::Lost(closed.clone())).is_ok(),
                Waiter::Many(sender) => sender.try_send(Arrival::Lost(closed.clone())).is_ok(),
            };
        }
    }

    fn number_of(&self, correlation_id: &[u8]) -> Option<u64> {
        let digits = correlation_id.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b"-")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

impl Ticket {
    /// What the answer must carry.
    pub(crate) fn correlation_id(&self) -> String {
        let (prefix, number) = (&self.pending.prefix, self.number.to_string());
        [prefix.as_str(), "-", &number].concat()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.table.lock().waiting.remove(&self.number);
    }
}

/// A message with `x-death` on a reply queue is our own request, given back by its queue.
fn bounce_of(delivery: &Delivery) -> Option<Bounce> {
    let headers = delivery.properties().headers()?;
    let deaths = headers.find("x-death")?;
    let last = deaths.as_array()?.first()?.as_table()?;
    let text = |key: &str| last.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let counted = headers.find("x-delivery-count").and_then(|count| count.as_i64()).unwrap_or(0) > 0;
    let delivered = counted || headers.find(profile::DELIVERED).is_some();
    Some(Bounce { reason: text("reason"), queue: text("queue"), delivered })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Arc<Pending> {
        Pending::new("ab12".to_owned(), Arc::default())
    }

    #[test]
    fn only_ids_of_this_connection_are_known() {
        let pending = table();
        let cases: [(&[u8], Option<u64>); 6] = [
            (b"ab12-7", Some(7)),
            (b"ab12-", None),
            (b"ab13-7", None),
            (b"ab12-7x", None),
            (b"\xff\xfe", None),
            (b"ab12-99999999999999999999999", None),
        ];
        for (id, expected) in cases {
            assert_eq!(pending.number_of(id), expected, "{id:?}");
        }
    }

    #[test]
    fn a_dropped_ticket_leaves_nothing_behind() {
        let pending = table();
        let (ticket, _receiver) = pending.expect_one().unwrap();
        assert_eq!(pending.len(), 1);
        drop(ticket);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn an_answer_nobody_waits_for_is_counted() {
        let pending = table();
        pending.settle(3, || unreachable!("nobody asked"));
        assert_eq!(pending.unclaimed.load(Ordering::Relaxed), 1);
    }
}
