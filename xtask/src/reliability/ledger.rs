//! What was promised and what was kept: every message of the load in every queue, across all kills.
//!
//! ```text
//!   copy of a message in a queue
//!
//!   sent ──delivered──► held ──acked──► acked ──(kill)──► may come back, unless the broker had read the acknowledgement
//!     ▲                   │
//!     └───── requeued ────┘       a kill gives back everything that is held
//! ```
//!
//! The log has one order. So an acknowledgement that the broker had read, having answered what was sent behind it, is on disk
//! when a publish that was sent after that answer is confirmed: on a machine of any speed.
//!
//! A run is the life of one broker process. A drain takes everything out of a queue: what is confirmed, was never
//! acknowledged and is not there is lost, and what is not there must never come back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::journal::{Journal, Step};
use super::message::Message;
use super::verdict::Verdict;

pub(super) struct Ledger {
    /// The number of the current run.
    run: usize,
    ended: Vec<EndedRun>,
    messages: HashMap<u64, Tracked>,
    /// The send time of the youngest publish of this run that was confirmed: the log is on disk up to there.
    logged: Option<Instant>,
    backlog: i64,
    counts: Counts,
    verdict: Verdict,
    journal: Option<Journal>,
    /// The time of what is told again from a journal; otherwise it is now.
    told_at: Option<Instant>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Killed,
    Stopped,
    /// Killed while it stopped: what had been delivered is known or it is not.
    KilledStopping,
}

struct EndedRun {
    ending: Ending,
    at: Instant,
    logged: Option<Instant>,
}

struct Tracked {
    publisher: usize,
    run: usize,
    sent: Instant,
    confirmed: bool,
    copies: Vec<MessageCopy>,
}

struct MessageCopy {
    queue: usize,
    delivered: bool,
    requeued: bool,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the queue, as far as we know.
    Waiting,
    /// With one of our consumers since this run.
    Held { run: usize },
    Acked {
        run: usize,
        at: Instant,
        /// Since when the broker is known to have read it.
        read: Option<Instant>,
    },
}

#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    confirmed: u64,
    deliveries: u64,
    acked: u64,
    requeued: u64,
    came_back: u64,
    oldest_came_back: Duration,
    marked_needlessly: u64,
    unconfirmed_gone: u64,
}

/// What decides whether a message must keep its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) publisher: usize,
    /// It was given back once: its place in the queue is the broker's business (P6).
    pub(super) requeued: bool,
}

/// What was found on the disk of a machine whose power was cut.
#[derive(Debug)]
pub(super) struct Judgement {
    /// Messages that had been confirmed when the power went, many of them consumed since.
    pub(super) confirmed: u64,
    /// Copies that came out of the queues.
    pub(super) found: u64,
    /// Of them, those acknowledged before.
    pub(super) came_back: u64,
    pub(super) verdict: Verdict,
}

impl Ledger {
    pub(super) fn new() -> Ledger {
        Ledger {
            run: 0,
            ended: Vec::new(),
            messages: HashMap::new(),
            logged: None,
            backlog: 0,
            counts: Counts::default(),
            verdict: Verdict::default(),
            journal: None,
            told_at: None,
        }
    }

    /// Everything from now on is written down in `journal`.
    pub(super) fn keep_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// The journal, if one was kept.
    pub(super) fn take_journal(&mut self) -> Option<Journal> {
        self.journal.take()
    }

    fn note(&mut self, step: Step) {
        if let Some(journal) = &mut self.journal {
            journal.note(step);
        }
    }

    /// What follows happened at `at`, until the power is cut.
    pub(super) fn set_time(&mut self, at: Instant) {
        self.told_at = Some(at);
    }

    fn now(&self) -> Instant {
        self.told_at.unwrap_or_else(Instant::now)
    }

    /// The end of what was told from a journal: the next broker starts on what the disk has kept. Faults found so far were
    /// those of the recording.
    pub(super) fn power_cut(&mut self) {
        let at = self.now();
        self.ended(Ending::Killed, at);
        self.told_at = None;
        self.verdict = Verdict::default();
        self.counts = Counts { confirmed: self.counts.confirmed, ..Counts::default() };
    }

    /// A message is about to be written to the socket.
    pub(super) fn sent(&mut self, message: Message, publisher: usize) {
        self.note(Step::Sent { message, publisher });
        self.sent_to(message.id, publisher, message.queues());
    }

    /// The same, for queues that the message does not choose.
    pub(super) fn sent_to(&mut self, id: u64, publisher: usize, queues: impl Iterator<Item = usize>) {
        let copies: Vec<MessageCopy> = queues
            .map(|queue| MessageCopy { queue, delivered: false, requeued: false, place: Place::Waiting })
            .collect();
        self.counts.sent += 1;
        self.backlog += copies.len() as i64;
        let tracked = Tracked { publisher, run: self.run, sent: self.now(), confirmed: false, copies };
        self.messages.insert(id, tracked);
    }

