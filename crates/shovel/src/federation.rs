//! What makes a transfer a link of federation.

use std::collections::BTreeMap;
use std::fmt;

use leveret_client::Delivery;
use leveret_wire::{FieldTable, Properties};

/// What the rules of federation say about what a link moves. The rules are those of the broker that it moves messages to;
/// the link asks. `upstream` is the name that the other broker gives itself, empty if it gives none.
pub trait Federation: fmt::Debug + Send + Sync {
    /// Whether messages may be taken from that broker at all.
    ///
    /// # Errors
    /// Says why not, for whoever looks at the link.
    fn accepts(&self, upstream: &str) -> Result<(), String>;

    /// Notes in a message's properties where it was taken. `false`: it goes no further, and the upstream is done with it.
    fn receive(&self, delivery: &Delivery, upstream: &str, properties: &mut Properties) -> bool;

    /// Whether messages are wanted at the moment. Asked often.
    fn wants(&self) -> bool;

    /// The arguments with which a binding is made at the upstream, to an exchange whose name ends in `letter`; `None`: it
    /// is not made there.
    fn bind(&self, arguments: &FieldTable, upstream: &str, letter: char) -> Option<FieldTable>;
}

/// Bindings of an exchange, whatever they lead to: each key with each table of arguments once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bindings(BTreeMap<Identity, FieldTable>);

/// A binding's key and its encoded arguments.
pub(crate) type Identity = (String, Vec<u8>);

impl Bindings {
    /// Adds a binding. One whose arguments have no form on the wire is left out: no broker could have it.
    pub fn add(&mut self, key: &str, arguments: &FieldTable) {
        if let Ok(octets) = arguments.raw_bytes() {
            self.0.insert((key.to_owned(), octets), arguments.clone());
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Identity, &FieldTable)> {
        self.0.iter()
    }

    pub(crate) fn contains(&self, identity: &Identity) -> bool {
        self.0.contains_key(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_counts_once() {
        let mut bindings = Bindings::default();
        let any = FieldTable::from([("x-match", "any")]);
        for (key, arguments) in [("a", &any), ("a", &any), ("a", &FieldTable::new()), ("b", &any)] {
            bindings.add(key, arguments);
        }
        assert_eq!(bindings.iter().count(), 3);
    }
}
