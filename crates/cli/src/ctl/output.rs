//! What `leveret ctl` prints: lists, facts about one thing, and what was changed.

use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Value, json};

use crate::escape::{Place, escape};
use crate::logging::is_coloured;
use crate::table::{Table, at};

/// How answers are shown.
#[derive(clap::Args, Clone)]
pub(crate) struct OutputFlags {
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
    /// What to list of each, with commas between; a path like message_stats.publish reaches inside
    #[arg(long, global = true, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Sort a list by this column; with a - before it, backwards
    #[arg(long, global = true, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// No line of titles above a list
    #[arg(long, global = true, alias = "no-table-headers")]
    no_header: bool,
    /// Say nothing about what was changed
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// What was changed, in words that scripts can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Changed,
    /// It was so already.
    Unchanged,
    Deleted,
    /// There was nothing to delete.
    Absent,
    /// Something else was done; the word says what.
    Done(&'static str),
}

/// What a change is about.
#[derive(Clone, Debug)]
pub(crate) struct Thing<'a> {
    /// `queue`
    pub(crate) kind: &'static str,
    pub(crate) name: &'a str,
    pub(crate) vhost: Option<&'a str>,
}

impl OutputFlags {
    /// The columns that will be shown, if it is not whole objects.
    pub(super) fn columns(&self, default: &[&str]) -> Option<Vec<String>> {
        match (self.columns.as_slice(), self.json) {
            ([], true) => None,
            ([], false) => Some(default.iter().map(|&name| name.to_owned()).collect()),
            (chosen, _) => Some(chosen.to_vec()),
        }
    }

    /// The columns that have to be asked for: those that are shown, and that by which they are sorted.
    pub(super) fn needed(&self, default: &[&str]) -> Option<Vec<String>> {
        let mut columns = self.columns(default)?;
        columns.extend(self.sort.as_deref().map(|sort| sort.trim_start_matches('-').to_owned()));
        Some(columns)
    }

    /// Prints a list, as it came unless it is to be sorted.
    ///
    /// # Errors
    /// Nobody reads stdout any more.
    pub(super) fn list(&self, mut objects: Vec<Value>, default: &[&str]) -> io::Result<()> {
        if let Some(sort) = &self.sort {
            sort_by(&mut objects, sort);
        }
        let columns = self.columns(default);
        let stdout = io::stdout();
        let text = match (self.json, columns) {
            (true, columns) => objects.iter().map(|object| picked(object, columns.as_deref())).collect(),
            (false, columns) => {
                let columns = columns.unwrap_or_default();
                let place = if stdout.is_terminal() { Place::Screen } else { Place::Cell };
                let table = Table::of(&objects, &columns, place);
                match place {
                    Place::Screen => table.to_aligned(!self.no_header, is_coloured(&stdout)),
                    Place::Cell => table.to_tabs(!self.no_header),
                }
            }
        };
        write(&text)
    }

    /// Prints what there is to know about one thing: a line per fact, those inside others with a path.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub(super) fn facts(&self, object: &Value) -> io::Result<()> {
        if self.json {
            return write(&picked(object, self.columns(&[]).as_deref()));
        }
        self.lines(match self.columns.as_slice() {
            [] => flat(object),
            chosen => chosen.iter().map(|path| json!({"key": path, "value": at(object, path)})).collect(),
        })
    }

    /// Prints facts in this order: objects with `key` and `value`.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub(super) fn lines(&self, facts: Vec<Value>) -> io::Result<()> {
        let untitled = OutputFlags { no_header: true, columns: Vec::new(), sort: None, ..self.clone() };
        untitled.list(facts, &["key", "value"])
    }

    /// Says what was changed: a sentence on stderr, or an object on stdout.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub(super) fn change(&self, thing: &Thing<'_>, change: Change) -> io::Result<()> {
        if self.json {
            let Thing { kind, name, vhost } = thing;
            let mut object = json!({"kind": kind, "name": name, "change": change.word()});
            if let Some(vhost) = vhost {
                object["vhost"] = json!(vhost);
            }
            return write(&format!("{object}\n"));
        }
        self.say(&format!("{thing}: {}", change.word()));
        Ok(())
    }

    /// A sentence on stderr, for those who have not asked for silence.
    pub(super) fn say(&self, sentence: &str) {
        if !self.quiet {
            crate::say::say(sentence);
        }
    }

    /// Whether the answer is for a program.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::Absent => "was not there",
            Self::Done(word) => word,
        }
    }
}

impl std::fmt::Display for Thing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, escape(self.name, Place::Screen))?;
        match self.vhost {
            Some(vhost) => write!(f, " in {}", escape(vhost, Place::Screen)),
            None => Ok(()),
        }
    }
}

/// Writes to stdout.
///
/// # Errors
/// Nobody reads it any more.
pub(super) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn picked(object: &Value, columns: Option<&[String]>) -> String {
    let picked = columns.map(|columns| {
        columns.iter().map(|column| (column.clone(), at(object, column).clone())).collect::<Map<_, _>>()
    });
    format!("{}\n", picked.map_or_else(|| object.clone(), Value::Object))
}

/// What there is to know about one thing, for a screen: a line per fact.
pub(crate) fn facts(object: &Value) -> String {
    let columns = ["key", "value"].map(str::to_owned);
    Table::of(&flat(object), &columns, Place::Screen).to_aligned(false, false)
}

/// Every value that is no object, with the path to it.
fn flat(object: &Value) -> Vec<Value> {
    fn visit(prefix: &str, value: &Value, facts: &mut Vec<Value>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (key, value) in fields {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    visit(&path, value, facts);
                }
            }
            value => facts.push(json!({"key": prefix, "value": value})),
        }
    }
    let mut facts = Vec::new();
    visit("", object, &mut facts);
    facts
}

/// Numbers as numbers, everything else as text; what has no value comes first.
fn sort_by(objects: &mut [Value], sort: &str) {
    let (path, backwards) = sort.strip_prefix('-').map_or((sort, false), |path| (path, true));
    objects.sort_by(|a, b| {
        let (a, b) = (at(a, path), at(b, path));
        let order = match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => text(a).cmp(&text(b)),
        };
        if backwards { order.reverse() } else { order }
    });
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sorted_by_number_or_by_text() {
        let check = |sort: &str, expected: &str| {
            let mut objects = vec![json!({"n": 10, "s": "b"}), json!({"n": 9, "s": "c"}), json!({"s": "a"})];
            sort_by(&mut objects, sort);
            let order: String = objects.iter().filter_map(|object| object["s"].as_str()).collect();
            assert_eq!(order, expected, "{sort}");
        };
        check("n", "acb");
        check("-n", "bca");
        check("s", "abc");
        check("-s", "cba");
    }

    #[test]
    fn facts_have_paths() {
        let facts = flat(&json!({"a": {"b": 1, "c": {}}, "d": [1, {"e": 2}]}));
        let expected = [
            json!({"key": "a.b", "value": 1}),
            json!({"key": "a.c", "value": {}}),
            json!({"key": "d", "value": [1, {"e": 2}]}),
        ];
        assert_eq!(facts, expected);
    }

    #[test]
    fn a_change_is_a_sentence_without_control_characters() {
        let thing = Thing { kind: "queue", name: "a\x1b[2J", vhost: Some("/") };
        assert_eq!(thing.to_string(), "queue a\\u{1b}[2J in /");
    }
}
