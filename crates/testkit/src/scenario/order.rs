//! What an operator does beside the protocol: policies, limits, virtual hosts, users.
//!
//! ```text
//!   policy %p ^%q queues {max-length=2} priority=1     set a policy; operator-policy alike
//!   clear-policy %p                                    clear it;     clear-operator-policy alike
//!   vhost %v                                           add a virtual host in which guest may do anything
//!   user %u %v                                         add a user, its name the password, who may do anything there
//!   vhost-limits %v {max-queues=1}                     user-limits %u {max-channels=1}
//!   refused "*is not a valid*" policy …                the same, and expect this text
//! ```
//!
//! Every broker has its own way: the embedded one is called, RabbitMQ's is `rabbitmqctl`.

use std::fmt;

use leveret_wire::{FieldTable, RawTable};

use super::parse::Lexer;
use super::term::{Environment, Term, TermError};
use crate::raw_client::value::Value;

/// Something to do, with all names in full.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Sets a policy in `/`.
    SetPolicy {
        /// An operator's policy.
        is_operators: bool,
        /// Its name.
        name: String,
        /// Its pattern.
        pattern: String,
        /// What it is for.
        apply_to: String,
        /// Its priority.
        priority: i64,
        /// Its settings.
        definition: FieldTable,
    },
    /// Clears a policy in `/`.
    ClearPolicy {
        /// An operator's policy.
        is_operators: bool,
        /// Its name.
        name: String,
    },
    /// Adds a virtual host in which guest may do anything.
    AddVHost(String),
    /// Adds a user, its name the password, who may do anything in a virtual host.
    AddUser {
        /// Its name.
        name: String,
        /// The virtual host.
        vhost: String,
    },
    /// Limits a virtual host.
    LimitVHost(String, FieldTable),
    /// Limits a user.
    LimitUser(String, FieldTable),
}

/// Carries out orders on one broker.
pub trait Operator: fmt::Debug + Send + Sync {
    /// Does it, or answers the text of the refusal.
    fn carry_out(&self, order: &Order) -> Result<(), String>;
}

/// An order as written.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderTerm {
    verb: Verb,
    words: Vec<Term>,
    table: Option<Term>,
    priority: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    SetPolicy { is_operators: bool },
    ClearPolicy { is_operators: bool },
    AddVHost,
    AddUser,
    LimitVHost,
    LimitUser,
}

impl Verb {
    fn named(word: &str) -> Option<Verb> {
        Some(match word {
            "policy" => Verb::SetPolicy { is_operators: false },
            "operator-policy" => Verb::SetPolicy { is_operators: true },
            "clear-policy" => Verb::ClearPolicy { is_operators: false },
            "clear-operator-policy" => Verb::ClearPolicy { is_operators: true },
            "vhost" => Verb::AddVHost,
            "user" => Verb::AddUser,
            "vhost-limits" => Verb::LimitVHost,
            "user-limits" => Verb::LimitUser,
            _ => return None,
        })
    }

    /// How many words follow.
    fn words(self) -> usize {
        match self {
            Verb::SetPolicy { .. } => 3,
            Verb::AddUser => 2,
            Verb::ClearPolicy { .. } | Verb::AddVHost | Verb::LimitVHost | Verb::LimitUser => 1,
        }
    }
}

/// Reads an order; `None` when the line is none.
pub(super) fn parse(head: &str, rest: &str) -> Option<Result<OrderTerm, String>> {
    let verb = Verb::named(head)?;
    Some(parse_rest(verb, Lexer::new(rest)))
}

fn parse_rest(verb: Verb, mut lexer: Lexer<'_>) -> Result<OrderTerm, String> {
    let words = (0..verb.words()).map(|_| lexer.word_term()).collect::<Result<Vec<_>, _>>()?;
    let arguments = lexer.arguments()?;
    let mut priority = 0;
    for (name, term) in &arguments.named {
        let bytes = term.bytes(&Environment::default()).map_err(|error| error.0)?;
        match (name.as_str(), String::from_utf8_lossy(&bytes).parse()) {
            ("priority", Ok(number)) => priority = number,
            _ => return Err(format!("an order has no '{name}'")),
        }
    }
    Ok(OrderTerm { verb, words, table: arguments.positional.into_iter().next(), priority })
}

impl OrderTerm {
    /// The order, with what its names stand for.
    pub fn to_order(&self, environment: &Environment) -> Result<Order, TermError> {
        let word = |at: usize| {
            let term = self.words.get(at).ok_or_else(|| TermError("a word is missing".into()))?;
            Ok(String::from_utf8_lossy(&term.bytes(environment)?).into_owned())
        };
        let definition = || self.definition(environment);
        Ok(match self.verb {
            Verb::SetPolicy { is_operators } => Order::SetPolicy {
                is_operators,
                name: word(0)?,
                pattern: word(1)?,
                apply_to: word(2)?,
                priority: self.priority,
                definition: definition()?,
            },
            Verb::ClearPolicy { is_operators } => Order::ClearPolicy { is_operators, name: word(0)? },
            Verb::AddVHost => Order::AddVHost(word(0)?),
            Verb::AddUser => Order::AddUser { name: word(0)?, vhost: word(1)? },
            Verb::LimitVHost => Order::LimitVHost(word(0)?, definition()?),
            Verb::LimitUser => Order::LimitUser(word(0)?, definition()?),
        })
    }

    fn definition(&self, environment: &Environment) -> Result<FieldTable, TermError> {
        let missing = || TermError("a table is missing".into());
        let Value::Table(entries) = self.table.as_ref().ok_or_else(missing)?.to_table_value(environment)?
        else {
            return Err(missing());
        };
        let octets = crate::raw_client::value::encode_table(&entries);
        let table = RawTable::parse(&octets).map_err(|error| TermError(error.to_string()))?;
        Ok(table.to_table())
    }
}
