//! How long routing and binding take with 10,000 bindings: `cargo bench -p leveret-broker --bench routing`,
//! or with a part of a case's name at the end for that case only.
//!
//! One line per case: minimum, median and 99th percentile in microseconds, and the destinations found per
//! message. The topic cases are made to hurt.

use std::hint::black_box;
use std::time::Instant;

use leveret_broker::exchange::{Bindings, ExchangeKind};
use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties};

const BINDINGS: u32 = 10_000;
const ROUNDS: usize = 2_000;

fn main() {
    println!("{:<46}{:>9} {:>9} {:>9} {:>9}", "10,000 bindings; µs", "min", "p50", "p99", "found");
    topic("topic: one exact word each", |_, n| format!("reply.{n}"), |r| format!("reply.{}", r.below(9999)));
    topic("topic: #.word, key of 3", |_, n| format!("#.{n}"), |r| format!("a.b.{}", r.below(9999)));
    topic(
        "topic: 40 of 20 words, a third #, key of 127",
        |r, _| r.words(40, &MANY, 33),
        |r| r.words(127, &MANY[1..], 0),
    );
    topic("topic: 40 of {a,b,*}, a third #, key of 127", |r, _| r.words(40, &["a", "b", "*"], 33), ab_key);
    topic("topic: 100 of {a,b}, a tenth #, key of 127", |r, _| r.words(100, &["a", "b"], 10), ab_key);
    topic("topic: miss at the last word", late_miss, |r| r.words(126, &["a"], 0) + ".b");
    topic("topic: miss in the middle", middle_miss, |r| format!("{}.b.{}", a_key(r, 63), a_key(r, 63)));
    topic("topic: half of the key's words, a # before each", scattered, |_| long_key());
    topic("topic: few words in the way", |r, _| format!("#.{}.#.c", r.words(60, &["a", "*"], 0)), sparse_key);
    topic(
        "topic: # and 100 of {a,*}, all found",
        |r, _| format!("#.{}", r.words(100, &["a", "*"], 0)),
        |r| a_key(r, 127),
    );
    topic("topic: pairs of 100 words, all found", twins, |r| a_key(r, 127));
    binding("direct", ExchangeKind::Direct);
    binding("fanout", ExchangeKind::Fanout);
    binding("topic", ExchangeKind::Topic);
    binding("headers", ExchangeKind::Headers);
    headers("headers: two arguments, one match");
    one_of("x-consistent-hash: 100 queues, two weights", ExchangeKind::ConsistentHash, 100);
    one_of("x-consistent-hash: two weights", ExchangeKind::ConsistentHash, BINDINGS);
    one_of("x-modulus-hash", ExchangeKind::ModulusHash, BINDINGS);
    one_of("x-random", ExchangeKind::Random, BINDINGS);
}

const MANY: [&str; 21] =
    ["*", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];

fn a_key(random: &mut Random, words: usize) -> String {
    random.words(words, &["a"], 0)
}

fn ab_key(random: &mut Random) -> String {
    random.words(127, &["a", "b"], 0)
}

/// Everything fits until the very last word.
fn late_miss(random: &mut Random, _: u32) -> String {
    let pairs = 20 + random.below(40);
    format!(
        "{}{}.{}",
        "#.a.".repeat(pairs),
        random.words(4, &["a", "*"], 0),
        random.words(3, &["c", "d", "*"], 0)
    )
}

/// Both ends fit; the two `b` in between do not.
fn middle_miss(random: &mut Random, _: u32) -> String {
    let ends = [0; 2].map(|_| random.words(40, &["a", "*"], 0));
    format!("#.{}.#.b.a.#.b.#.{}", ends[0], ends[1])
}

/// The same 127 words each time, of ten different ones.
fn long_key() -> String {
    Random(3).words(127, &MANY[1..11], 0)
}

/// Words of the key in their order, and then one too many.
fn scattered(random: &mut Random, _: u32) -> String {
    let key = long_key();
    let some: Vec<_> = key.split('.').filter(|_| random.below(2) == 0).take(62).collect();
    format!("#.{}.#.t.#", some.join(".#."))
}

