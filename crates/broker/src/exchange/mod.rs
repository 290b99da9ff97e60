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
//! ```
//!
//! Everything iterates in an order that depends on the calls made only, never on a hash seed: the simulator
//! replays runs exactly.

mod bad_binding;
mod destinations;
mod direct;
mod fanout;
mod headers;
mod key;
mod positions;
mod registry;
mod topic;
mod words;

use std::hash::Hash;

use leveret_wire::{FieldTable, RawTable};

pub use bad_binding::BadBinding;

use direct::Direct;
use fanout::Fanout;
use headers::Headers;
use registry::Registry;
use topic::Topic;

/// The four exchange types of AMQP 0-9-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// The routing key equals the binding key.
    Direct,
    /// Every destination, whatever the key.
    Fanout,
    /// The binding key is a pattern of words: `*` is one word, `#` is any number of them.
    Topic,
    /// The message's headers match the binding's arguments.
    Headers,
}

impl ExchangeKind {
    /// The type of that name, as clients write it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "direct" => Some(Self::Direct),
            "fanout" => Some(Self::Fanout),
            "topic" => Some(Self::Topic),
            "headers" => Some(Self::Headers),
            _ => None,
        }
    }

    /// The name, as clients write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }
}

/// The bindings of one exchange. `D` is a destination: cheap to clone and to hash.
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
}

impl<D: Clone + Eq + Hash> Bindings<D> {
    /// An exchange of that type without bindings.
    pub fn new(kind: ExchangeKind) -> Self {
        Self { registry: Registry::new(), index: Index::new(kind) }
    }

    /// Whether such a binding can be made. To be asked before [`add`](Self::add), and not before
    /// [`remove`](Self::remove): RabbitMQ lets a client unbind with arguments that it could not bind with.
    ///
    /// # Errors
    /// The arguments have no form on the wire, or the exchange is a headers exchange and its `x-match` is none
    /// of the four known values.
    pub fn check(kind: ExchangeKind, arguments: &FieldTable) -> Result<(), BadBinding> {
        arguments.raw_bytes().map_err(BadBinding::Arguments)?;
        match kind {
            ExchangeKind::Headers => headers::check(arguments),
            ExchangeKind::Direct | ExchangeKind::Fanout | ExchangeKind::Topic => Ok(()),
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
        self.index = Index::new(self.index.kind());
        self.registry.drain()
    }

    /// Calls `found` at least once for each destination that the message goes to. `headers` are those of the
    /// message; only a headers exchange reads them.
    ///
    /// A topic exchange finds nothing for a key above 255 octets, which AMQP cannot carry.
    pub fn route(&self, key: &str, headers: Option<RawTable<'_>>, found: &mut dyn FnMut(&D)) {
        match &self.index {
            Index::Direct(index) => index.route(key, found),
            Index::Fanout(index) => index.route(found),
            Index::Topic(index) => index.route(key, found),
            Index::Headers(index) => index.route(headers.unwrap_or_default(), found),
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

impl<D: Clone + Eq + Hash> Index<D> {
    fn new(kind: ExchangeKind) -> Self {
        match kind {
            ExchangeKind::Direct => Self::Direct(Direct::new()),
            ExchangeKind::Fanout => Self::Fanout(Fanout::new()),
            ExchangeKind::Topic => Self::Topic(Topic::new()),
            ExchangeKind::Headers => Self::Headers(Headers::new()),
        }
    }

    fn kind(&self) -> ExchangeKind {
        match self {
            Self::Direct(_) => ExchangeKind::Direct,
            Self::Fanout(_) => ExchangeKind::Fanout,
            Self::Topic(_) => ExchangeKind::Topic,
            Self::Headers(_) => ExchangeKind::Headers,
        }
    }

    fn add(&mut self, destination: D, key: &str, arguments: &FieldTable) {
        match self {
            Self::Direct(index) => index.add(destination, key),
            Self::Fanout(index) => index.add(destination),
            Self::Topic(index) => index.add(destination, key),
            Self::Headers(index) => index.add(destination, arguments),
        }
    }

    fn remove(&mut self, destination: &D, key: &str, arguments: &FieldTable) {
        match self {
            Self::Direct(index) => index.remove(destination, key),
            Self::Fanout(index) => index.remove(destination),
            Self::Topic(index) => index.remove(destination, key),
            Self::Headers(index) => index.remove(destination, arguments),
        }
    }
}

#[cfg(test)]
mod tests;
