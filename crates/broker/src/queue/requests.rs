//! Requests that nobody waits for any more: a queue may give them up before a worker sees them.
//!
//! ```text
//!   take the next message ─► past its rpc-deadline? ─► expired    (dead letter, or back to its caller)
//!                        └─► caller gone?           ─► orphaned   (dropped, or dead letter)
//!                        └─► hand it to the consumer
//! ```
//!
//! Only a queue that was declared so looks, and only when a message is about to leave it.

use leveret_store::ReadError;
use leveret_wire::{FieldTable, FieldValue};

use super::{Aftermath, Courier, DeathReason, Incoming, Pos, QueueState};
use crate::message::MessageView;
use crate::services::deadline_ms;

/// What a queue does with requests before it hands them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCare {
    /// What becomes of those whose caller is gone (`x-rpc-orphans`).
    pub orphans: Orphans,
    /// Those past their header `rpc-deadline` are expired (`x-rpc-deadline`).
    pub minds_deadline: bool,
}

/// What becomes of a request whose caller is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphans {
    /// It is delivered as any other message.
    #[default]
    Keep,
    /// It is dropped.
    Drop,
    /// It goes to the queue's dead-letter exchange, with the reason `orphaned`.
    DeadLetter,
}

impl Orphans {
    /// The rule of that name, as clients write it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "keep" => Some(Self::Keep),
            "drop" => Some(Self::Drop),
            "dead-letter" => Some(Self::DeadLetter),
            _ => None,
        }
    }
}

impl RequestCare {
    /// What a queue's arguments say. They have been checked.
    pub fn of_arguments(arguments: &FieldTable) -> Self {
        let orphans = arguments.get("x-rpc-orphans").and_then(FieldValue::as_str).and_then(Orphans::parse);
        let minds_deadline = arguments.get("x-rpc-deadline").and_then(FieldValue::as_bool);
        Self { orphans: orphans.unwrap_or_default(), minds_deadline: minds_deadline == Some(true) }
    }

    /// Orphans go to the queue's dead-letter exchange.
    pub(super) fn buries_orphans(self) -> bool {
        self.orphans == Orphans::DeadLetter
    }

    /// Why a message that is about to leave the queue is not worth it. `is_orphan` is only asked where it matters.
    pub(super) fn refuses(
        self,
        message: MessageView<'_>,
        now_ms: u64,
        is_orphan: impl FnOnce(&MessageView<'_>) -> bool,
    ) -> Option<DeathReason> {
        if self == Self::default() {
            return None;
        }
        if self.minds_deadline && deadline_ms(message.properties).is_some_and(|at_ms| at_ms <= now_ms) {
            return Some(DeathReason::Expired);
        }
        let is_orphaned = self.orphans != Orphans::Keep && is_orphan(&message);
        is_orphaned.then_some(DeathReason::Orphaned)
    }
}

impl<P> QueueState<P> {
    /// Why a message that is about to be handed out is not worth it.
    pub(super) fn unwanted(
        &self,
        message: MessageView<'_>,
        courier: &impl Courier<P>,
    ) -> Option<DeathReason> {
        self.settings.requests.refuses(message, courier.now_ms(), |request| courier.is_orphan(request))
    }

    /// Gives up a message that arrives and would go to a consumer at once, if it is not worth it. Answers whether.
    pub(super) fn gives_up_request(
        &mut self,
        pos: Pos,
        incoming: &mut Incoming<'_>,
        courier: &mut impl Courier<P>,
        aftermath: &mut Aftermath,
    ) -> Result<bool, ReadError> {
        let Some(reason) = self.unwanted(incoming.view, courier) else { return Ok(false) };
        let entry = self.new_entry(pos, incoming, true, courier);
        aftermath.dead.push(self.give_up((entry, None), reason, courier)?);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::{Properties, RawProperties};

    use super::*;

    #[test]
    fn only_what_was_asked_for_is_refused() {
        let check = |arguments: &[(&str, FieldValue)], deadline: i64, gone: bool, expected| {
            let arguments =
                FieldTable(arguments.iter().map(|(key, value)| ((*key).into(), value.clone())).collect());
            let headers = Some(FieldTable::from([("rpc-deadline", deadline)]));
            let properties = Properties { headers, ..Default::default() }.encode().unwrap();
            let properties = RawProperties::parse(&properties).unwrap();
            let message = MessageView { exchange: "", routing_key: "q", properties, body: b"" };
            let refused = RequestCare::of_arguments(&arguments).refuses(message, 100, |_| gone);
            assert_eq!(refused, expected, "{arguments:?} {deadline} {gone}");
        };
        let orphans = |name: &str| ("x-rpc-orphans", FieldValue::LongString(name.into()));
        let deadline = |minds| ("x-rpc-deadline", FieldValue::Bool(minds));
        let (expired, orphaned) = (Some(DeathReason::Expired), Some(DeathReason::Orphaned));
        check(&[], 99, true, None);
        check(&[orphans("keep")], 99, true, None);
        check(&[orphans("drop")], 99, true, orphaned);
        check(&[orphans("drop")], 99, false, None);
        check(&[orphans("dead-letter")], 99, true, orphaned);
        check(&[deadline(true)], 101, true, None);
        check(&[deadline(true)], 100, true, expired);
        check(&[deadline(false)], 99, true, None);
        check(&[deadline(true), orphans("drop")], 99, true, expired);
        check(&[deadline(true), orphans("drop")], 101, true, orphaned);
    }
}
