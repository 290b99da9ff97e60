//! What must hold after an open.

use leveret_store::{ReadError, RecoveredQueue, Recovery, SegmentHead, Store};

use super::model::{State, queue_key};
use super::{Expected, Simulation, open_on};

/// The number of a message, from the bytes that travel with it.
pub(super) fn message_number(attributes: &[u8; 16]) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&attributes[..8]);
    u64::from_le_bytes(number)
}

/// The bytes that travel with a message.
pub(super) fn attributes_of(message: u64) -> [u8; 16] {
    let mut attributes = [0x5a; 16];
    attributes[..8].copy_from_slice(&message.to_le_bytes());
    attributes
}

/// A queue read to its end.
pub(super) struct Drained {
    pub(super) messages: Vec<u64>,
    /// Where reading stopped, if it did.
    pub(super) error: Option<ReadError>,
}

/// Reads everything a recovered queue holds; a body that is not what was published is a violation.
pub(super) fn drain(store: &Store, queue: &mut RecoveredQueue) -> Result<Drained, String> {
    let mut drained = Drained { messages: Vec::new(), error: None };
    loop {
        match queue.segments.next(store) {
            Ok(Some((SegmentHead { attributes, .. }, body))) => {
                drained.messages.push(checked(message_number(&attributes), &body)?);
            }
            Ok(None) => break,
            Err(error) => {
                drained.error = Some(error);
                return Ok(drained);
            }
        }
    }
    for message in &queue.log {
        match store.read(message.place, queue.id) {
            Ok(body) => drained.messages.push(checked(message_number(&message.attributes), &body)?),
            Err(error) => drained.error = Some(error),
        }
    }
    Ok(drained)
}

/// P7: never an altered body.
pub(super) fn checked(message: u64, body: &[u8]) -> Result<u64, String> {
    if body == Simulation::body(message) {
        Ok(message)
    } else {
        Err(format!("message {message} has an altered body of {} bytes", body.len()))
    }
}

impl Simulation {
    /// Checks an open against the model. Reads the bodies in a copy, so that the program's own cursors stay at
    /// the start; the copy has been recovered twice, so recovery is idempotent.
    pub(super) fn check_recovery(&mut self, recovery: &Recovery) -> Result<(), String> {
        if !recovery.damage.is_empty() {
            return Err(format!("a crash is no damage: {:?}", recovery.damage));
        }
        if recovery.next_id <= self.highest_id {
            return Err(format!("{:?} may be given out again", self.highest_id));
        }
        self.check_clean(recovery)?;
        let fork = self.fork();
        let (store, copy) = open_on(&fork, &self.options).map_err(|error| format!("second open: {error}"))?;
        if !copy.damage.is_empty() || copy.clean.is_some() {
            return Err(format!("second open: damage {:?}, clean {:?}", copy.damage, copy.clean));
        }
        let recovered = self.recovered_state(&store, copy)?;
        self.coverage.recovered_messages +=
            recovered.queues.values().map(|left| left.len() as u64).sum::<u64>();
        self.model.settle_on(&recovered)
    }

    fn check_clean(&self, recovery: &Recovery) -> Result<(), String> {
        match (&self.expected, &recovery.clean) {
            (Expected::Either, _) | (Expected::Unclean, None) => Ok(()),
            (Expected::Clean(notes), Some(found)) if notes == found => Ok(()),
            (_, found) => Err(format!("clean stop not as expected: {found:?}")),
        }
    }

    /// P5 and the order of queues on the way: no message twice, none out of turn.
    fn recovered_state(&self, store: &Store, mut recovery: Recovery) -> Result<State, String> {
        let mut state = State { meta: std::mem::take(&mut recovery.meta), ..State::default() };
        for queue in &mut recovery.queues {
            let expected_ready = queue.segments.ready_len() as usize + queue.log.len();
            let drained = drain(store, queue)?;
            if let Some(error) = drained.error {
                return Err(format!("queue {}: {error}", queue.id.0));
            }
            if !drained.messages.is_sorted_by(|a, b| a < b) {
                return Err(format!("queue {}: not in order: {:?}", queue.id.0, drained.messages));
            }
            if drained.messages.len() != expected_ready {
                return Err(format!("queue {}: {expected_ready} counted", queue.id.0));
            }
            if state.meta.contains_key(&queue_key(queue.id)) && !drained.messages.is_empty() {
                state.queues.insert(queue.id, drained.messages.into_iter().collect());
            }
        }
        Ok(state)
    }
}
