//! Requests that wait for their answer: found by key, kept in the order in which they came.
//!
//! ```text
//!   index   key ─► slot
//!   slots   [ . ] [ C ] [ A ] [ . ] [ B ]        free ones are linked too
//!   order   oldest A ─► B ─► C newest
//! ```
//!
//! Memory follows the number of requests in flight and never exceeds the table's capacity: then the oldest gives
//! way. Nothing but ids and times is kept, and a request costs no allocation once the table has grown.

use std::sync::Arc;

use hashbrown::HashTable;

use super::service::Service;

/// No slot.
const NONE: u32 = u32::MAX;

/// A request that was seen on its way into a queue.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// A hash of where the answer goes and what it carries.
    pub(super) key: u64,
    /// Who is to answer.
    pub(super) service: Arc<Service>,
    /// When it came, µs since 1970.
    pub(super) started_us: u64,
    /// When nobody waits for the answer any more; [`u64::MAX`]: not said.
    pub(super) due_us: u64,
    /// For how many requests it counts.
    pub(super) weight: u64,
    /// It has been counted as unanswered. It is only kept in order to recognise a late answer.
    pub(super) is_overdue: bool,
}

#[derive(Debug)]
struct Slot {
    request: Option<Request>,
    older: u32,
    newer: u32,
}

/// The requests in flight of one shard.
#[derive(Debug)]
pub(super) struct InFlight {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    oldest: u32,
    newest: u32,
    /// The first free slot; the others follow by `newer`.
    free: u32,
    capacity: usize,
}

impl InFlight {
    pub(super) fn new(capacity: usize) -> Self {
        let (index, slots) = (HashTable::new(), Vec::new());
        Self { index, slots, oldest: NONE, newest: NONE, free: NONE, capacity }
    }

    /// Adds a request as the newest; answers the oldest if it had to give way.
    pub(super) fn insert(&mut self, request: Request) -> Option<Request> {
        let given_way = if self.index.len() >= self.capacity { self.take_oldest() } else { None };
        let key = request.key;
        let slot = Slot { request: Some(request), older: self.newest, newer: NONE };
        let at = self.place(slot);
        match self.slots.get_mut(self.newest as usize) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        let slots = &self.slots;
        self.index.insert_unique(key, at, |at| key_at(slots, *at).unwrap_or_default());
        given_way
    }

    /// Takes a request out of the table. Several of one key (a request that went to several queues) leave one
    /// after the other.
    pub(super) fn take(&mut self, key: u64) -> Option<Request> {
        let slots = &self.slots;
        let found = self.index.find_entry(key, |at| key_at(slots, *at) == Some(key)).ok()?;
        let (at, _) = found.remove();
        self.unlink(at)
    }

    /// Whether a request of this key waits.
    pub(super) fn contains(&self, key: u64) -> bool {
        self.index.find(key, |at| key_at(&self.slots, *at) == Some(key)).is_some()
    }

    /// The request that has waited longest.
    pub(super) fn oldest(&self) -> Option<&Request> {
        self.slots.get(self.oldest as usize)?.request.as_ref()
    }

    /// Takes out the request that has waited longest.
    pub(super) fn take_oldest(&mut self) -> Option<Request> {
        let (at, key) = (self.oldest, self.oldest()?.key);
        if let Ok(found) = self.index.find_entry(key, |candidate| *candidate == at) {
            found.remove();
        }
        self.unlink(at)
    }

    /// All of them, in no order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.slots.iter_mut().filter_map(|slot| slot.request.as_mut())
    }

    fn place(&mut self, slot: Slot) -> u32 {
        match self.slots.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                self.free = free.newer;
                *free = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        }
    }

    fn unlink(&mut self, at: u32) -> Option<Request> {
        let free = Slot { request: None, older: NONE, newer: self.free };
        let Slot { request, older, newer } = std::mem::replace(self.slots.get_mut(at as usize)?, free);
        self.free = at;
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        request
    }
}

fn key_at(slots: &[Slot], at: u32) -> Option<u64> {
    Some(slots.get(at as usize)?.request.as_ref()?.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: u64, started_us: u64) -> Request {
        let service = Arc::new(Service::new("/", "q", 0));
        Request { key, service, started_us, due_us: u64::MAX, weight: 1, is_overdue: false }
    }

    fn started(request: Option<Request>) -> Option<u64> {
        request.map(|request| request.started_us)
    }

    #[test]
    fn the_oldest_gives_way_when_the_table_is_full() {
        let mut table = InFlight::new(3);
        for n in 1..=3 {
            assert_eq!(started(table.insert(request(n, n))), None);
        }
        assert_eq!(started(table.insert(request(4, 4))), Some(1));
        assert_eq!(started(table.take(3)), Some(3));
        assert_eq!(started(table.insert(request(5, 5))), None);
        assert_eq!(started(table.insert(request(6, 6))), Some(2));
        assert_eq!([started(table.take(2)), started(table.take(1))], [None, None]);
        let left: Vec<_> = std::iter::from_fn(|| started(table.take_oldest())).collect();
        assert_eq!(left, [4, 5, 6]);
        assert_eq!((table.slots.len(), table.index.len()), (3, 0));
    }

    #[test]
    fn requests_of_one_key_leave_one_after_the_other() {
        let mut table = InFlight::new(10);
        for n in [1, 2] {
            table.insert(request(7, n));
        }
        let mut taken = [started(table.take(7)), started(table.take(7))];
        taken.sort_unstable();
        assert_eq!(taken, [Some(1), Some(2)]);
        assert!(!table.contains(7));
        assert_eq!(started(table.take(7)), None);
    }

    #[test]
    fn it_is_a_map_with_an_order() {
        // Against a plain list, with a sequence that fills and empties the table again and again.
        let (mut table, mut model) = (InFlight::new(50), Vec::<(u64, u64)>::new());
        let mut state = 1_u64;
        for step in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (key, action) = ((state >> 40) % 97, (state >> 33) % 4);
            let at = model.iter().position(|(other, _)| *other == key);
            match (action, at) {
                (0 | 1, None) => {
                    let full = model.len() == 50;
                    let expected = full.then(|| model.remove(0).1);
                    model.push((key, step));
                    assert_eq!(started(table.insert(request(key, step))), expected);
                }
                (3, _) if step % 5 == 0 => {
                    let expected = (!model.is_empty()).then(|| model.remove(0).1);
                    assert_eq!(started(table.take_oldest()), expected);
                }
                _ => {
                    let expected = at.map(|at| model.remove(at).1);
                    assert_eq!(started(table.take(key)), expected, "step {step}");
                }
            }
            assert_eq!(table.oldest().map(|oldest| oldest.started_us), model.first().map(|first| first.1));
        }
        assert!(table.slots.len() <= 50);
    }
}