    /// The broker has taken responsibility.
    pub(super) fn confirmed(&mut self, id: u64) {
        self.note(Step::Confirmed { id });
        self.counts.confirmed += 1;
        // A message that was consumed, acknowledged and drained meanwhile is tracked no more.
        if let Some(tracked) = self.messages.get_mut(&id) {
            tracked.confirmed = true;
            self.logged = self.logged.max(Some(tracked.sent));
        }
    }

    /// Messages in all queues, roughly.
    pub(super) fn backlog(&self) -> i64 {
        self.backlog
    }

    /// An intact message came out of a queue; false if it had no business there.
    pub(super) fn delivered(&mut self, queue: usize, id: u64, redelivered: bool) -> bool {
        self.note(Step::Delivered { queue, id, redelivered });
        self.counts.deliveries += 1;
        let case = format!("message {id:x} from queue {queue} in run {}", self.run);
        let tracked = self.messages.get_mut(&id);
        let Some(tracked) = tracked else {
            self.verdict.fault("phantom: never sent, or drained long ago", case);
            return false;
        };
        let Some(copy) = tracked.copies.iter_mut().find(|copy| copy.queue == queue) else {
            self.verdict.fault("phantom: not for this queue, or drained long ago", case);
            return false;
        };
        let killed_since = self.ended[tracked.run..].iter().any(|run| run.ending == Ending::Killed);
        if !redelivered {
            let published = tracked.run;
            self.verdict.demand(!copy.delivered, "delivered again without `redelivered`", &case);
            self.verdict.demand(
                !killed_since,
                "recovered without `redelivered`",
                format!("{case}, published in run {published}"),
            );
        } else if !copy.delivered && !killed_since {
            self.counts.marked_needlessly += 1;
        }
        let place = std::mem::replace(&mut copy.place, Place::Held { run: self.run });
        copy.delivered = true;
        self.judge_place(place, &case);
        true
    }

    /// What is known of a copy.
    pub(super) fn seen(&self, queue: usize, id: u64) -> Option<Seen> {
        let tracked = self.messages.get(&id)?;
        let copy = tracked.copies.iter().find(|copy| copy.queue == queue)?;
        Some(Seen { publisher: tracked.publisher, requeued: copy.requeued })
    }

    /// May a message be delivered that was at `place`?
    fn judge_place(&mut self, place: Place, case: &str) {
        match place {
            Place::Waiting => {}
            Place::Held { run } => {
                self.verdict.demand(run < self.run, "delivered while a consumer holds it", case);
            }
            Place::Acked { run, at, read } => {
                self.backlog += 1;
                match self.ended.get(run) {
                    Some(ended) if ended.ending != Ending::Stopped => {
                        let age = ended.at.saturating_duration_since(at);
                        self.counts.came_back += 1;
                        self.counts.oldest_came_back = self.counts.oldest_came_back.max(age);
                        let logged = read.zip(ended.logged).is_some_and(|(read, logged)| read < logged);
                        self.verdict.demand(
                            !logged,
                            "acknowledged before a confirmed publish and back",
                            format!("{case}, acknowledged {age:?} before the kill that ended run {run}"),
                        );
                    }
                    Some(ended) => {
                        let kind = match at < ended.at {
                            true => "acknowledged before SIGTERM and back",
                            false => "acknowledged during the stop and back",
                        };
                        let age = ended.at.saturating_duration_since(at);
                        self.verdict.fault(kind, format!("{case}, acknowledged {age:?} before SIGTERM"));
                    }
                    None => self.verdict.fault("acknowledged and delivered again in the same run", case),
                }
            }
        }
    }

    /// An acknowledgement is about to be written to the socket.
    pub(super) fn acked(&mut self, queue: usize, id: u64) {
        self.note(Step::Acked { queue, id });
        let place = Place::Acked { run: self.run, at: self.now(), read: None };
        if let Some(copy) = self.copy(queue, id) {
            copy.place = place;
            self.counts.acked += 1;
            self.backlog -= 1;
        }
    }

    /// The broker has answered something that was sent behind this acknowledgement.
    pub(super) fn ack_read(&mut self, queue: usize, id: u64) {
        self.note(Step::AckRead { queue, id });
        let now = self.now();
        if let Some(MessageCopy { place: Place::Acked { read, .. }, .. }) = self.copy(queue, id) {
            *read = Some(now);
        }
    }

    /// A refusal with requeue is about to be written to the socket.
    pub(super) fn requeued(&mut self, queue: usize, id: u64) {
        self.note(Step::Requeued { queue, id });
        if let Some(copy) = self.copy(queue, id) {
            copy.place = Place::Waiting;
            copy.requeued = true;
            self.counts.requeued += 1;
        }
    }

    fn copy(&mut self, queue: usize, id: u64) -> Option<&mut MessageCopy> {
        self.messages.get_mut(&id)?.copies.iter_mut().find(|copy| copy.queue == queue)
    }

    /// A queue is empty, everything that was in it having come in this run.
    pub(super) fn drained(&mut self, queue: usize) {
        let (run, verdict, counts) = (self.run, &mut self.verdict, &mut self.counts);
        self.messages.retain(|id, tracked| {
            tracked.copies.retain(|copy| {
                if copy.queue != queue {
                    return true;
                }
                if let Place::Acked { run: acked, .. } = copy.place {
                    return acked == run;
                }
                if tracked.confirmed {
                    let published = tracked.run;
                    let case =
                        format!("message {id:x} of run {published}, not in queue {queue} in run {run}");
                    verdict.fault("confirmed and lost", case);
                } else {
                    counts.unconfirmed_gone += 1;
                }
                false
            });
            !tracked.copies.is_empty()
        });
        self.backlog = 0;
    }

