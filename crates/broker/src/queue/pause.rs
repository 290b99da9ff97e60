//! A queue that hands out nothing until it is resumed, to consumers or to `basic.get`. It takes messages as before, and time goes on for
//! them. What was handed out before can be settled. Messages can still be browsed and moved.

use super::QueueState;

impl<P> QueueState<P> {
    /// Whether the queue hands out nothing.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Hands out nothing from now on, or again what waits; [`Self::pump`] afterwards.
    pub fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }
}
