//! Policies: settings for all queues and exchanges whose names fit a pattern, changed while they work.
//!
//! ```text
//!   declaration's arguments ──────────────────────────┐
//!   user's policy      best that fits ─┐              ├─► arguments in force ─► Settings
//!   operator's policy  best that fits ─┴─ definition ─┘
//! ```
//!
//! One policy and one operator's policy are in force for an object: the one of highest priority whose pattern and kind
//! fit, of equals the first by name (RabbitMQ does not say which). Where both set something, numbers meet at the lower
//! one; otherwise the operator's counts. A declaration's argument beats a policy, except that of two limits the lower
//! counts ([`keys`]).
//!
//! [`Policy::new`] is the only way to a policy, so whatever is in force has been checked. Setting and clearing are
//! operations of the broker ([`crate::ops::policy`]).

mod federated;
mod keys;
mod record;
mod term;

use std::fmt;
use std::sync::Arc;

use leveret_wire::FieldTable;
use regex::bytes::Regex;

use crate::parameter_error::ParameterError;
use crate::pattern::compile;
use crate::settings::QueueKind;
pub use federated::{Federated, UpstreamPattern};
use keys::Key;
pub(crate) use record::{decode, encode};
pub(crate) use term::{print as print_value, print_settings};

/// The longest name of a policy.
const NAME_MAX_BYTES: usize = 255;
/// The most octets that a definition may have as a field table.
const DEFINITION_MAX_BYTES: usize = 64 << 10;

/// Whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Author {
    /// A user's.
    User,
    /// The operator's, who only sets limits, and whose limits users cannot lift.
    Operator,
}

/// Which objects a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Exchanges.
    Exchanges,
    /// Queues of any kind.
    Queues,
    /// Classic queues; delayed ones are such.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
}

/// What a policy may be in force for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An exchange.
    Exchange,
    /// A queue of this kind.
    Queue(QueueKind),
}

/// A policy, checked.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name; unique in its virtual host for each author.
    pub name: String,
    /// The objects it is for.
    pub apply_to: ApplyTo,
    /// The highest that fits is in force.
    pub priority: i64,
    /// What it sets: `max-length` and so on.
    pub definition: FieldTable,
    pattern: String,
    matcher: Regex,
}

/// The policies of a virtual host.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    users: Vec<Arc<Policy>>,
    operators: Vec<Arc<Policy>>,
}

/// What is in force for one queue or exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InForce {
    /// The user's policy.
    pub policy: Option<Arc<Policy>>,
    /// The operator's.
    pub operator_policy: Option<Arc<Policy>>,
}

impl Policy {
    /// Checks a policy. `apply_to` is one of `all`, `exchanges`, `queues`, `classic_queues`, `quorum_queues`,
    /// `streams`; the pattern matches anywhere in a name unless it is anchored, the empty one matches every name.
    ///
    /// # Errors
    /// [`ParameterError::Invalid`] with RabbitMQ's text: no or unknown settings, a value out of range, a bad pattern.
    pub fn new(
        author: Author,
        name: &str,
        pattern: &str,
        apply_to: &str,
        priority: i64,
        definition: FieldTable,
    ) -> Result<Self, ParameterError> {
        let invalid = |reason: String| Err(ParameterError::Invalid(reason));
        if name.len() > NAME_MAX_BYTES {
            return invalid(format!("a policy's name has at most {NAME_MAX_BYTES} octets"));
        }
        let matcher = compile(pattern).map_err(|bad| {
            let reason = bad.reason;
            ParameterError::Invalid(format!("pattern should be regular expression but is invalid: {reason}"))
        })?;
        let Some(apply_to) = ApplyTo::parse(apply_to) else {
            return invalid(format!(
                "apply-to '{apply_to}' unrecognised; should be one of: 'queues', 'classic_queues',  \
                 'quorum_queues', 'streams', 'exchanges', or 'all'"
            ));
        };
        check_definition(author, &definition).map_err(ParameterError::Invalid)?;
        let (name, pattern) = (name.to_owned(), pattern.to_owned());
        Ok(Self { name, apply_to, priority, definition, pattern, matcher })
    }

    /// The pattern as given.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether it may be in force for such an object. A policy with a setting that a kind of queue does not know
    /// passes by queues of that kind, as in RabbitMQ.
    fn fits(&self, subject: Subject, name: &str) -> bool {
        let knows_all = |kind| {
            let known = |key: &String| Key::named(key).is_some_and(|key| key.kinds.contains(&kind));
            self.definition.iter().all(|(key, _)| known(key))
        };
        let fits = match subject {
            Subject::Exchange => matches!(self.apply_to, ApplyTo::All | ApplyTo::Exchanges),
            Subject::Queue(kind) => self.apply_to.is_for(kind) && knows_all(kind),
        };
        fits && self.matcher.is_match(name.as_bytes())
    }
}

/// The same policy: everything but the compiled pattern, which follows from the others.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.pattern, self.apply_to, self.priority, &self.definition)
            == (&other.name, &other.pattern, other.apply_to, other.priority, &other.definition)
    }
}

