//! How many orders are tried, and which.

use std::time::{SystemTime, UNIX_EPOCH};

use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

/// Without `LEVERET_SCHEDULES`.
const SCHEDULES: usize = 200;
/// How many times a thread is held up for long in the second half of the schedules; most mistakes need one or two.
const HOLD_UPS: usize = 3;
const STACK_BYTES: usize = 512 << 10;

/// Runs a program in `LEVERET_SCHEDULES` orders, half of them all at random, half with few and long hold-ups. The orders
/// follow from `LEVERET_SEED`; without one they are new each time.
///
/// # Panics
/// When the program panics or waits for ever in one of them; the seed has been printed.
pub fn explore(name: &str, program: impl Fn() + Copy + Send + Sync + 'static) {
    let schedules = number("LEVERET_SCHEDULES").map_or(SCHEDULES, |count| count as usize).max(2);
    let seed = number("LEVERET_SEED").unwrap_or_else(now_ns);
    println!("{name}: LEVERET_SEED={seed} LEVERET_SCHEDULES={schedules}");
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.silence_warnings = true;
    let at_random = RandomScheduler::new_from_seed(seed, schedules / 2);
    Runner::new(at_random, config.clone()).run(program);
    let held_up = PctScheduler::new_from_seed(seed, HOLD_UPS, schedules - schedules / 2);
    Runner::new(held_up, config).run(program);
    println!("fact: {name}: {schedules} orders");
}

/// A number below `bound`, as the scheduler's dice have it.
pub fn draw(bound: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..bound)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64)
}
