//! The settings of a policy that say from which other brokers messages come ([`crate::federation`]).
//!
//! Only the names of upstreams are here: what they are is a parameter, which need not exist.

use leveret_wire::{FieldTable, FieldValue};
use regex::bytes::Regex;

use super::InForce;
use crate::pattern::compile;

const UPSTREAM: &str = "federation-upstream";
const SET: &str = "federation-upstream-set";
const PATTERN: &str = "federation-upstream-pattern";

/// The upstreams of a queue or an exchange.
#[derive(Clone, Debug)]
pub enum Federated {
    /// The one of that name.
    Upstream(String),
    /// Those in the set of that name; `all` is all there are.
    Set(String),
    /// Those with a fitting name.
    Pattern(UpstreamPattern),
}

/// A pattern over the names of upstreams, which matches anywhere unless it is anchored.
#[derive(Clone, Debug)]
pub struct UpstreamPattern(Regex);

impl Federated {
    /// What policies say; `None`: nothing is federated.
    pub fn of(in_force: &InForce) -> Option<Self> {
        let definition = in_force.definition();
        let text = |name| definition.get(name).and_then(FieldValue::as_str).map(str::to_owned);
        let pattern = || text(PATTERN).and_then(|pattern| compile(&pattern).ok()).map(UpstreamPattern);
        let upstream = text(UPSTREAM).map(Self::Upstream);
        upstream.or_else(|| text(SET).map(Self::Set)).or_else(|| pattern().map(Self::Pattern))
    }
}

impl UpstreamPattern {
    /// Whether an upstream's name fits.
    pub fn is_match(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }
}

/// RabbitMQ's checks of these settings, which come before those of single values.
pub(super) fn check(definition: &FieldTable) -> Result<(), String> {
    let given = [UPSTREAM, SET, PATTERN].into_iter().filter(|name| definition.get(name).is_some());
    if given.count() > 1 {
        return Err(format!("cannot specify {UPSTREAM}, {SET} or {PATTERN} together"));
    }
    let Some(pattern) = definition.get(PATTERN).and_then(FieldValue::as_str) else { return Ok(()) };
    compile(pattern).map(drop).map_err(|bad| {
        format!("could not compile pattern {pattern} to a regular expression. Error: {}", bad.reason)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policies::{Author, Policy};

    fn policy(definition: FieldTable) -> Result<Policy, String> {
        Policy::new(Author::User, "p", "", "all", 0, definition).map_err(|error| error.to_string())
    }

    #[test]
    fn only_one_of_them_is_allowed() {
        let refused = |settings: &[(&str, &str)]| {
            let fields = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
            policy(FieldTable(fields.collect())).err()
        };
        let together = "cannot specify federation-upstream, federation-upstream-set or federation-upstream-pattern \
                        together";
        for pair in
            [[(UPSTREAM, "a"), (SET, "b")], [(SET, "a"), (PATTERN, "b")], [(PATTERN, "["), (SET, "b")]]
        {
            assert!(refused(&pair).unwrap().contains(together), "{pair:?}");
        }
        assert!(refused(&[(PATTERN, "[")]).unwrap().contains("could not compile pattern [ to a regular"));
        assert_eq!(refused(&[(PATTERN, "^u")]), None);
        assert_eq!(refused(&[(SET, "all")]), None);
    }

    #[test]
    fn a_policy_names_upstreams() {
        let federated = |name: &str, value: &str| {
            let policy = policy(FieldTable::from([(name, value)])).unwrap();
            Federated::of(&InForce { policy: Some(Arc::new(policy)), operator_policy: None })
        };
        assert!(matches!(federated(UPSTREAM, "a"), Some(Federated::Upstream(name)) if name == "a"));
        assert!(matches!(federated(SET, "all"), Some(Federated::Set(name)) if name == "all"));
        let Some(Federated::Pattern(pattern)) = federated(PATTERN, "^u") else { panic!("no pattern") };
        assert!(pattern.is_match("up") && !pattern.is_match("cup"));
        assert!(federated("alternate-exchange", "a").is_none());
    }
}
