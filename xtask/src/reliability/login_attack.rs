//! A hundred guessers of passwords at once, each from an address of its own, so that counting by address does not help.
//!
//! ```text
//!   the attack alone                                             what does it cost?
//!   windows of load alone and of load under attack, in turns     what does it cost the others?
//!       in the latter: users who log in for the first time
//!   known and unknown users in turns                             does the time tell them apart?
//! ```
//!
//! Passes if hashing takes one core at most and 64 MiB, if good logins are answered within a second (99 %), if messages
//! lose 20 % at most, and if a stranger cannot learn from the time which users there are.

mod guesser;
mod pump;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use guesser::{Guessers, Sources, log_in};
use leveret_testkit::random::Random;
use pump::Pump;
use tokio::runtime::Runtime;

use super::Plan;
use super::bystander::p99;
use super::doors::Doors;
use super::http;
use super::site::Site;
use super::verdict::Verdict;
use super::witness::Witness;

const GUESSERS: usize = 100;
const GOOD_P99_MAX: Duration = Duration::from_secs(1);
const RESIDENT_RISE_MAX_BYTES: u64 = 64 << 20;
/// One for hashing, and what it takes to hear the guessers and to hang up.
const CORES_MAX: f64 = 1.25;
const LOSS_MAX: f64 = 0.2;
const MEDIANS_DIFFER_MAX: f64 = 0.01;
/// Two-sided, 99 %: beyond it wins and losses are not a coin's.
const SIGN_TEST_SIGMAS: f64 = 2.58;
/// After an attack began or ended, until what stands in line is over.
const SETTLING: Duration = Duration::from_secs(2);
/// Unconfirmed messages of the load.
const IN_FLIGHT: u64 = 32;
const NEWCOMERS_PER_WINDOW: usize = 30;
const NEWCOMER_PAUSE: Duration = Duration::from_millis(20);
/// RabbitMQ's documentation has this hash of this password.
const PASSWORD: &str = "test12";
const PASSWORD_HASH: &str = "mLFOUUfWvSJaZWQZAnKmqlBLckWCelXDQc+sl1ZKKm8WRL2s";
const KNOWN: &str = "known";
/// As long as the known one.
const UNKNOWN: &str = "knows";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let doors = Doors::open(site)?;
    let witness = Witness::of(doors.pid());
    let runtime = Runtime::new()?;
    let windows = plan.rounds(3, 10) as usize;
    add_users(&doors, windows)?;
    let guessers = Guessers::start(&runtime, doors.amqp, GUESSERS);
    let window = Duration::from_secs(plan.rounds(2, 6));
    cost(witness, &guessers, window, verdict)?;
    cost_of_others(&doors, &runtime, &guessers, (windows, window), verdict)?;
    verdict.count("guesses", guessers.guesses());
    verdict.fact(format!("{GUESSERS} guessers: {} guesses, all wrong", guessers.guesses()));
    drop(guessers);
    let coin = Random::new(plan.seed);
    tell_apart(&doors, &runtime, coin, plan.rounds(100, 5000) as usize, verdict)?;
    doors.close()
}

fn newcomer(window: usize, number: usize) -> String {
    format!("new-{window}-{number}")
}

fn add_users(doors: &Doors, windows: usize) -> Result<()> {
    let body = format!("{{\"password_hash\":\"{PASSWORD_HASH}\",\"tags\":\"\"}}");
    let numbers = 0..NEWCOMERS_PER_WINDOW;
    let newcomers =
        (0..windows).flat_map(|window| numbers.clone().map(move |number| newcomer(window, number)));
    for name in newcomers {
        http::demand(doors.http, "PUT", &format!("/api/users/{name}"), &body)?;
    }
    let known = "{\"password\":\"nobody guesses this\",\"tags\":\"\"}";
    http::demand(doors.http, "PUT", &format!("/api/users/{KNOWN}"), known).map(drop)
}

