//! What a scenario says about one value: something to send, or something to compare with.
//!
//! ```text
//!   word        q   12   true   *          the field's type decides what it means
//!   "text"      "no queue '%q'"  "a\x00"   %q: a name unique to this run; $t: what was captured; *: anything
//!   {k=v, ...}  a table; the dots allow further keys when comparing
//!   [v, v]      an array
//!   s:5         a table value of the type with that octet (default: I, l when it does not fit, S, t)
//!   "ab"*3      repeated;  hex(00 ff) bytes
//! ```

use std::collections::BTreeMap;

use crate::raw_client::spec::FieldType;
use crate::raw_client::value::{FIELD_INT, Value, default_field};

/// A value as written in a scenario.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// Text or a bare word.
    Word {
        /// What it is made of.
        parts: Vec<Part>,
        /// In quotes: then it is never a number, a truth or void.
        is_quoted: bool,
    },
    /// A string repeated.
    Repeat(Box<Term>, usize),
    /// A table.
    Table {
        /// Keys and values in the order written.
        entries: Vec<(String, Term)>,
        /// Ends in dots: more keys may be there.
        is_open: bool,
    },
    /// An array.
    Array(Vec<Term>),
    /// A table value with its type octet spelled out.
    Typed(u8, Box<Term>),
}

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Octets as they are.
    Bytes(Vec<u8>),
    /// `%name`: a name that no other scenario and no other run uses.
    Name(String),
    /// `$name`: a captured value.
    Variable(String),
    /// `*`: any octets when comparing, an asterisk when sending.
    Star,
}

/// What the words of one running scenario stand for.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Ends every `%name`.
    pub suffix: String,
    /// What `$name` captured.
    pub captured: BTreeMap<String, Value>,
}

/// Why a term cannot become a value; a mistake in the scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermError(pub String);

impl Term {
    /// The value to send in a field of this type.
    pub fn to_field(&self, kind: FieldType, environment: &Environment) -> Result<Value, TermError> {
        match kind {
            FieldType::Bit => match self.bytes(environment)?.as_slice() {
                b"true" => Ok(Value::Bool(true)),
                b"false" => Ok(Value::Bool(false)),
                _ => Err(TermError(format!("{self:?} is not true or false"))),
            },
            FieldType::ShortString | FieldType::LongString => {
                Ok(Value::Str { tag: b'S', bytes: self.bytes(environment)? })
            }
            FieldType::Table => self.to_table_value(environment),
            FieldType::Octet | FieldType::Short | FieldType::Long | FieldType::LongLong => {
                Ok(Value::Int { tag: FIELD_INT, value: self.number(environment)? })
            }
        }
    }

    /// The value to send inside a table.
    pub fn to_table_value(&self, environment: &Environment) -> Result<Value, TermError> {
        match self {
            Term::Typed(tag, inner) => inner.to_typed(*tag, environment),
            Term::Table { entries, .. } => {
                let entries = entries
                    .iter()
                    .map(|(key, term)| Ok((environment.expand_key(key), term.to_table_value(environment)?)));
                Ok(Value::Table(entries.collect::<Result<_, TermError>>()?))
            }
            Term::Array(items) => {
                let items = items.iter().map(|item| item.to_table_value(environment));
                Ok(Value::Array(items.collect::<Result<_, TermError>>()?))
            }
            Term::Word { is_quoted: false, .. } => self.to_untyped_word(environment),
            Term::Word { .. } | Term::Repeat(..) => {
                Ok(Value::Str { tag: b'S', bytes: self.bytes(environment)? })
            }
        }
    }

    /// The octets of a word.
    pub fn bytes(&self, environment: &Environment) -> Result<Vec<u8>, TermError> {
        match self {
            Term::Word { parts, .. } => {
                let pieces = parts.iter().map(|part| match part {
                    Part::Star => Ok(b"*".to_vec()),
                    other => environment.expand(other),
                });
                Ok(pieces.collect::<Result<Vec<_>, _>>()?.concat())
            }
            Term::Repeat(inner, count) => Ok(inner.bytes(environment)?.repeat(*count)),
            other => Err(TermError(format!("{other:?} is no string"))),
        }
    }

    fn number(&self, environment: &Environment) -> Result<i128, TermError> {
        let bytes = self.bytes(environment)?;
        let text = String::from_utf8_lossy(&bytes);
        text.parse().map_err(|_| TermError(format!("'{text}' is no number")))
    }

    fn to_untyped_word(&self, environment: &Environment) -> Result<Value, TermError> {
        let bytes = self.bytes(environment)?;
        Ok(match bytes.as_slice() {
            b"true" => Value::Bool(true),
            b"false" => Value::Bool(false),
            b"void" => Value::Void,
            _ => match self.number(environment) {
                Ok(value) => {
                    Value::Int { tag: if i32::try_from(value).is_ok() { b'I' } else { b'l' }, value }
                }
                Err(_) => Value::Str { tag: b'S', bytes },
            },
        })
    }

    fn to_typed(&self, tag: u8, environment: &Environment) -> Result<Value, TermError> {
        let text = || Ok(String::from_utf8_lossy(&self.bytes(environment)?).into_owned());
        match tag {
            b'S' | b'x' => Ok(Value::Str { tag, bytes: self.bytes(environment)? }),
            b'f' | b'd' => {
                let number: f64 = text()?.parse().map_err(|_| TermError(format!("{self:?} is no number")))?;
                let bits = if tag == b'f' { u64::from((number as f32).to_bits()) } else { number.to_bits() };
                Ok(Value::Float { tag, bits })
            }
            b'D' => Ok(Value::Decimal { scale: 0, value: self.number(environment)? as u32 }),
            _ => Ok(Value::Int { tag, value: self.number(environment)? }),
        }
    }