/// One word in sixteen is not that of the patterns.
fn sparse_key(random: &mut Random) -> String {
    random.words(126, &["a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "a", "b"], 0)
        + ".c"
}

/// Two patterns share a hundred words each time and nothing with the others.
fn twins(_: &mut Random, n: u32) -> String {
    let mut pair = Random(u64::from(n / 2) + 7);
    format!("#.{}.{}", pair.words(100, &["a", "*"], 0), if n.is_multiple_of(2) { "a" } else { "*" })
}

fn is_wanted(name: &str) -> bool {
    std::env::args().skip(1).filter(|argument| argument != "--bench").all(|part| name.contains(&part))
}

fn topic(name: &str, pattern: impl Fn(&mut Random, u32) -> String, key: impl Fn(&mut Random) -> String) {
    if !is_wanted(name) {
        return;
    }
    let mut random = Random(1);
    let mut bindings = Bindings::new(ExchangeKind::Topic);
    for n in 0..BINDINGS {
        bindings.add(n, &pattern(&mut random, n), &FieldTable::new());
    }
    let mut found = 0;
    let times = measure(
        || key(&mut random),
        |key| bindings.route(key, RawProperties::default(), &mut |_| found += 1),
    );
    report(name, times, found);
}

/// A reply queue comes and goes while 10,000 others are bound.
fn binding(kind_name: &str, kind: ExchangeKind) {
    let name = format!("{kind_name}: bind and unbind");
    if !is_wanted(&name) {
        return;
    }
    let none = FieldTable::new();
    let arguments = |n: u32| match kind {
        ExchangeKind::Headers => FieldTable::from([("id", FieldValue::I64(n.into()))]),
        _ => none.clone(),
    };
    let mut bindings = Bindings::new(kind);
    for n in 0..BINDINGS {
        bindings.add(n, &format!("reply.{n}"), &arguments(n));
    }
    let mut n = BINDINGS;
    let times = measure(
        || {
            n += 1;
            (n, format!("reply.{n}"), arguments(n))
        },
        |(n, key, arguments)| {
            bindings.add(*n, key, arguments);
            black_box(bindings.remove(n, key, arguments));
        },
    );
    report(&name, times, 0);
}

fn headers(name: &str) {
    if !is_wanted(name) {
        return;
    }
    let mut random = Random(1);
    let mut bindings = Bindings::new(ExchangeKind::Headers);
    for n in 0..BINDINGS {
        let arguments =
            FieldTable::from([("kind", FieldValue::from("report")), ("id", FieldValue::I64(n.into()))]);
        bindings.add(n, "", &arguments);
    }
    let mut found = 0;
    let message = |random: &mut Random| {
        let id = FieldValue::I64(random.below(10_000) as i64);
        let headers = FieldTable::from([("kind", FieldValue::from("report")), ("id", id)]);
        Properties { headers: Some(headers), ..Properties::default() }.encode().expect("encodes")
    };
    let times = measure(
        || message(&mut random),
        |raw| {
            let properties = RawProperties::parse(raw).expect("just encoded");
            bindings.route("", properties, &mut |_| found += 1);
        },
    );
    report(name, times, found);
}

fn one_of(name: &str, kind: ExchangeKind, bound: u32) {
    if !is_wanted(name) {
        return;
    }
    let mut random = Random(1);
    let mut bindings = Bindings::new(kind);
    for n in 0..bound {
        bindings.add(n, &(n % 2 + 1).to_string(), &FieldTable::new());
    }
    let mut found = 0;
    let key = |random: &mut Random| format!("order.{}", random.below(1 << 20));
    let times = measure(
        || key(&mut random),
        |key| bindings.route(key, RawProperties::default(), &mut |_| found += 1),
    );
    report(name, times, found);
}

fn measure<T>(mut make: impl FnMut() -> T, mut run: impl FnMut(&T)) -> Vec<f64> {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let input = make();
            let start = Instant::now();
            run(black_box(&input));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

fn report(name: &str, times: Vec<f64>, found: usize) {
    let [min, p50, p99] = [0, ROUNDS / 2, ROUNDS * 99 / 100].map(|at| times[at]);
    println!("{name:<46}{min:>9.2} {p50:>9.2} {p99:>9.2} {:>9.1}", found as f64 / ROUNDS as f64);
}

/// A small generator, so that each run measures the same.
struct Random(u64);

impl Random {
    /// Below `end`, by xorshift.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// That many words, each a `#` with the given chance in percent.
    fn words(&mut self, count: usize, words: &[&str], many_percent: usize) -> String {
        let pick = |random: &mut Self| match random.below(100) < many_percent {
            true => "#",
            false => words[random.below(words.len())],
        };
        (0..count).map(|_| pick(self)).collect::<Vec<_>>().join(".")
    }
}