/// What the attack takes while there is nothing else to do.
fn cost(witness: Witness, guessers: &Guessers, window: Duration, verdict: &mut Verdict) -> Result<()> {
    witness.forget_peak()?;
    let before = witness.resident_bytes()?;
    guessers.attack(true);
    std::thread::sleep(SETTLING);
    let (began, cpu, guesses) = (Instant::now(), witness.cpu_time()?, guessers.guesses());
    std::thread::sleep(window);
    let cores = (witness.cpu_time()? - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    let guessed = guessers.guesses() - guesses;
    guessers.attack(false);
    let rise = witness.peak_bytes()?.saturating_sub(before);
    verdict.fact(format!("the attack alone: {guessed} guesses heard, {cores:.2} cores, {} MiB", rise >> 20));
    verdict.demand(guessed > 0, "no attack", "nobody was heard");
    verdict.demand(cores <= CORES_MAX, "more than a core", format!("{cores:.2}"));
    verdict.demand(rise <= RESIDENT_RISE_MAX_BYTES, "memory", format!("{rise} octets"));
    std::thread::sleep(SETTLING);
    Ok(())
}

/// Load alone and load under attack, window by window.
fn cost_of_others(
    doors: &Doors,
    runtime: &Runtime,
    guessers: &Guessers,
    (windows, window): (usize, Duration),
    verdict: &mut Verdict,
) -> Result<()> {
    let pump = Pump::start(doors.amqp, IN_FLIGHT)?;
    let (mut alone, mut attacked, mut logins) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..windows {
        alone.push(pump.rate_over(window));
        guessers.attack(true);
        std::thread::sleep(SETTLING);
        let newcomers = runtime.spawn(log_in_newcomers(doors.amqp, number, window));
        attacked.push(pump.rate_over(window));
        logins.extend(runtime.block_on(newcomers)??);
        guessers.attack(false);
        std::thread::sleep(SETTLING);
    }
    pump.stop()?;
    let (alone, attacked) = (median(&mut alone), median(&mut attacked));
    let loss = 1.0 - attacked / alone;
    logins.sort();
    let waited = p99(&logins);
    verdict.fact(format!("{} first logins under attack: p99 {} ms", logins.len(), waited.as_millis()));
    // More under attack is no mistake: a core that the guessers keep awake answers sooner.
    verdict.fact(format!(
        "messages: {alone:.0}/s alone, {attacked:.0}/s under attack, {:.0} % lost",
        loss.max(0.0) * 100.0
    ));
    verdict.demand(waited <= GOOD_P99_MAX, "good logins wait", format!("p99 {waited:?}"));
    verdict.demand(loss <= LOSS_MAX, "messages suffer", format!("{alone:.0}/s, {attacked:.0}/s"));
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Users whose passwords were never checked before, one after the other, all from one address.
async fn log_in_newcomers(
    broker: std::net::SocketAddr,
    window: usize,
    time: Duration,
) -> Result<Vec<Duration>> {
    let (source, deadline) = (Sources::honest(), Instant::now() + time);
    let mut times = Vec::new();
    for number in 0..NEWCOMERS_PER_WINDOW {
        let name = newcomer(window, number);
        let login = log_in(broker, source, &name, PASSWORD);
        let login =
            tokio::time::timeout(ANSWER_TIMEOUT, login).await.context("a login without an answer")??;
        ensure!(login.let_in, "a right password was refused");
        times.push(login.took);
        if Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(NEWCOMER_PAUSE).await;
    }
    Ok(times)
}

/// Wrong passwords of a user there is and of one there is not, in turns. A coin says which of them is asked first: the
/// memory that a hash is given has a rhythm of a few hashes, and an order as regular as that is taken for a difference.
fn tell_apart(
    doors: &Doors,
    runtime: &Runtime,
    mut coin: Random,
    pairs: usize,
    verdict: &mut Verdict,
) -> Result<()> {
    let mut sources = Sources::strangers();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    let mut known_slower = 0_usize;
    for pair in 0..pairs {
        let source = sources.next();
        // Another one each time: the way that Argon2 takes through memory follows from password and salt.
        let password = format!("wrong {pair}");
        let guess = |user| runtime.block_on(log_in(doors.amqp, source, user, &password));
        let (a, b) = if coin.chance(1, 2) {
            let a = guess(KNOWN)?;
            (a, guess(UNKNOWN)?)
        } else {
            let b = guess(UNKNOWN)?;
            (guess(KNOWN)?, b)
        };
        ensure!(!a.let_in && !b.let_in, "a wrong password was right");
        known_slower += usize::from(a.took > b.took);
        known.push(a.took.as_secs_f64() * 1000.0);
        unknown.push(b.took.as_secs_f64() * 1000.0);
    }
    let (known, unknown) = (median(&mut known), median(&mut unknown));
    let differ = (known - unknown).abs() / known.max(unknown);
    let half = pairs as f64 / 2.0;
    let sigmas = (known_slower as f64 - half).abs() / (half / 2.0).sqrt();
    verdict.fact(format!(
        "{pairs} pairs of guesses: known user {known:.2} ms, unknown {unknown:.2} ms, {:.2} % apart; the known one \
         took longer {known_slower} times, {sigmas:.1} sigma",
        differ * 100.0
    ));
    // Noise moves medians; only what also moves the coin is a difference.
    let told_apart = differ > MEDIANS_DIFFER_MAX && sigmas > SIGN_TEST_SIGMAS;
    verdict.demand(
        !told_apart,
        "the time tells",
        format!("{known:.2} ms, {unknown:.2} ms, {sigmas:.1} sigma"),
    );
    Ok(())
}
