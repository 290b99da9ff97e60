//! Requests that were seen before, by their message id.
//!
//! A caller that retries, or a queue that delivers again, must not cause the same work twice where this worker can
//! know it: a repetition waits for the first one if it is still running, and gets its answer. The memory is
//! bounded in number, octets and time.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Failure, Payload};

const REMEMBERED_MAX: usize = 10_000;
const REMEMBERED_BYTES_MAX: usize = 8 << 20;
const REMEMBERED_FOR: Duration = Duration::from_secs(120);

/// What came of a request.
pub(super) type Outcome = Result<Payload, Failure>;

/// The requests of one worker.
#[derive(Default)]
pub(super) struct Dedup {
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    slots: HashMap<String, Arc<Slot>>,
    /// Oldest first.
    done: VecDeque<(String, Instant, usize)>,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Slot {
    /// `None` inside: done, but there is no answer to repeat.
    outcome: OnceLock<Option<Outcome>>,
    settled: Notify,
}

/// What to do with a request.
pub(super) enum Seen {
    /// Do it, and say what came of it.
    First(First),
    /// It is being done, or was: this is how to learn the outcome.
    Again(Arc<Slot>),
}

/// The duty to say what came of a request. Dropped without doing so: it may be tried again.
pub(super) struct First {
    dedup: Arc<Dedup>,
    id: Option<String>,
    slot: Arc<Slot>,
}

impl Dedup {
    pub(super) fn enter(self: &Arc<Self>, id: &str) -> Seen {
        let mut memory = self.memory.lock();
        memory.forget_old();
        if let Some(slot) = memory.slots.get(id) {
            return Seen::Again(slot.clone());
        }
        let slot = Arc::<Slot>::default();
        memory.slots.insert(id.to_owned(), slot.clone());
        Seen::First(First { dedup: self.clone(), id: Some(id.to_owned()), slot })
    }
}

impl Slot {
    /// What came of the first one. `None`: it ended without an outcome that can be repeated.
    pub(super) async fn outcome(&self) -> Option<Outcome> {
        loop {
            let settled = self.settled.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            settled.await;
        }
    }

    fn settle(&self, outcome: Option<Outcome>) {
        // The first word counts; there is only one `First` per slot.
        let _ = self.outcome.set(outcome);
        self.settled.notify_waiters();
    }
}

impl First {
    /// An answer that repetitions shall get too.
    pub(super) fn done(mut self, outcome: &Outcome) {
        let Some(id) = self.id.take() else { return };
        let bytes = id.len() + outcome.as_ref().map_or(128, |payload| payload.body.len());
        self.slot.settle(Some(outcome.clone()));
        self.dedup.memory.lock().remember(id, bytes);
    }
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.dedup.memory.lock().slots.remove(&id);
            self.slot.settle(None);
        }
    }
}

impl Memory {
    fn remember(&mut self, id: String, bytes: usize) {
        self.bytes += bytes;
        self.done.push_back((id, Instant::now(), bytes));
        self.forget_old();
    }

    fn forget_old(&mut self) {
        while let Some((_, since, _)) = self.done.front() {
            let keep = self.done.len() <= REMEMBERED_MAX
                && self.bytes <= REMEMBERED_BYTES_MAX
                && since.elapsed() < REMEMBERED_FOR;
            if keep {
                return;
            }
            if let Some((id, _, bytes)) = self.done.pop_front() {
                self.bytes -= bytes;
                self.slots.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(dedup: &Arc<Dedup>, id: &str) -> First {
        match dedup.enter(id) {
            Seen::First(first) => first,
            Seen::Again(_) => panic!("{id} was never seen"),
        }
    }

    #[tokio::test]
    async fn a_repetition_gets_the_answer_of_the_first() {
        let dedup = Arc::<Dedup>::default();
        let running = first(&dedup, "a");
        let Seen::Again(slot) = dedup.enter("a") else { panic!("a is running") };
        let waiting = tokio::spawn(async move { slot.outcome().await });
        tokio::task::yield_now().await;
        running.done(&Ok(Payload::bytes("done")));
        assert_eq!(waiting.await.unwrap(), Some(Ok(Payload::bytes("done"))));
    }

    #[tokio::test]
    async fn what_ended_without_an_outcome_may_be_tried_again() {
        let dedup = Arc::<Dedup>::default();
        drop(first(&dedup, "a"));
        drop(first(&dedup, "a"));
    }

    #[test]
    fn memory_is_bounded() {
        let dedup = Arc::<Dedup>::default();
        let body = vec![0; 1 << 20];
        for n in 0..20 {
            first(&dedup, &n.to_string()).done(&Ok(Payload::bytes(body.clone())));
        }
        assert!(dedup.memory.lock().bytes <= REMEMBERED_BYTES_MAX);
        assert!(dedup.memory.lock().slots.len() < 10);
    }
}