    /// The broker's process is gone.
    pub(super) fn ended(&mut self, ending: Ending, at: Instant) {
        if ending == Ending::Killed {
            self.note(Step::Killed);
        }
        self.ended.push(EndedRun { ending, at, logged: self.logged.take() });
        self.run += 1;
    }

    /// Something else that is wrong.
    pub(super) fn fault(&mut self, kind: &'static str, case: impl std::fmt::Display) {
        self.verdict.fault(kind, format!("{case}, run {}", self.run));
    }

    pub(super) fn verdict(self) -> Verdict {
        let Counts { sent, confirmed, deliveries, acked, requeued, .. } = self.counts;
        let Counts { came_back, oldest_came_back, marked_needlessly, unconfirmed_gone, .. } = self.counts;
        let mut verdict = self.verdict;
        verdict.demand(confirmed > 0 && acked > 0, "nothing happened", "no confirm or no acknowledgement");
        verdict.count("confirmed", confirmed);
        verdict.count("acknowledged and redelivered", came_back);
        verdict.fact(format!(
            "{sent} messages sent, {confirmed} confirmed, {deliveries} deliveries, {acked} acknowledged, {requeued} requeued"
        ));
        verdict.fact(format!(
            "acknowledged and redelivered after a kill: {came_back}, the oldest acknowledged {} ms before it",
            oldest_came_back.as_millis()
        ));
        verdict.fact(format!(
            "{unconfirmed_gone} copies of unconfirmed messages gone; {marked_needlessly} marked `redelivered` that we never saw"
        ));
        verdict
    }

    /// Broken promises, and how much came back: one of many short stories, in which little may have happened.
    pub(super) fn into_faults(mut self) -> Verdict {
        self.verdict.count("acknowledged and redelivered", self.counts.came_back);
        self.verdict
    }

    /// After a power cut: how many confirmed messages the disk had to answer for, and how many acknowledged ones came back.
    pub(super) fn judgement(self) -> Judgement {
        let Counts { confirmed, deliveries, came_back, .. } = self.counts;
        Judgement { confirmed, found: deliveries, came_back, verdict: self.verdict }
    }

    /// Deliveries marked `redelivered` that were never seen here, with no kill in between.
    pub(super) fn marked_needlessly(&self) -> u64 {
        self.counts.marked_needlessly
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to message 1, which is for queue 0; each letter is a step.
    ///
    /// s sent, c confirmed, d delivered, D delivered again (marked), a acked, A that was read, r requeued, k killed, t stopped,
    /// x killed while stopping, e drained, l something later is logged
    fn faults(story: &str) -> String {
        let mut ledger = Ledger::new();
        for step in story.chars() {
            match step {
                's' => ledger.sent_to(1, 0, [0].into_iter()),
                'c' => ledger.confirmed(1),
                'd' | 'D' => {
                    let _none_if_a_phantom = ledger.delivered(0, 1, step == 'D');
                }
                'a' => ledger.acked(0, 1),
                'A' => ledger.ack_read(0, 1),
                'r' => ledger.requeued(0, 1),
                'k' => ledger.ended(Ending::Killed, Instant::now()),
                't' => ledger.ended(Ending::Stopped, Instant::now()),
                'x' => ledger.ended(Ending::KilledStopping, Instant::now()),
                'e' => ledger.drained(0),
                'l' => {
                    ledger.sent_to(2, 0, [7].into_iter());
                    ledger.confirmed(2);
                }
                _ => panic!("no step {step}"),
            }
        }
        ledger.verdict.to_string()
    }

    #[test]
    fn what_keeps_the_promises_is_no_fault() {
        for story in [
            "se",
            "scdae",
            "scdakDae",
            "sckDae",
            "ske",
            "skDae",
            "scdrDae",
            "scdtDae",
            "sctdae",
            "scdaAkDae",
            "scdalkDae",
            "scdalAkDae",
            "scxdae",
            "scdaxDae",
        ] {
            assert_eq!(faults(story), "", "{story}");
        }
    }

    #[test]
    fn broken_promises_are_named() {
        let check = |story, expected: &str| {
            let text = faults(story);
            assert!(text.contains(expected), "{story}: {text}");
        };
        check("scke", "confirmed and lost");
        check("scdke", "confirmed and lost");
        check("sckd", "recovered without `redelivered`");
        check("scdtd", "delivered again without `redelivered`");
        check("scdD", "delivered while a consumer holds it");
        check("scdaD", "acknowledged and delivered again in the same run");
        check("scdxd", "delivered again without `redelivered`");
        check("scdatD", "acknowledged before SIGTERM and back");
        check("scdaAlkD", "acknowledged before a confirmed publish and back");
        check("scdakekD", "phantom");
        check("d", "phantom");
    }
}
