//! Bit rot, zeroed pages and cut files after a clean stop: P7.

use std::collections::BTreeSet;

use leveret_store::{Damage, OpenError, QueueId, Recovery, Store};

use super::check::drain;
use super::model::{State, difference, queue_key};
use super::{Simulation, open_on};
use crate::faulty_disk::FaultyDisk;
use crate::random::Random;

/// Whose loss is accounted for.
struct Excuses {
    queues: BTreeSet<QueueId>,
    /// Damage that names no queue excuses all.
    anybody: bool,
}

impl Simulation {
    /// Damages one file of a copy and opens it: what is missing or extra must have been reported, and nothing
    /// that is damaged may be deleted or changed.
    pub(super) fn check_damaged_copy(&mut self) -> Result<(), String> {
        let fork = self.fork();
        let files: Vec<_> =
            fork.files().into_iter().filter(|(path, len)| *len > 0 && path != "lock").collect();
        let Some((path, _)) = self.random.pick(&files).cloned() else { return Ok(()) };
        let mut change = Random::new(self.random.next());
        let mut what = "";
        fork.damage(&path, |bytes| what = damage(bytes, &mut change));
        self.coverage.damaged += 1;
        self.say(|| format!("{what} in {path}"));
        let before = contents(&fork);
        let explain = |error: String| format!("{what} in {path}: {error}");
        match open_on(&fork, &self.options) {
            Ok((store, recovery)) => self.check_excuses(&store, recovery, &fork, &before).map_err(explain),
            Err(OpenError::Damaged { .. } | OpenError::NewerFormat { .. })
                if ["FORMAT", "checkpoint"].contains(&path.as_str()) =>
            {
                unchanged(&before, &fork).map_err(explain)
            }
            Err(error) => Err(explain(format!("refused: {error}"))),
        }
    }

    fn check_excuses(
        &self,
        store: &Store,
        mut recovery: Recovery,
        disk: &FaultyDisk,
        before: &[(String, Vec<u8>)],
    ) -> Result<(), String> {
        let mut excuses = Excuses::from(&recovery.damage);
        if !recovery.damage.is_empty() {
            unchanged(before, disk)?;
        }
        let mut found = State { meta: recovery.meta.clone(), ..State::default() };
        for queue in &mut recovery.queues {
            let drained = drain(store, queue)?;
            if drained.error.is_some() {
                excuses.queues.insert(queue.id);
            }
            if found.meta.contains_key(&queue_key(queue.id)) && !drained.messages.is_empty() {
                found.queues.insert(queue.id, drained.messages.into_iter().collect());
            }
        }
        let mut expected = self.model.latest.visible();
        for queue in &excuses.queues {
            expected.queues.remove(queue);
            found.queues.remove(queue);
        }
        if expected != found && !excuses.anybody {
            return Err(format!("unreported; {}", difference(&expected, &found)));
        }
        Ok(())
    }
}

impl Excuses {
    fn from(damage: &[Damage]) -> Self {
        Self {
            queues: damage.iter().flat_map(|damage| damage.queues.iter().copied()).collect(),
            anybody: damage.iter().any(|damage| damage.queues.is_empty()),
        }
    }
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) -> &'static str {
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(3) {
        0 => {
            bytes[at] ^= 1 << random.below(8);
            "a flipped bit"
        }
        1 => {
            let page = at - at % 512;
            let end = bytes.len().min(page + 512);
            bytes[page..end].fill(0);
            "a zeroed page"
        }
        _ => {
            bytes.truncate(at);
            "a cut"
        }
    }
}

/// Everything that can hold messages.
fn contents(disk: &FaultyDisk) -> Vec<(String, Vec<u8>)> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    let files =
        files.filter(|path| path.starts_with("log/") && path.ends_with(".log") || path.starts_with("q/"));
    let read = |path: String| {
        let mut content = Vec::new();
        disk.damage(&path, |bytes| content.clone_from(bytes));
        (path, content)
    };
    files.map(read).collect()
}

fn unchanged(before: &[(String, Vec<u8>)], disk: &FaultyDisk) -> Result<(), String> {
    let after = contents(disk);
    match before.iter().find(|file| !after.contains(file)) {
        Some((path, _)) => Err(format!("{path} was changed or removed although there is damage")),
        None => Ok(()),
    }
}
