use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// The destinations of a message, each once.
fn routed(bindings: &Bindings<u32>, key: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    bindings.route(key, RawProperties::default(), &mut |&destination| found.extend([destination]));
    found
}

/// What a pattern means, written as plainly as possible.
fn matches(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], []) => true,
        (["#", rest @ ..], key) => (0..=key.len()).any(|skipped| matches(rest, &key[skipped..])),
        (["*", rest @ ..], [_, key @ ..]) => matches(rest, key),
        ([word, rest @ ..], [first, key @ ..]) => word == first && matches(rest, key),
        _ => false,
    }
}

fn words(key: &str) -> Vec<&str> {
    key::split(key).collect()
}

fn check_topic(pattern: &str, key: &str, expected: bool) {
    let mut bindings = Bindings::new(ExchangeKind::Topic);
    bindings.add(1, pattern, &FieldTable::new());
    assert_eq!(!routed(&bindings, key).is_empty(), expected, "{pattern:?} {key:?}");
    assert_eq!(matches(&words(pattern), &words(key)), expected, "the reference: {pattern:?} {key:?}");
}

/// Each line was tried on RabbitMQ 3.10.8.
#[test]
fn patterns_match_as_in_rabbitmq() {
    check_topic("", "", true);
    check_topic("*", "", false);
    check_topic("#", "", true);
    check_topic("#.*", "", false);
    check_topic("", ".", false);
    check_topic(".", ".", true);
    check_topic("*", ".", false);
    check_topic("*.*", ".", true);
    check_topic("a..b", "a..b", true);
    check_topic("a.*.b", "a..b", true);
    check_topic("a.#.b", "a..b", true);
    check_topic("a.#.b", "a.b", true);
    check_topic("a.*", "a.", true);
    check_topic("a", "a.", false);
    check_topic("*.a", ".a", true);
    check_topic("#.a", "a", true);
    check_topic("#.#.a", "a", true);
    check_topic("*.#", "a", true);
    check_topic("a.#", "a", true);
    check_topic("*", "#", true);
    check_topic("*", "*", true);
    check_topic("##", "a", false);
    check_topic("a.b*", "a.bc", false);
}

#[test]
fn the_longest_keys_are_matched() {
    let dots = ".".repeat(255);
    check_topic("#", &dots, true);
    check_topic(&dots, &dots, true);
    let ones = ["a"; 128].join(".");
    check_topic(&ones, &ones, true);
    check_topic("#.a", &ones, true);
    check_topic("#.b", &ones, false);
    check_topic(&["*"; 128].join("."), &ones, true);
    check_topic(&["*"; 127].join("."), &ones, false);
    let mut bindings = Bindings::new(ExchangeKind::Topic);
    bindings.add(1, &["#"; 128].join("."), &FieldTable::new());
    assert!(!routed(&bindings, &dots).is_empty());
    assert!(routed(&bindings, &"a".repeat(256)).is_empty(), "no such key exists in AMQP");
}

#[test]
fn the_farms_of_the_stories() {
    let mut bindings = Bindings::new(ExchangeKind::Topic);
    for (farm, pattern) in [(1, "#.ohio"), (2, "#.virginia"), (3, "sports.#")] {
        bindings.add(farm, pattern, &FieldTable::new());
    }
    assert_eq!(routed(&bindings, "news.ohio"), BTreeSet::from([1]));
    assert_eq!(routed(&bindings, "sports.ohio"), BTreeSet::from([1, 3]));
    assert_eq!(routed(&bindings, "sports"), BTreeSet::from([3]));
    assert_eq!(routed(&bindings, "ohio.news"), BTreeSet::new());
}

#[test]
fn a_binding_is_its_destination_key_and_arguments() {
    for kind in [ExchangeKind::Direct, ExchangeKind::Fanout, ExchangeKind::Topic, ExchangeKind::Headers] {
        let mut bindings = Bindings::new(kind);
        let none = FieldTable::new();
        let ab = FieldTable::from([("a", 1i32), ("b", 2)]);
        let ba = FieldTable::from([("b", 2i32), ("a", 1)]);
        assert!(bindings.add(1, "k", &none));
        assert!(!bindings.add(1, "k", &none));
        assert!(bindings.add(1, "k", &ab));
        assert!(!bindings.add(1, "k", &ba), "the order of arguments does not matter");
        assert!(bindings.add(2, "k", &none));
        assert_eq!(bindings.len(), 3);
        assert_eq!(bindings.of(&1).count(), 2);
        assert!(bindings.remove(&1, "k", &none));
        assert!(!bindings.remove(&1, "k", &none));
        assert!(!bindings.remove(&1, "other", &ab));
        assert_eq!(routed(&bindings, "k").contains(&1), kind != ExchangeKind::Headers);
        assert!(bindings.remove(&1, "k", &ba));
        assert_eq!(routed(&bindings, "k"), BTreeSet::from([2]));
        assert_eq!(bindings.iter().collect::<Vec<_>>(), [(&2, "k", &none)]);
        assert_eq!(bindings.remove_destination(&2), [("k".to_string(), none)]);
        assert!(bindings.is_empty() && routed(&bindings, "k").is_empty());
    }
}

#[test]
fn draining_leaves_nothing() {
    for kind in ExchangeKind::all() {
        let mut bindings = Bindings::new(kind);
        bindings.add(1, "1", &FieldTable::new());
        bindings.add(2, "1", &FieldTable::new());
        assert!(!routed(&bindings, "1").is_empty());
        let drained = bindings.drain();
        assert_eq!(
            drained.into_iter().map(|(d, key, _)| (d, key)).collect::<Vec<_>>(),
            [(1, "1".to_string()), (2, "1".to_string())]
        );
        assert!(bindings.is_empty() && routed(&bindings, "1").is_empty());
    }
}