    /// Whether a method field or property is what this term says; captures what it names.
    pub fn matches_field(&self, value: &Value, environment: &mut Environment) -> bool {
        match (self, value) {
            (Term::Table { .. } | Term::Array(_), _) => self.matches_table_value(value, environment),
            (_, Value::Str { bytes, .. }) => self.matches_bytes(value, bytes, environment),
            (_, Value::Int { value: number, .. }) => {
                self.matches_bytes(value, number.to_string().as_bytes(), environment)
            }
            (_, Value::Bool(truth)) => self.matches_bytes(value, truth.to_string().as_bytes(), environment),
            _ => self.is_any(),
        }
    }

    /// The same inside a table, where the type counts too.
    pub fn matches_table_value(&self, value: &Value, environment: &mut Environment) -> bool {
        if self.is_any() {
            return true;
        }
        match (self, value) {
            (Term::Table { entries, is_open }, Value::Table(actual)) => {
                let all_there = entries.iter().all(|(key, term)| {
                    let key = environment.expand_key(key);
                    let found = actual.iter().find(|(name, _)| *name == key);
                    found.is_some_and(|(_, value)| term.matches_table_value(value, environment))
                });
                all_there && (*is_open || actual.len() == entries.len())
            }
            (Term::Array(items), Value::Array(actual)) => {
                items.len() == actual.len()
                    && items
                        .iter()
                        .zip(actual)
                        .all(|(item, value)| item.matches_table_value(value, environment))
            }
            (Term::Word { .. } | Term::Repeat(..), Value::Str { tag: b'S', bytes }) => {
                self.matches_bytes(value, bytes, environment)
            }
            (Term::Word { .. } | Term::Typed(..), _) => {
                self.to_table_value(environment).is_ok_and(|expected| expected == *value)
            }
            _ => false,
        }
    }

    /// Whether a field that was not mentioned is left at its default.
    pub fn is_default(value: &Value, kind: FieldType) -> bool {
        *value == default_field(kind)
    }

    fn is_any(&self) -> bool {
        matches!(self, Term::Word { parts, is_quoted: false } if parts.as_slice() == [Part::Star])
    }

    fn matches_bytes(&self, value: &Value, bytes: &[u8], environment: &mut Environment) -> bool {
        match self {
            Term::Word { parts, .. } => {
                if let [Part::Variable(name)] = parts.as_slice()
                    && !environment.captured.contains_key(name)
                {
                    environment.captured.insert(name.clone(), value.clone());
                    return true;
                }
                environment.glob(parts).is_ok_and(|glob| glob_matches(&glob, bytes))
            }
            _ => self.bytes(environment).is_ok_and(|expected| expected == bytes),
        }
    }
}

/// Octets to compare with, `None` being any run of octets.
pub type Glob = Vec<Option<u8>>;

impl Environment {
    /// The pattern that the parts of a word stand for.
    pub fn glob(&self, parts: &[Part]) -> Result<Glob, TermError> {
        let mut glob = Vec::new();
        for part in parts {
            match part {
                Part::Star => glob.push(None),
                other => glob.extend(self.expand(other)?.into_iter().map(Some)),
            }
        }
        Ok(glob)
    }

    fn expand(&self, part: &Part) -> Result<Vec<u8>, TermError> {
        match part {
            Part::Bytes(bytes) => Ok(bytes.clone()),
            Part::Name(name) => Ok(self.unique_name(name).into_bytes()),
            Part::Star => Ok(Vec::new()),
            Part::Variable(name) => match self.captured.get(name) {
                Some(Value::Str { bytes, .. }) => Ok(bytes.clone()),
                Some(Value::Int { value, .. }) => Ok(value.to_string().into_bytes()),
                Some(other) => Err(TermError(format!("${name} is {other}, which is no word"))),
                None => Err(TermError(format!("nothing was captured as ${name}"))),
            },
        }
    }

    /// What `%name` stands for.
    pub fn unique_name(&self, name: &str) -> String {
        format!("{name}-{}", self.suffix)
    }

    fn expand_key(&self, key: &str) -> Vec<u8> {
        match key.strip_prefix('%') {
            Some(name) => self.unique_name(name).into_bytes(),
            None => key.as_bytes().to_vec(),
        }
    }
}

/// Whether the octets fit the pattern.
pub fn glob_matches(glob: &[Option<u8>], bytes: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while read < bytes.len() {
        match glob.get(at) {
            Some(Some(octet)) if *octet == bytes[read] => {
                at += 1;
                read += 1;
            }
            Some(None) => {
                retry = Some((at + 1, read));
                at += 1;
            }
            _ => match &mut retry {
                Some((after_star, from)) => {
                    *from += 1;
                    (at, read) = (*after_star, *from);
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(Option::is_none)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> Glob {
        text.bytes().map(|octet| (octet != b'*').then_some(octet)).collect()
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, fits) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("*", "", true),
            ("*b*b", "abab", true),
            ("", "x", false),
        ] {
            assert_eq!(glob_matches(&glob(pattern), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_variable_captures_once_and_compares_after() {
        let mut environment = Environment { suffix: "1".into(), ..Environment::default() };
        let tag = Term::Word { parts: vec![Part::Variable("tag".into())], is_quoted: false };
        assert!(tag.matches_field(&Value::text("ctag"), &mut environment));
        assert!(tag.matches_field(&Value::text("ctag"), &mut environment));
        assert!(!tag.matches_field(&Value::text("other"), &mut environment));
    }
}
