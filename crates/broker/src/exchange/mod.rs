//! Routing: from a message's key and headers to the destinations of an exchange's bindings.
//!
//! Pure data structures: no locks, no I/O, no clock. The destination is a type parameter, so nothing here knows
//! of queues. Each exchange type has an index of its own, and every binding is also in a registry by
//! destination, which is what listings, unbinding and the deletion of a queue work with.
//!
//! ```text
//!   bind (destination, key, arguments) ──▶ Registry   destination → its bindings     each binding once
//!                                     └──▶ Index      key or arguments → destinations, counted
//!                                            Direct   hash map
//!                                            Fanout   set
//!                                            Topic    tree of words, walked with sets of positions
//!                                            Headers  distinct argument tables
//!                                            ConsistentHash, Pick   all bindings, one of which is chosen
//!                                            FederationUpstream     set, for messages that have not come too far
//! ```
//!
//! Everything iterates in an order that depends on the calls made only, never on a hash seed: the simulator
//! replays runs exactly.

mod bad_binding;
mod bad_exchange;
mod block;
mod consistent_hash;
mod destinations;
mod direct;
mod fanout;
mod federation_upstream;
mod hash_on;
mod headers;
mod key;
mod kind;
mod label;
mod pick;
mod positions;
mod registry;
mod stable_hash;
mod topic;
mod words;

use std::hash::Hash;

use leveret_wire::{FieldTable, RawProperties};

pub use bad_binding::BadBinding;
pub use bad_exchange::BadExchange;
pub use kind::ExchangeKind;
pub(crate) use kind::history_length;

use crate::dedup;
use consistent_hash::ConsistentHash;
use direct::Direct;
use fanout::Fanout;
use federation_upstream::FederationUpstream;
use hash_on::HashOn;
use headers::Headers;
use pick::Pick;
use registry::Registry;
use topic::Topic;

/// What bindings lead to: cheap to clone and to hash.
pub trait Member: Clone + Eq + Hash {
    /// Octets that name it, among all that bindings can lead to, the same way after a restart.
    fn stable_name(&self) -> Vec<u8>;

    /// Whether it is a queue, and not another exchange.
    fn is_queue(&self) -> bool;
}

impl Member for u32 {
    fn stable_name(&self) -> Vec<u8> {
        self.to_be_bytes().into()
    }

    fn is_queue(&self) -> bool {
        true
    }
}

/// The bindings of one exchange. `D` is a destination.
///
/// A binding is identified by destination, key and arguments; the order of the arguments does not matter.
/// Adding and removing one costs a few hash look-ups and time proportional to the key, however many others
/// there are.
#[derive(Debug)]
pub struct Bindings<D> {
    registry: Registry<D>,
    index: Index<D>,
}

#[derive(Debug)]
enum Index<D> {
    Direct(Direct<D>),
    Fanout(Fanout<D>),
    Topic(Topic<D>),
    Headers(Headers<D>),
    ConsistentHash(ConsistentHash<D>),
    Pick(Pick<D>),
    FederationUpstream(FederationUpstream<D>),
}

/// Whether an exchange of that type can be declared with these arguments.
///
/// # Errors
/// An argument that the type knows has a value that means nothing.
pub fn check_declaration(kind: ExchangeKind, arguments: &FieldTable) -> Result<(), BadExchange> {
    dedup::check(arguments, kind.deduplicates()).map_err(BadExchange::Deduplication)?;
    match kind {
        ExchangeKind::ConsistentHash => HashOn::of_arguments(arguments).map(drop),
        ExchangeKind::RecentHistory => kind::check_history_length(arguments),
        ExchangeKind::FederationUpstream => federation_upstream::check(arguments),
        _ => Ok(()),
    }
}

impl<D: Member> Bindings<D> {
    /// An exchange of that type without arguments and bindings.
    pub fn new(kind: ExchangeKind) -> Self {
        Self::declared(kind, &FieldTable::new(), "")
    }

    /// A new exchange of that name. Its arguments are checked by [`check_declaration`].
    pub fn declared(kind: ExchangeKind, arguments: &FieldTable, name: &str) -> Self {
        Self { registry: Registry::new(), index: Index::new(kind, arguments, name) }
    }

    /// Whether such a binding can be made. To be asked before [`add`](Self::add), and not before
    /// [`remove`](Self::remove): RabbitMQ lets a client unbind with arguments that it could not bind with.
    ///
    /// # Errors
    /// The arguments have no form on the wire, or the exchange's type cannot make sense of key, arguments or
    /// destination.
    pub fn check(
        kind: ExchangeKind,
        destination: &D,
        key: &str,
        arguments: &FieldTable,
    ) -> Result<(), BadBinding> {
        arguments.raw_bytes().map_err(BadBinding::Arguments)?;
        match kind {
            ExchangeKind::Headers => headers::check(arguments),
            ExchangeKind::ConsistentHash => consistent_hash::check(key),
            ExchangeKind::LocalRandom if !key.is_empty() => Err(BadBinding::KeyNotEmpty(key.to_owned())),
            ExchangeKind::LocalRandom if !destination.is_queue() => Err(BadBinding::NotAQueue),
            _ => Ok(()),
        }
    }

