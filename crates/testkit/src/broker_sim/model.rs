//! What clients may expect: every message in every queue it was sent to, and what became of it.

use std::collections::BTreeMap;

/// A message in one queue.
#[derive(Debug, Default)]
struct Copy {
    /// It must outlive the process.
    persistent: bool,
    /// The broker has confirmed it.
    confirmed: bool,
    /// It was handed out, in whatever life.
    delivered: bool,
    /// It is with a client and unsettled.
    outstanding: bool,
    /// It was settled, purged, or handed out without acknowledgement.
    gone: bool,
    /// It was sent in an earlier life of the broker, and that ended uncleanly.
    survived_crash: bool,
    /// It may come out of order: it was requeued.
    requeued: bool,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// In order.
    Clean,
    /// By a crash.
    Unclean,
    /// By a crash while it was being stopped: the next start may find the mark of a clean stop.
    Either,
}

/// What is known of all queues.
#[derive(Debug, Default)]
pub(super) struct Model {
    queues: BTreeMap<String, BTreeMap<u64, Copy>>,
    /// The newest message that each level of each queue handed out for the first time.
    newest: BTreeMap<(String, u8), u64>,
}

/// The queue with priorities, and the highest it distinguishes.
pub(super) const PRIORITIZED: (&str, u8) = ("d2", 2);

/// The priority that a message is published with: 0 to 3.
pub(super) fn priority(number: u64) -> u8 {
    (number % 4) as u8
}

/// The priority that it has in a queue.
pub(super) fn level(queue: &str, number: u64) -> u8 {
    if queue == PRIORITIZED.0 { priority(number).min(PRIORITIZED.1) } else { 0 }
}

/// The number of a message, and octets that only it has.
pub(super) fn body(number: u64, len: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.extend((0..len as u64).map(|at| (number.wrapping_mul(0x9E37_79B9) ^ at) as u8));
    body
}

impl Model {
    pub(super) fn published(&mut self, queue: &str, number: u64, persistent: bool) {
        let copy = Copy { persistent, ..Copy::default() };
        self.queues.entry(queue.to_owned()).or_default().insert(number, copy);
    }

    pub(super) fn confirmed(&mut self, number: u64) {
        for copies in self.queues.values_mut() {
            if let Some(copy) = copies.get_mut(&number) {
                copy.confirmed = true;
            }
        }
    }

    /// A message was handed out; `kept` says that it has to be settled.
    pub(super) fn delivered(
        &mut self,
        queue: &str,
        received: &[u8],
        redelivered: bool,
        kept: bool,
    ) -> Result<u64, String> {
        let number =
            received.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)).ok_or("P7: short body")?;
        if received != body(number, received.len() - 8) {
            return Err(format!("P7: message {number} of {queue} has another body"));
        }
        let copy = self.queues.get_mut(queue).and_then(|copies| copies.get_mut(&number));
        let copy = copy.ok_or(format!("P5: message {number} was never sent to {queue}"))?;
        if copy.outstanding {
            return Err(format!("P5: message {number} of {queue} was handed out twice at a time"));
        }
        if copy.gone {
            return Err(format!("P3: message {number} of {queue} was over and came back"));
        }
        if !redelivered && (copy.delivered || copy.survived_crash) {
            return Err(format!("P4: message {number} of {queue} came again without the flag"));
        }
        if !copy.requeued && !copy.delivered {
            let newest = self.newest.entry((queue.to_owned(), level(queue, number))).or_default();
            if number < *newest {
                return Err(format!("P6: message {number} of {queue} came after {newest}"));
            }
            *newest = number;
        }
        copy.delivered = true;
        copy.outstanding = kept;
        copy.gone = !kept;
        Ok(number)
    }

    pub(super) fn settled(&mut self, queue: &str, number: u64) {
        if let Some(copy) = self.copy(queue, number) {
            copy.outstanding = false;
            copy.gone = true;
        }
    }

    pub(super) fn requeued(&mut self, queue: &str, number: u64) {
        if let Some(copy) = self.copy(queue, number) {
            copy.outstanding = false;
            copy.requeued = true;
        }
    }

    /// Everything that waited is gone; answers how many that should have been.
    pub(super) fn purged(&mut self, queue: &str) -> u64 {
        let mut purged = 0;
        for copy in self.queues.get_mut(queue).into_iter().flat_map(BTreeMap::values_mut) {
            if !copy.gone && !copy.outstanding {
                copy.gone = true;
                purged += 1;
            }
        }
        purged
    }

    /// How many messages wait in a queue.
    pub(super) fn waiting(&self, queue: &str) -> u64 {
        let copies = self.queues.get(queue).into_iter().flat_map(BTreeMap::values);
        copies.filter(|copy| !copy.gone && !copy.outstanding).count() as u64
    }

    /// The broker stopped. What nobody promised may be gone; after a crash what was over may be back.
    pub(super) fn stopped(&mut self, stop: Stop, durable_queues: &[&str]) {
        let clean = stop == Stop::Clean;
        self.newest.clear();
        for (queue, copies) in &mut self.queues {
            let durable = durable_queues.contains(&queue.as_str());
            copies.retain(|_, copy| durable && copy.persistent && !(clean && copy.gone));
            for copy in copies.values_mut() {
                copy.requeued |= copy.outstanding || copy.delivered;
                copy.outstanding = false;
                copy.survived_crash |= stop == Stop::Unclean;
                copy.gone &= clean;
            }
        }
    }

    /// What a restart brought back is `found`: the rest must not have been owed to anybody. `maybe_over` were
    /// settled before a crash, so both is right.
    pub(super) fn recovered(
        &mut self,
        queue: &str,
        found: &[u64],
        maybe_over: &dyn Fn(&str, u64) -> bool,
        stop: Stop,
    ) -> Result<(), String> {
        let copies = self.queues.entry(queue.to_owned()).or_default();
        if let Some(number) = found.iter().find(|number| !copies.contains_key(number)) {
            return Err(format!("P3, P5: message {number} of {queue} should not be there"));
        }
        for (number, copy) in copies.iter() {
            let owed = copy.confirmed || stop == Stop::Clean;
            if owed && !maybe_over(queue, *number) && !found.contains(number) {
                return Err(format!("P1: confirmed message {number} of {queue} is lost"));
            }
        }
        copies.retain(|number, _| found.contains(number));
        Ok(())
    }

    /// Messages that are over at this moment: a crash may bring them back.
    pub(super) fn over(&self) -> Vec<(String, u64)> {
        let all = self.queues.iter().flat_map(|(queue, copies)| copies.iter().map(move |copy| (queue, copy)));
        all.filter(|(_, (_, copy))| copy.gone).map(|(queue, (number, _))| (queue.clone(), *number)).collect()
    }

    fn copy(&mut self, queue: &str, number: u64) -> Option<&mut Copy> {
        self.queues.get_mut(queue)?.get_mut(&number)
    }
}
