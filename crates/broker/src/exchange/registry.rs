//! Every binding of an exchange once, by destination: what listings and unbinding go by.

use std::hash::Hash;

use indexmap::Equivalent;
use leveret_wire::FieldTable;

use super::destinations::OrderedMap;

/// destination → (key, arguments in canonical form) → the arguments as given.
#[derive(Debug)]
pub(super) struct Registry<D> {
    by_destination: OrderedMap<D, OrderedMap<Identity, FieldTable>>,
    len: usize,
}

/// What tells the bindings to one destination apart.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    key: Box<str>,
    arguments: Box<[u8]>,
}

/// An [`Identity`] to look up: hashes and compares alike.
#[derive(Hash)]
struct IdentityRef<'a> {
    key: &'a str,
    arguments: &'a [u8],
}

impl<D: Clone + Eq + Hash> Registry<D> {
    pub(super) fn new() -> Self {
        Self { by_destination: OrderedMap::default(), len: 0 }
    }

    /// False if it was there.
    pub(super) fn add(&mut self, destination: &D, key: &str, arguments: &FieldTable) -> bool {
        let identity = Identity { key: key.into(), arguments: canonical(arguments).into() };
        let bindings = match self.by_destination.get_mut(destination) {
            Some(bindings) => bindings,
            None => self.by_destination.entry(destination.clone()).or_default(),
        };
        if bindings.contains_key(&identity) {
            return false;
        }
        bindings.insert(identity, arguments.clone());
        self.len += 1;
        true
    }

    pub(super) fn contains(&self, destination: &D, key: &str, arguments: &FieldTable) -> bool {
        let arguments = &canonical(arguments);
        self.by_destination
            .get(destination)
            .is_some_and(|bindings| bindings.contains_key(&IdentityRef { key, arguments }))
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, destination: &D, key: &str, arguments: &FieldTable) -> bool {
        let Some(bindings) = self.by_destination.get_mut(destination) else { return false };
        if bindings.swap_remove(&IdentityRef { key, arguments: &canonical(arguments) }).is_none() {
            return false;
        }
        if bindings.is_empty() {
            self.by_destination.swap_remove(destination);
        }
        self.len -= 1;
        true
    }

    pub(super) fn remove_destination(&mut self, destination: &D) -> Vec<(String, FieldTable)> {
        let removed = self.by_destination.swap_remove(destination).unwrap_or_default();
        self.len -= removed.len();
        removed.into_iter().map(|(identity, arguments)| (identity.key.into(), arguments)).collect()
    }

    pub(super) fn drain(&mut self) -> Vec<(D, String, FieldTable)> {
        let mut all = Vec::with_capacity(self.len);
        for (destination, bindings) in self.by_destination.drain(..) {
            all.extend(
                bindings.into_iter().map(|(id, arguments)| (destination.clone(), id.key.into(), arguments)),
            );
        }
        self.len = 0;
        all
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&D, &str, &FieldTable)> {
        self.by_destination.iter().flat_map(|(destination, bindings)| {
            bindings.iter().map(move |(id, arguments)| (destination, &*id.key, arguments))
        })
    }

    pub(super) fn of(&self, destination: &D) -> impl Iterator<Item = (&str, &FieldTable)> {
        let bindings = self.by_destination.get(destination).into_iter().flatten();
        bindings.map(|(id, arguments)| (&*id.key, arguments))
    }
}

/// Equal for tables that make the same binding: RabbitMQ sorts the arguments by key before it compares.
pub(super) fn canonical(arguments: &FieldTable) -> Vec<u8> {
    if arguments.is_empty() {
        return Vec::new();
    }
    let mut sorted = arguments.clone();
    sorted.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    // A table without a wire form is refused by `Bindings::check`; if one comes all the same, it is still only
    // equal to itself.
    sorted.raw_bytes().unwrap_or_else(|_| format!("{sorted:?}").into_bytes())
}

impl Equivalent<Identity> for IdentityRef<'_> {
    fn equivalent(&self, identity: &Identity) -> bool {
        *self.key == *identity.key && *self.arguments == *identity.arguments
    }
}