    /// Adds a binding. False if the same one was there.
    ///
    /// `key` is at most 255 octets, as everything that arrives by AMQP is.
    pub fn add(&mut self, destination: D, key: &str, arguments: &FieldTable) -> bool {
        let is_new = self.registry.add(&destination, key, arguments);
        if is_new {
            self.index.add(destination, key, arguments);
        }
        is_new
    }

    /// Removes a binding. False if there was none.
    pub fn remove(&mut self, destination: &D, key: &str, arguments: &FieldTable) -> bool {
        let was_there = self.registry.remove(destination, key, arguments);
        if was_there {
            self.index.remove(destination, key, arguments);
        }
        was_there
    }

    /// Whether there is such a binding.
    pub fn contains(&self, destination: &D, key: &str, arguments: &FieldTable) -> bool {
        self.registry.contains(destination, key, arguments)
    }

    /// Removes all bindings to a destination and returns their keys and arguments.
    pub fn remove_destination(&mut self, destination: &D) -> Vec<(String, FieldTable)> {
        let removed = self.registry.remove_destination(destination);
        for (key, arguments) in &removed {
            self.index.remove(destination, key, arguments);
        }
        removed
    }

    /// Removes all bindings and returns them.
    pub fn drain(&mut self) -> Vec<(D, String, FieldTable)> {
        let all = self.registry.drain();
        for (destination, key, arguments) in &all {
            self.index.remove(destination, key, arguments);
        }
        all
    }

    /// Calls `found` at least once for each destination that a message with this key and these properties goes to.
    ///
    /// A topic exchange finds nothing for a key above 255 octets, which AMQP cannot carry.
    pub fn route(&self, key: &str, properties: RawProperties<'_>, found: &mut dyn FnMut(&D)) {
        match &self.index {
            Index::Direct(index) => index.route(key, found),
            Index::Fanout(index) => index.route(found),
            Index::Topic(index) => index.route(key, found),
            Index::Headers(index) => index.route(properties.headers().unwrap_or_default(), found),
            Index::ConsistentHash(index) => index.route(key, properties, found),
            Index::Pick(index) => index.route(key, found),
            Index::FederationUpstream(index) => index.route(properties, found),
        }
    }

    /// Whether there is no binding.
    pub fn is_empty(&self) -> bool {
        self.registry.len() == 0
    }

    /// The number of bindings.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// All bindings: destination, key, arguments.
    pub fn iter(&self) -> impl Iterator<Item = (&D, &str, &FieldTable)> {
        self.registry.iter()
    }

    /// The keys and arguments of the bindings to one destination.
    pub fn of(&self, destination: &D) -> impl Iterator<Item = (&str, &FieldTable)> {
        self.registry.of(destination)
    }
}

impl<D: Member> Index<D> {
    fn new(kind: ExchangeKind, arguments: &FieldTable, name: &str) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(Direct::new()),
            ExchangeKind::Fanout | ExchangeKind::RecentHistory | ExchangeKind::Deduplication => {
                Self::Fanout(Fanout::new())
            }
            ExchangeKind::Topic => Self::Topic(Topic::new()),
            ExchangeKind::Headers => Self::Headers(Headers::new()),
            ExchangeKind::ConsistentHash => {
                let hash_on = HashOn::of_arguments(arguments).unwrap_or(HashOn::RoutingKey);
                Self::ConsistentHash(ConsistentHash::new(hash_on))
            }
            ExchangeKind::ModulusHash => Self::Pick(Pick::by_hash()),
            ExchangeKind::Random | ExchangeKind::LocalRandom => {
                Self::Pick(Pick::by_chance(stable_hash::hash(name.as_bytes())))
            }
            ExchangeKind::FederationUpstream => Self::FederationUpstream(FederationUpstream::new(arguments)),
        }
    }

    fn add(&mut self, destination: D, key: &str, arguments: &FieldTable) {
        match self {
            Self::Direct(index) => index.add(destination, key),
            Self::Fanout(index) => index.add(destination),
            Self::Topic(index) => index.add(destination, key),
            Self::Headers(index) => index.add(destination, arguments),
            Self::ConsistentHash(index) => index.add(destination, key, arguments),
            Self::Pick(index) => index.add(destination),
            Self::FederationUpstream(index) => index.add(destination),
        }
    }

    fn remove(&mut self, destination: &D, key: &str, arguments: &FieldTable) {
        match self {
            Self::Direct(index) => index.remove(destination, key),
            Self::Fanout(index) => index.remove(destination),
            Self::Topic(index) => index.remove(destination, key),
            Self::Headers(index) => index.remove(destination, arguments),
            Self::ConsistentHash(index) => index.remove(destination, key, arguments),
            Self::Pick(index) => index.remove(destination),
            Self::FederationUpstream(index) => index.remove(destination),
        }
    }
}

#[cfg(test)]
mod tests;
