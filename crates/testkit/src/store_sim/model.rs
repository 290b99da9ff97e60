//! What the store must hold: the effects of a prefix of everything that was appended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leveret_store::{Position, QueueId};

/// Messages per queue, by number, and the key/value map.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) queues: BTreeMap<QueueId, BTreeSet<u64>>,
    pub(super) meta: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Add(QueueId, u64),
    Remove(QueueId, u64),
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

/// The key that says that a queue exists.
pub(super) fn queue_key(queue: QueueId) -> Vec<u8> {
    format!("queue/{}", queue.0).into_bytes()
}

impl State {
    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Add(queue, message) => drop(self.queues.entry(*queue).or_default().insert(*message)),
            Effect::Remove(queue, message) => {
                self.queues.entry(*queue).or_default().remove(message);
            }
            Effect::Put(key, value) => drop(self.meta.insert(key.clone(), value.clone())),
            Effect::Delete(key) => drop(self.meta.remove(key)),
        }
    }

    /// The part that counts: queues that exist and are not empty.
    pub(super) fn visible(&self) -> Self {
        let exists = |queue: &QueueId, left: &BTreeSet<u64>| {
            !left.is_empty() && self.meta.contains_key(&queue_key(*queue))
        };
        let queues = self.queues.iter().filter(|(queue, left)| exists(queue, left));
        Self { queues: queues.map(|(queue, left)| (*queue, left.clone())).collect(), meta: self.meta.clone() }
    }

    pub(super) fn messages(&self, queue: QueueId) -> usize {
        self.queues.get(&queue).map_or(0, BTreeSet::len)
    }
}

/// The certain state, and what was appended behind it.
#[derive(Debug, Default)]
pub(super) struct Model {
    certain: State,
    uncertain: VecDeque<(Position, Vec<Effect>)>,
    /// With all effects.
    pub(super) latest: State,
}

impl Model {
    /// Appended at `position`: all of the effects or none.
    pub(super) fn append(&mut self, position: Position, effects: Vec<Effect>) {
        effects.iter().for_each(|effect| self.latest.apply(effect));
        self.uncertain.push_back((position, effects));
    }

    /// Everything before `durable` is certain from now on.
    pub(super) fn advance(&mut self, durable: Position) {
        while self.uncertain.front().is_some_and(|(position, _)| *position < durable) {
            let (_, effects) = self.uncertain.pop_front().expect("there is a front");
            effects.iter().for_each(|effect| self.certain.apply(effect));
        }
    }

    /// Accepts a recovered state when it is that of an allowed prefix, and goes on from there.
    pub(super) fn settle_on(&mut self, recovered: &State) -> Result<(), String> {
        let mut candidate = self.certain.clone();
        let first_difference = difference(&candidate.visible(), recovered);
        let mut effects = std::mem::take(&mut self.uncertain).into_iter();
        while candidate.visible() != *recovered {
            let Some((_, effects)) = effects.next() else {
                return Err(format!("not the state of any allowed prefix; {first_difference}"));
            };
            effects.iter().for_each(|effect| candidate.apply(effect));
        }
        self.latest = candidate.clone();
        self.certain = candidate;
        Ok(())
    }
}

/// For people: where two states differ.
pub(super) fn difference(expected: &State, found: &State) -> String {
    let mut lines = Vec::new();
    let queues: BTreeSet<_> = expected.queues.keys().chain(found.queues.keys()).collect();
    let none = BTreeSet::new();
    for queue in queues {
        let (expected, found) =
            (expected.queues.get(queue).unwrap_or(&none), found.queues.get(queue).unwrap_or(&none));
        let lost: Vec<_> = expected.difference(found).collect();
        let extra: Vec<_> = found.difference(expected).collect();
        if !lost.is_empty() || !extra.is_empty() {
            lines.push(format!("queue {}: lost {lost:?}, extra {extra:?}", queue.0));
        }
    }
    if expected.meta != found.meta {
        lines.push("the map differs".to_owned());
    }
    format!("against what was certain: {}", lines.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q: QueueId = QueueId(1);

    fn state(messages: &[u64]) -> State {
        let meta = [(queue_key(Q), Vec::new())].into();
        let queues = [(Q, messages.iter().copied().collect())];
        State { queues: queues.into(), meta }.visible()
    }

    #[test]
    fn only_prefixes_after_the_durable_point_are_allowed() {
        for (durable, found, allowed) in [
            (2, &[1][..], true),
            (2, &[1, 2], true),
            (2, &[2, 3], true),
            (2, &[], false),
            (2, &[1, 3], false),
            (3, &[1], false),
            (3, &[1, 2], true),
        ] {
            let mut model = Model::default();
            model.append(0, vec![Effect::Put(queue_key(Q), Vec::new())]);
            model.append(1, vec![Effect::Add(Q, 1)]);
            model.append(2, vec![Effect::Add(Q, 2)]);
            model.append(3, vec![Effect::Add(Q, 3), Effect::Remove(Q, 1)]);
            model.advance(durable);
            assert_eq!(model.settle_on(&state(found)).is_ok(), allowed, "{durable} {found:?}");
        }
    }
}