#[test]
fn a_local_random_exchange_leads_to_queues_and_has_no_keys() {
    let check = |key: &str| Bindings::<u32>::check(ExchangeKind::LocalRandom, &1, key, &FieldTable::new());
    assert_eq!(check(""), Ok(()));
    assert_eq!(check("k").unwrap_err().to_string(), "Non empty binding 'k' key not permitted");
}

#[test]
fn arguments_without_a_wire_form_are_refused() {
    let unsendable = FieldTable::from([("k".repeat(256), 1i32)]);
    let checked = Bindings::<u32>::check(ExchangeKind::Direct, &1, "", &unsendable);
    assert!(matches!(checked, Err(BadBinding::Arguments(_))), "{checked:?}");
    let strange = FieldTable::from([("x-match", "foo")]);
    assert_eq!(Bindings::<u32>::check(ExchangeKind::Topic, &1, "", &strange), Ok(()));
    assert!(Bindings::<u32>::check(ExchangeKind::Headers, &1, "", &strange).is_err());
}

/// Tens of thousands of `#` in ten thousand patterns. Release builds take up to 1 ms (`benches/routing.rs`);
/// trying the ways to place each `#` would take longer than the universe has.
#[test]
fn many_wildcards_and_long_keys_stay_fast() {
    let mut bindings = Bindings::new(ExchangeKind::Topic);
    for n in 0..10_000u32 {
        let words = (0..40).map(|at| match n.wrapping_mul(2_654_435_761).rotate_left(at * 7) % 7 {
            0 | 1 => "#",
            2 => "*",
            3 => "b",
            _ => "a",
        });
        bindings.add(n, &words.collect::<Vec<_>>().join("."), &FieldTable::new());
    }
    let key = ["a"; 126].join(".") + ".b";
    let mut times: Vec<_> = (0..9)
        .map(|_| {
            let start = Instant::now();
            bindings.route(&key, RawProperties::default(), &mut |_| {});
            start.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[4] < Duration::from_millis(500), "unoptimised builds take a few milliseconds: {times:?}");
}

/// Words that meet often, wildcards among them, and empty ones.
fn key_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..7).prop_map(|words| words.join("."))
}

fn any_key() -> impl Strategy<Value = String> {
    key_of(&["a", "b", "c", "", "d"])
}

fn any_pattern() -> impl Strategy<Value = String> {
    key_of(&["a", "b", "#", "*", "#", "*", ""])
}

#[derive(Clone, Debug)]
enum Change {
    Add(u32, String),
    Remove(u32, String),
    RemoveDestination(u32),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        5 => (0..4u32, any_pattern()).prop_map(|(d, key)| Change::Add(d, key)),
        3 => (0..4u32, any_pattern()).prop_map(|(d, key)| Change::Remove(d, key)),
        1 => (0..4u32).prop_map(Change::RemoveDestination),
    ]
}

/// Applies a change to the exchange and to a plain set of bindings; both must see the same.
fn apply(change: Change, bindings: &mut Bindings<u32>, model: &mut BTreeSet<(u32, String)>) {
    let none = FieldTable::new();
    match change {
        Change::Add(d, key) => assert_eq!(bindings.add(d, &key, &none), model.insert((d, key))),
        Change::Remove(d, key) => assert_eq!(bindings.remove(&d, &key, &none), model.remove(&(d, key))),
        Change::RemoveDestination(d) => {
            let removed: BTreeSet<_> =
                bindings.remove_destination(&d).into_iter().map(|(key, _)| (d, key)).collect();
            let expected: BTreeSet<_> = model.iter().filter(|(at, _)| *at == d).cloned().collect();
            assert_eq!(removed, expected);
            model.retain(|(at, _)| *at != d);
        }
    }
}

proptest! {
    #[test]
    fn any_history_of_topic_bindings_routes_as_the_reference_says(
        changes in prop::collection::vec(any_change(), 0..60),
        keys in prop::collection::vec(any_key(), 1..12),
    ) {
        let mut bindings = Bindings::new(ExchangeKind::Topic);
        let mut model = BTreeSet::new();
        for change in changes {
            apply(change, &mut bindings, &mut model);
        }
        for key in keys {
            let expected = model.iter().filter(|(_, p)| matches(&words(p), &words(&key))).map(|(d, _)| *d).collect();
            prop_assert_eq!(routed(&bindings, &key), expected, "{}", key);
        }
        while let Some((destination, key)) = model.pop_first() {
            prop_assert!(bindings.remove(&destination, &key, &FieldTable::new()));
        }
        prop_assert!(bindings.is_empty());
        if let Index::Topic(topic) = &bindings.index {
            prop_assert!(topic.is_bare());
        }
    }

    #[test]
    fn long_keys_route_as_the_reference_says(
        patterns in prop::collection::vec(any_pattern(), 1..20),
        word in "[ab]?",
        tail in any_key(),
        count in 0..120usize,
    ) {
        let key = vec![word.as_str(); count].into_iter().chain(words(&tail)).collect::<Vec<_>>().join(".");
        let mut bindings = Bindings::new(ExchangeKind::Topic);
        for (destination, pattern) in (0..).zip(&patterns) {
            bindings.add(destination, pattern, &FieldTable::new());
        }
        let expected = (0..).zip(&patterns).filter(|(_, p)| matches(&words(p), &words(&key))).map(|(d, _)| d).collect();
        prop_assert_eq!(routed(&bindings, &key), expected, "{}", key);
    }
}
