//! A window, shared, and its notes in the store.

use leveret_store::MetaChange;
use leveret_wire::RawProperties;
use parking_lot::Mutex;

use super::Deduplication;
use super::window::{Admission, Noted, Verdict, Window};
use crate::records::{Key, SeenKey, encode_seen};

/// What keeps duplicates from one exchange or queue.
#[derive(Debug)]
pub struct Deduplicator {
    settings: Deduplication,
    window: Mutex<Window>,
    /// The keys of its notes; `None`: it ends with the process, or what it belongs to has been deleted.
    notes: Mutex<Option<SeenKey>>,
}

impl Deduplicator {
    /// A window that has seen nothing. `place` names its notes if what it belongs to is durable.
    pub(crate) fn new(settings: Deduplication, place: Option<SeenKey>) -> Self {
        let notes = Mutex::new(place.filter(|_| settings.persistent));
        Self { window: Mutex::new(Window::new(settings.cache_size)), notes, settings }
    }

    /// Takes what a restart found in the store.
    pub(crate) fn recover(&self, notes: Vec<Noted>) {
        self.window.lock().recover(notes);
    }

    /// How many duplicates it has dropped since the start of the process.
    pub fn dropped(&self) -> u64 {
        self.window.lock().dropped()
    }

    /// The key of a message, and until when it is remembered; `None`: it is no duplicate of anything.
    pub(crate) fn key_of(&self, properties: RawProperties<'_>, now_ms: u64) -> Option<(Vec<u8>, u64)> {
        self.settings.key_of(properties, now_ms)
    }

    /// Judges a message with that key, to be remembered until `expires_at_ms`.
    pub(crate) fn judge(&self, key: &[u8], expires_at_ms: u64, now_ms: u64) -> Verdict {
        self.window.lock().admit(key, expires_at_ms, now_ms)
    }

    /// See [`Window::kept`].
    pub(crate) fn kept(&self, admission: &Admission, position: u64) {
        self.window.lock().kept(admission, position);
    }

    /// See [`Window::forget`].
    pub(crate) fn forget(&self, admission: &Admission) {
        self.window.lock().forget(admission);
    }

    /// What the store has to know of a message that is logged, and how it is taken back.
    pub(crate) fn note(&self, admission: &Admission) -> Option<(MetaChange, MetaChange)> {
        let notes = self.notes.lock();
        let key = Key::Seen(SeenKey { slot: admission.noted.slot, ..notes.as_ref()?.clone() }).encode();
        Some((MetaChange::Put(key.clone(), encode_seen(&admission.noted)), MetaChange::Delete(key)))
    }

    /// What it belongs to is being deleted: the store must forget these, and is told nothing more.
    pub(crate) fn close(&self) -> Vec<MetaChange> {
        let Some(place) = self.notes.lock().take() else { return Vec::new() };
        let key = |slot| Key::Seen(SeenKey { slot, ..place.clone() });
        self.window.lock().slots().map(|slot| MetaChange::Delete(key(slot).encode())).collect()
    }
}