impl ApplyTo {
    /// Its name, as clients write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exchanges => "exchanges",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let mut all = [
            Self::All,
            Self::Exchanges,
            Self::Queues,
            Self::ClassicQueues,
            Self::QuorumQueues,
            Self::Streams,
        ]
        .into_iter();
        all.find(|apply_to| apply_to.name() == name)
    }

    fn is_for(self, kind: QueueKind) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::Exchanges => false,
            Self::ClassicQueues => matches!(kind, QueueKind::Classic | QueueKind::Delayed),
            Self::QuorumQueues => kind == QueueKind::Quorum,
            Self::Streams => kind == QueueKind::Stream,
        }
    }
}

impl fmt::Display for ApplyTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// RabbitMQ's order of checks: is there anything, is every value valid, is everything known.
fn check_definition(author: Author, definition: &FieldTable) -> Result<(), String> {
    if definition.is_empty() {
        return Err("no policy provided".into());
    }
    if definition.raw_bytes().map_or(true, |octets| octets.len() > DEFINITION_MAX_BYTES) {
        return Err(format!("a policy's definition has at most {DEFINITION_MAX_BYTES} octets"));
    }
    let key_of = |name: &str| {
        let may_set = |key: &&Key| author == Author::User || key.under_operator.is_some();
        Key::named(name).filter(may_set)
    };
    federated::check(definition)?;
    for (name, value) in definition.iter() {
        key_of(name).map_or(Ok(()), |key| key.check(value))?;
    }
    let mut unknown = definition.iter().filter(|(name, _)| key_of(name).is_none()).peekable();
    match unknown.peek() {
        None => Ok(()),
        Some(_) => Err(format!("{} are not recognised policy settings", term::print_settings(unknown))),
    }
}

impl PolicySet {
    /// The policies of an author, the one that goes first in front.
    pub fn list(&self, author: Author) -> &[Arc<Policy>] {
        match author {
            Author::User => &self.users,
            Author::Operator => &self.operators,
        }
    }

    /// The policy of that name.
    pub fn find(&self, author: Author, name: &str) -> Option<&Arc<Policy>> {
        self.list(author).iter().find(|policy| policy.name == name)
    }

    /// Adds a policy, in the place of one of that name.
    pub(crate) fn put(&mut self, author: Author, policy: Arc<Policy>) {
        self.remove(author, &policy.name);
        let list = self.list_mut(author);
        list.push(policy);
        list.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    }

    /// Removes a policy; `false` when there is none of that name.
    pub(crate) fn remove(&mut self, author: Author, name: &str) -> bool {
        let list = self.list_mut(author);
        let before = list.len();
        list.retain(|policy| policy.name != name);
        list.len() < before
    }

    /// What is in force for an object of that name.
    pub(crate) fn in_force(&self, subject: Subject, name: &str) -> InForce {
        let first = |list: &[Arc<Policy>]| list.iter().find(|policy| policy.fits(subject, name)).cloned();
        InForce { policy: first(&self.users), operator_policy: first(&self.operators) }
    }

    fn list_mut(&mut self, author: Author) -> &mut Vec<Arc<Policy>> {
        match author {
            Author::User => &mut self.users,
            Author::Operator => &mut self.operators,
        }
    }
}

impl InForce {
    /// What both policies come to, before any argument is looked at: RabbitMQ's `effective_policy_definition`.
    pub fn definition(&self) -> FieldTable {
        let mut merged = self.policy.as_ref().map(|policy| policy.definition.clone()).unwrap_or_default();
        for (name, value) in self.operator_policy.iter().flat_map(|policy| policy.definition.iter()) {
            let meets = Key::named(name).and_then(|key| key.under_operator);
            let resolved = match (merged.get(name), meets) {
                (Some(mine), Some(meets)) => meets.resolve(mine, value),
                (_, _) => value.clone(),
            };
            merged.insert(name, resolved);
        }
        merged
    }

    /// The arguments in force of a queue that was declared with `arguments`.
    pub(crate) fn queue_arguments(&self, kind: QueueKind, arguments: &FieldTable) -> FieldTable {
        let mut in_force = arguments.clone();
        for (name, value) in self.definition().iter().filter(|(name, _)| name != ALTERNATE_EXCHANGE) {
            let Some(key) = Key::named(name).filter(|key| key.kinds.contains(&kind)) else { continue };
            let argument = format!("x-{name}");
            let resolved = match arguments.get(&argument) {
                Some(given) => key.under_argument.resolve(value, given),
                None => value.clone(),
            };
            in_force.insert(argument, resolved);
        }
        in_force
    }

    /// Where an exchange that was declared with `arguments` sends what it cannot route.
    pub(crate) fn alternate_exchange(&self, arguments: &FieldTable) -> Option<String> {
        let of_policy = || self.policy.as_ref()?.definition.get(ALTERNATE_EXCHANGE);
        let name = arguments.get(ALTERNATE_EXCHANGE).or_else(of_policy)?;
        name.as_str().map(str::to_owned)
    }
}

/// The setting of exchanges, as argument and in a policy.
const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

#[cfg(test)]
mod tests;
