//! Taking messages out to put them elsewhere, and back if they cannot go there. Works while the queue is paused.

use leveret_store::ReadError;

use super::{Aftermath, Courier, Fetched, Pos, QueueState};

impl<P> QueueState<P> {
    /// Takes out the message whose turn it is. It is unacknowledged until it is acknowledged or [put back](Self::put_back).
    pub fn take_away(
        &mut self,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<Option<Fetched>, ReadError> {
        self.bring_back(courier.now_ms());
        self.expire(courier, aftermath)?;
        self.take_out(false, courier, aftermath)
    }

    /// A message that was [taken away](Self::take_away) is at its place again, as if nothing had happened.
    pub fn put_back(&mut self, pos: Pos) {
        if let Some(entry) = self.take_unacked(pos) {
            self.ready.put_back(entry);
        }
    }
}
