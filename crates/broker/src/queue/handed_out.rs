//! Who holds what unacknowledged.

use super::{ConsumerKey, Pos, QueueState};

/// A message that was handed out and is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOut {
    /// Names it in its queue.
    pub pos: Pos,
    /// Octets of its serial form.
    pub size_bytes: u32,
    /// It had been handed out before that.
    pub redelivered: bool,
    /// When it was handed out, ms since 1970.
    pub since_ms: u64,
    /// The consumer that has it; `None`: it was fetched by `basic.get`.
    pub holder: Option<ConsumerKey>,
}

impl<P> QueueState<P> {
    /// The messages that were handed out first, at most `count`.
    pub fn handed_out(&self, count: usize) -> Vec<HandedOut> {
        let mut handed_out: Vec<HandedOut> = self
            .unacked
            .iter()
            .map(|(pos, unacked)| HandedOut {
                pos: *pos,
                size_bytes: unacked.entry.size_bytes,
                redelivered: unacked.entry.redelivered,
                since_ms: unacked.delivered_at_ms,
                holder: unacked.holder,
            })
            .collect();
        handed_out.sort_unstable_by_key(|one| (one.since_ms, one.pos));
        handed_out.truncate(count);
        handed_out
    }
}
