//! How often a path is gone through, and when that counts.

use crate::instrumentation;

/// Tables, buffers and caches have their size by then.
const WARM_UP_LAPS: u32 = 40;
/// At least so many laps are counted, and so many messages: enough for what happens once in a while to average out.
const LAPS_MIN: u32 = 100;
const MESSAGES_MIN: u32 = 2_000;

/// Laps of one path; each plays the same number of messages.
pub(crate) struct Laps {
    pub(crate) messages: u32,
    counted: u32,
    done: u32,
}

impl Laps {
    pub(crate) fn of(messages: u32) -> Laps {
        Laps { messages, counted: LAPS_MIN.max(MESSAGES_MIN.div_ceil(messages)), done: 0 }
    }

    /// Whether there is another lap to go.
    pub(crate) fn next(&mut self) -> bool {
        match self.done {
            WARM_UP_LAPS => instrumentation::start(),
            done if done == WARM_UP_LAPS + self.counted => {
                instrumentation::stop();
                return false;
            }
            _ => {}
        }
        self.done += 1;
        true
    }

    /// Messages that were played while Callgrind counted.
    pub(crate) fn counted_messages(&self) -> u32 {
        self.counted * self.messages
    }
}
