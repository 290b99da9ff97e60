//! Names that were noted a moment ago: a set that forgets.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

const NAMES_MAX: usize = 4_096;
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// A bounded set of names, each of which is forgotten after a minute. A full set notes nothing new.
#[derive(Default)]
pub(super) struct Recent(Mutex<HashMap<Vec<u8>, Instant>>);

impl Recent {
    pub(super) fn note(&self, name: &[u8]) {
        let mut names = self.0.lock();
        if names.len() >= NAMES_MAX {
            names.retain(|_, since| since.elapsed() < REMEMBERED_FOR);
        }
        if names.len() < NAMES_MAX {
            names.insert(name.to_vec(), Instant::now());
        }
    }

    pub(super) fn knows(&self, name: &[u8]) -> bool {
        self.0.lock().get(name).is_some_and(|since| since.elapsed() < REMEMBERED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        let recent = Recent::default();
        for n in 0..2 * NAMES_MAX {
            recent.note(n.to_string().as_bytes());
        }
        assert!(recent.knows(b"0") && !recent.knows((NAMES_MAX + 1).to_string().as_bytes()));
        assert_eq!(recent.0.lock().len(), NAMES_MAX);
    }
}
