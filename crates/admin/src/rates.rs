//! Rates of counters that only the broker's own counters feed: what grew between two looks.
//!
//! ```text
//!   look            look           look                  no look, no sample: there is no timer
//!    │ mark          │ mark          │
//!   ─┴───── ≥5 s ────┴───── ≥5 s ────┴──▶ time           rate = (value − mark) / (now − mark)
//! ```
//!
//! A subject that nobody has looked at for a while is forgotten, and so is what no longer exists. So memory is bounded by
//! what is being looked at, whatever the age of the broker. A first look has nothing to compare with: its rates are 0.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use leveret_broker::ConnectionId;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::request::Request;

/// Looks nearer to each other than this make no new mark; RabbitMQ's interval, less what polling jitters.
const SPACING_MS: u64 = 4_500;
/// Rates over less than this are noise.
const SHORTEST_MS: u64 = 900;
/// Forgotten when not looked at for so long.
const MEMORY_MS: u64 = 300_000;
/// Beyond so many subjects, others have no rates.
const SUBJECTS_MAX: usize = 25_000;
/// Marks of a subject whose history somebody asks for: ten minutes.
const HISTORY_MARKS: usize = 121;
/// So many subjects may have a history.
const HISTORIES_MAX: usize = 64;
/// Marks of the others.
const MARKS: usize = 3;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// All that this user may see.
    Overview(String),
    /// The process.
    Node,
    VHost(Arc<str>),
    Queue(u64),
    /// By virtual host and name.
    Exchange(Arc<str>, Arc<str>),
    Connection(ConnectionId),
    Channel(ConnectionId, u16),
}

/// What was seen when.
#[derive(Default)]
pub(crate) struct Rates(Mutex<Table>);

#[derive(Default)]
struct Table {
    series: HashMap<Subject, Series>,
    swept_at_ms: u64,
}

struct Series {
    marks: VecDeque<Mark>,
    seen_at_ms: u64,
    capacity: usize,
}

#[derive(Clone)]
struct Mark {
    at_ms: u64,
    values: Arc<[u64]>,
}

/// Values at this moment, compared with earlier ones.
pub(crate) struct Trend {
    now: Mark,
    before: Option<Mark>,
    history: Vec<Mark>,
}

/// Which history a request wants, by the prefix of its parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Span {
    /// `lengths_age`, `lengths_incr`.
    Lengths,
    /// `msg_rates_age`, `msg_rates_incr`.
    MessageRates,
    /// `data_rates_age`, `data_rates_incr`.
    DataRates,
    /// `node_stats_age`, `node_stats_incr`.
    NodeStats,
}

/// The samples that a request wants to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Samples {
    age_ms: u64,
    increment_ms: u64,
}

impl Span {
    const ALL: [Span; 4] = [Self::Lengths, Self::MessageRates, Self::DataRates, Self::NodeStats];

    fn prefix(self) -> &'static str {
        match self {
            Self::Lengths => "lengths",
            Self::MessageRates => "msg_rates",
            Self::DataRates => "data_rates",
            Self::NodeStats => "node_stats",
        }
    }

    /// What the request says about it; both parameters are needed.
    pub(crate) fn samples(self, request: &Request) -> Option<Samples> {
        let seconds = |what| request.query(&format!("{}_{what}", self.prefix()))?.parse::<u64>().ok();
        let (age_ms, increment_ms) =
            (seconds("age")?.saturating_mul(1000), seconds("incr")?.saturating_mul(1000));
        (age_ms > 0 && increment_ms > 0).then_some(Samples { age_ms, increment_ms })
    }

    /// Whether the request wants samples of any kind.
    pub(crate) fn any(request: &Request) -> bool {
        Self::ALL.iter().any(|span| span.samples(request).is_some())
    }
}

impl Rates {
    /// Looks at a subject. The values must be the same ones in the same order every time.
    pub(crate) fn look(&self, subject: Subject, now_ms: u64, values: &[u64], with_history: bool) -> Trend {
        let now = Mark { at_ms: now_ms, values: values.into() };
        let mut table = self.0.lock();
        table.sweep(now_ms);
        let may_have_history = with_history && table.histories() < HISTORIES_MAX;
        let is_full = table.series.len() >= SUBJECTS_MAX && !table.series.contains_key(&subject);
        if is_full {
            return Trend { now, before: None, history: Vec::new() };
        }
        let series = table.series.entry(subject).or_insert_with(Series::new);
        if may_have_history {
            series.capacity = HISTORY_MARKS;
        }
        series.look(now, with_history)
    }
}

impl Table {
    fn sweep(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.swept_at_ms) >= MEMORY_MS / 10 {
            self.swept_at_ms = now_ms;
            self.series.retain(|_, series| now_ms.saturating_sub(series.seen_at_ms) < MEMORY_MS);
        }
    }

    fn histories(&self) -> usize {
        self.series.values().filter(|series| series.capacity > MARKS).count()
    }
}

impl Series {
    fn new() -> Series {
        Series { marks: VecDeque::new(), seen_at_ms: 0, capacity: MARKS }
    }

