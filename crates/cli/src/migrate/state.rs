//! What earlier runs have moved, in a file: for the counts at the end. Nothing depends on it; a run that was killed may
//! have moved up to a second's worth more than the file says.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Counts of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    /// Messages confirmed by the destination.
    pub(super) moved: u64,
    /// Messages published with the mark that they may be there twice.
    pub(super) marked: u64,
}

/// The file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Addresses without passwords: counts of other brokers are none of ours.
    from: String,
    to: String,
    /// By virtual host and queue.
    queues: BTreeMap<String, BTreeMap<String, Counts>>,
}

impl State {
    pub(super) fn new(from: String, to: String) -> Self {
        Self { from, to, queues: BTreeMap::new() }
    }

    /// Reads what an earlier run left; nothing if there is no file.
    ///
    /// # Errors
    /// [`Failure::Usage`]: the file is no such file, or of a migration between other brokers.
    pub(super) fn load(self, file: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(Failure::Usage(format!("{}: {error}", file.display()))),
        };
        let found: Self = serde_json::from_str(&text).map_err(|error| {
            Failure::Usage(format!("{} is no state of a migration: {error}", file.display()))
        })?;
        if (&found.from, &found.to) != (&self.from, &self.to) {
            let Self { from, to, .. } = found;
            return Err(Failure::Usage(format!("{} is of a migration from {from} to {to}", file.display())));
        }
        Ok(found)
    }

    /// What was moved of a queue before.
    pub(super) fn counts(&self, vhost: &str, queue: &str) -> Counts {
        self.queues.get(vhost).and_then(|queues| queues.get(queue)).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, vhost: &str, queue: &str, counts: Counts) {
        self.queues.entry(vhost.to_owned()).or_default().insert(queue.to_owned(), counts);
    }

    /// Writes the file in one piece.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn save(&self, file: &Path) -> io::Result<()> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut out = File::create(&beside)?;
        out.write_all(&serde_json::to_vec_pretty(self)?)?;
        out.sync_all()?;
        fs::rename(beside, file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> State {
        State::new("amqp://a".into(), "amqp://b".into())
    }

    #[test]
    fn counts_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let mut state = new().load(&file).unwrap();
        assert_eq!(state.counts("/", "q"), Counts::default());
        state.set("/", "q", Counts { moved: 7, marked: 1 });
        state.save(&file).unwrap();
        assert_eq!(new().load(&file).unwrap(), state);
    }

    #[test]
    fn files_of_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        fs::write(&file, "{}").unwrap();
        assert!(matches!(new().load(&file), Err(Failure::Usage(_))));
        State::new("amqp://c".into(), "amqp://b".into()).save(&file).unwrap();
        let error = new().load(&file).unwrap_err().to_string();
        assert!(error.contains("from amqp://c to amqp://b"), "{error}");
    }
}
