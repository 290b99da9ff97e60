//! Random programs against the broker and a model of it; see `leveret_testkit::broker_sim`.

use leveret_testkit::broker_sim::{Coverage, run};
use leveret_testkit::store_sim::{SEED_VARIABLE, SEEDS_VARIABLE};

/// A CI run; `LEVERET_SEEDS` sets another number.
const PROGRAMS: u64 = 500;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Runs every second program.
fn run_half(programs: impl Iterator<Item = u64>) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in programs.step_by(2) {
        coverage += run(seed).unwrap_or_else(|violation| panic!("{violation}"));
    }
    coverage
}

#[test]
fn broker_sim_does_what_the_model_says() {
    let (first, count) = (number(SEED_VARIABLE, 1), number(SEEDS_VARIABLE, PROGRAMS));
    let mut coverage = Coverage::default();
    std::thread::scope(|scope| {
        let halves = [first, first + 1].map(|start| scope.spawn(move || run_half(start..first + count)));
        for half in halves {
            coverage += half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    println!("fact: {coverage:?}");
    assert!(count < 50 || coverage.is_complete(), "{coverage:#?}");
}

/// Two queues sent on what had expired, in an order that nobody promises; the model took another one, and so another of
/// the dead letters fitted into the third queue.
#[test]
fn dead_letters_of_two_queues_meet_in_the_brokers_order() {
    let _coverage = run(7_583_013_905_216_723_741).unwrap_or_else(|violation| panic!("{violation}"));
}