    fn look(&mut self, now: Mark, with_history: bool) -> Trend {
        self.seen_at_ms = now.at_ms;
        self.marks.retain(|mark| mark.at_ms <= now.at_ms);
        let age = |mark: &Mark| now.at_ms - mark.at_ms;
        let far = self.marks.iter().rev().find(|mark| (SPACING_MS..MEMORY_MS).contains(&age(mark)));
        let near = || self.marks.front().filter(|mark| (SHORTEST_MS..MEMORY_MS).contains(&age(mark)));
        let before = far.or_else(near).cloned();
        if self.marks.back().is_none_or(|mark| age(mark) >= SPACING_MS) {
            self.marks.push_back(now.clone());
        }
        while self.marks.len() > self.capacity {
            self.marks.pop_front();
        }
        let history = if with_history { self.marks.iter().rev().cloned().collect() } else { Vec::new() };
        Trend { now, before, history }
    }
}

impl Trend {
    /// Writes values and their details, from the value `first` on, under these names.
    pub(crate) fn put(
        &self,
        into: &mut Map<String, Value>,
        first: usize,
        names: &[&str],
        samples: Option<Samples>,
    ) {
        for (at, name) in names.iter().enumerate() {
            into.insert((*name).to_owned(), json!(self.value(&self.now, first + at)));
            into.insert(format!("{name}_details"), self.details(first + at, samples));
        }
    }

    /// A value at this moment.
    pub(crate) fn value_now(&self, at: usize) -> u64 {
        self.value(&self.now, at)
    }

    /// What a value grows by, per second.
    pub(crate) fn rate(&self, at: usize) -> f64 {
        let Some(before) = &self.before else { return 0.0 };
        rate(before, &self.now, at)
    }

    /// The `…_details` of a value.
    pub(crate) fn details(&self, at: usize, samples: Option<Samples>) -> Value {
        let mut details = Map::from_iter([("rate".to_owned(), json!(self.rate(at)))]);
        if let Some(samples) = samples {
            self.put_samples(&mut details, at, samples);
        }
        Value::Object(details)
    }

    fn put_samples(&self, details: &mut Map<String, Value>, at: usize, samples: Samples) {
        let mut shown: Vec<&Mark> = Vec::new();
        for mark in self.history.iter().filter(|mark| self.now.at_ms - mark.at_ms <= samples.age_ms) {
            let spacing = samples.increment_ms.saturating_sub(SPACING_MS / 9);
            if shown.last().is_none_or(|newer| newer.at_ms - mark.at_ms >= spacing) {
                shown.push(mark);
            }
        }
        let sum: u64 = shown.iter().map(|mark| self.value(mark, at)).fold(0, u64::saturating_add);
        let average = if shown.is_empty() { 0.0 } else { sum as f64 / shown.len() as f64 };
        let average_rate = shown.last().map_or(0.0, |oldest| rate(oldest, &self.now, at));
        let samples: Vec<_> = shown
            .iter()
            .map(|mark| json!({ "sample": self.value(mark, at), "timestamp": mark.at_ms }))
            .collect();
        details.insert("samples".to_owned(), json!(samples));
        details.insert("avg".to_owned(), json!(average));
        details.insert("avg_rate".to_owned(), json!(average_rate));
    }

    fn value(&self, mark: &Mark, at: usize) -> u64 {
        mark.values.get(at).copied().unwrap_or(0)
    }
}

fn rate(from: &Mark, to: &Mark, at: usize) -> f64 {
    let value = |mark: &Mark| mark.values.get(at).copied().unwrap_or(0);
    let over_ms = to.at_ms - from.at_ms;
    if over_ms == 0 {
        return 0.0;
    }
    (i128::from(value(to)) - i128::from(value(from))) as f64 * 1000.0 / over_ms as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_grew_since_a_mark_of_five_seconds_ago() {
        let rates = Rates::default();
        let check = |at_ms: u64, value: u64, expected: f64| {
            let trend = rates.look(Subject::Node, at_ms, &[value], false);
            assert!((trend.rate(0) - expected).abs() < 1e-9, "{at_ms}: {}", trend.rate(0));
        };
        check(10_000, 100, 0.0);
        check(10_500, 200, 0.0);
        check(11_000, 300, 200.0);
        check(15_000, 600, 100.0);
        check(16_000, 700, 100.0);
        check(20_000, 500, -20.0);
        check(20_000 + MEMORY_MS, 500, 0.0);
    }

    #[test]
    fn samples_are_kept_while_somebody_looks() {
        let rates = Rates::default();
        let mut shown = 0;
        for look in 0..500_u64 {
            let trend = rates.look(Subject::Queue(1), look * 5_000, &[look], true);
            let details = trend.details(0, Some(Samples { age_ms: 600_000, increment_ms: 5_000 }));
            shown = details["samples"].as_array().unwrap().len();
            assert_eq!(details["samples"][0], json!({"sample": look, "timestamp": look * 5_000}));
        }
        assert_eq!(shown, HISTORY_MARKS);
        let trend = rates.look(Subject::Queue(1), 2_500_000, &[500], true);
        let details = trend.details(0, Some(Samples { age_ms: 60_000, increment_ms: 20_000 }));
        assert_eq!(details["samples"].as_array().unwrap().len(), 4);
        assert_eq!(details["avg_rate"], json!(0.2));
    }

    #[test]
    fn what_nobody_looks_at_is_forgotten() {
        let rates = Rates::default();
        for queue in 0..SUBJECTS_MAX as u64 + 10 {
            rates.look(Subject::Queue(queue), 1_000, &[1], false);
        }
        assert_eq!(rates.0.lock().series.len(), SUBJECTS_MAX);
        rates.look(Subject::Node, 1_000 + MEMORY_MS, &[1], false);
        assert_eq!(rates.0.lock().series.len(), 1);
    }
}
