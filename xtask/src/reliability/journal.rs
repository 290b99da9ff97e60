//! What happened to the messages of a load, step by step, each with how much the disk had been asked to write by then.
//!
//! ```text
//!   log of the disk   w w F w w w F w F w …          w a write, F a flush
//!   journal              │sent    │confirmed  │acked
//!                        2        7           9       entries
//! ```
//!
//! After a power cut at entry n nothing is known but the steps up to n. Told again to a fresh ledger, they say what a broker that starts
//! on such a disk owes. A position is noted **before** something is sent, and **after** something has arrived:
//! so what a message may have caused is never behind its step, and what made a confirm true is never in front of it.

use std::time::Instant;

use super::ledger::{Ending, Ledger};
use super::message::Message;

/// How many writes and flushes the disk has been asked for so far.
pub(super) type Clock = Box<dyn FnMut() -> usize + Send>;

/// Written down while it happens.
pub(super) struct Journal {
    clock: Clock,
    entries: Vec<Entry>,
}

/// The steps of one recording, in their order.
pub(super) struct Story(Vec<Entry>);

struct Entry {
    position: usize,
    at: Instant,
    step: Step,
}

/// Everything a ledger is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Sent { message: Message, publisher: usize },
    Confirmed { id: u64 },
    Delivered { queue: usize, id: u64, redelivered: bool },
    Acked { queue: usize, id: u64 },
    AckRead { queue: usize, id: u64 },
    Requeued { queue: usize, id: u64 },
    Killed,
}

impl Journal {
    pub(super) fn new(clock: Clock) -> Journal {
        Journal { clock, entries: Vec::new() }
    }

    pub(super) fn note(&mut self, step: Step) {
        let position = (self.clock)();
        self.entries.push(Entry { position, at: Instant::now(), step });
    }

    pub(super) fn close(self) -> Story {
        Story(self.entries)
    }
}

impl Story {
    /// What a ledger knew when the power went, `until` entries of the disk's log having been asked for.
    pub(super) fn retell(&self, until: usize) -> Ledger {
        let mut ledger = Ledger::new();
        for Entry { at, step, .. } in self.0.iter().take_while(|entry| entry.position <= until) {
            ledger.set_time(*at);
            match *step {
                Step::Sent { message, publisher } => ledger.sent(message, publisher),
                Step::Confirmed { id } => ledger.confirmed(id),
                Step::Delivered { queue, id, redelivered } => {
                    let _judged_while_it_happened = ledger.delivered(queue, id, redelivered);
                }
                Step::Acked { queue, id } => ledger.acked(queue, id),
                Step::AckRead { queue, id } => ledger.ack_read(queue, id),
                Step::Requeued { queue, id } => ledger.requeued(queue, id),
                Step::Killed => ledger.ended(Ending::Killed, *at),
            }
        }
        ledger.power_cut();
        ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliability::message::QUEUES;

    /// Message 1 sent at entry 10, confirmed at 20, acknowledged in all its queues at 30 and later.
    fn story() -> Story {
        let mut position = 0;
        let clock = move || {
            position += 10;
            position
        };
        let mut journal = Journal::new(Box::new(clock));
        let message = Message::new(7, 1);
        journal.note(Step::Sent { message, publisher: 0 });
        journal.note(Step::Confirmed { id: 1 });
        for queue in message.queues() {
            journal.note(Step::Acked { queue, id: 1 });
        }
        journal.close()
    }

    #[test]
    fn what_is_owed_depends_on_the_moment() {
        let found_nothing = |until| {
            let mut ledger = story().retell(until);
            (0..QUEUES).for_each(|queue| ledger.drained(queue));
            ledger.judgement().verdict.to_string()
        };
        for (until, lost) in [(0, false), (10, false), (19, false), (20, true), (29, true), (1000, false)] {
            assert_eq!(found_nothing(until).contains("confirmed and lost"), lost, "at entry {until}");
        }
        let mut ledger = story().retell(1000);
        for queue in Message::new(7, 1).queues() {
            assert!(ledger.delivered(queue, 1, true), "it may come back");
        }
        let judgement = ledger.judgement();
        assert!(judgement.verdict.passed() && judgement.came_back == judgement.found, "{judgement:?}");
        assert!(!story().retell(0).delivered(0, 1, true), "before it was sent it is a phantom");
    }
}
