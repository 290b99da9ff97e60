//! A disk that is full (`docs/promises.md`, what happens instead): publishers wait, consumers go on, nothing is lost.
//!
//! ```text
//!  64 MiB        the broker's own backlog fills it │ consumed │ a foreign file fills it │ consumed │ file gone   … kill
//!  publishers            blocked                     go on       blocked ≤ 1 s, once      blocked    go on ≤ 5 s
//! ```
//!
//! Passes if the broker lives, publishers are told in time, consumers empty the queue while publishers wait,
//! publishing resumes when there is room, and no confirmed message is lost, the kill included.

use anyhow::{Context, Result, ensure};
use leveret_testkit::random::Random;
use leveret_wire::method::{BasicPublish, QueueDeclare};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Plan;
use super::client::{CALL_TIMEOUT, Client, Delivery, Ended, Event};
use super::load::Unconfirmed;
use super::message::Message;
use super::site::Site;
use super::small_disk::{FileSystem, SmallDisk};
use super::verdict::Verdict;

const QUEUE: &str = "reliability.full";
const PUBLISHERS: usize = 2;
const IN_FLIGHT_MAX: usize = 64;
const BODY_BYTES: usize = 4096;
const BLOCKED_MAX: Duration = Duration::from_secs(1);
const RESUMED_MAX: Duration = Duration::from_secs(5);
/// How long the disk stays full before anybody consumes.
const FULL_TIME: Duration = Duration::from_secs(3);
/// After so long nothing is expected any more.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest pause between a disk with room and the next full one.
const QUIET_MS: u64 = 700;
const TICK: Duration = Duration::from_millis(20);
const GETS: usize = 64;
/// Messages that wait while somebody consumes: far from filling the disk.
const BACKLOG_MAX: usize = 1000;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let file_systems: &[FileSystem] =
        if plan.is_quick() { &[FileSystem::Tmpfs] } else { &[FileSystem::Tmpfs, FileSystem::Ext4] };
    let mut random = Random::new(plan.seed);
    for file_system in file_systems {
        let disk = SmallDisk::mount(*file_system, site.folder())?;
        let site = site.with_data_in(disk.path().join("data"));
        let mut scene = Scene {
            traffic: Arc::new(Traffic::new(random.next())),
            rounds: plan.rounds(3, 50),
            times: Times::default(),
            disk,
            random: &mut random,
            verdict,
        };
        scene.play(&site).with_context(|| format!("on {file_system:?}"))?;
    }
    Ok(())
}

struct Scene<'a> {
    disk: SmallDisk,
    traffic: Arc<Traffic>,
    rounds: u64,
    times: Times,
    random: &'a mut Random,
    verdict: &'a mut Verdict,
}

/// The longest of all rounds.
#[derive(Default)]
struct Times {
    until_blocked: Duration,
    until_resumed: Duration,
}

impl Scene<'_> {
    fn play(&mut self, site: &Site) -> Result<()> {
        let mut server = site.start().context("failed start")?;
        let address = server.address();
        Client::open(address)?.call(QueueDeclare { queue: QUEUE, durable: true, ..Default::default() })?;
        self.with_traffic(address, |scene| {
            scene.own_backlog()?;
            for _ in 0..scene.rounds {
                std::thread::sleep(Duration::from_millis(scene.random.below(QUIET_MS)));
                scene.foreign_file()?;
            }
            scene.verdict.demand(server.is_running()?, "the broker ended", "on a full disk");
            Ok(())
        })?;
        let mut filler = self.disk.filler()?;
        filler.grow()?;
        server.kill()?;
        filler.remove()?;
        let server = site.start().context("failed start after the kill")?;
        self.traffic.stop.store(false, Ordering::Relaxed);
        self.traffic.empty(&mut Client::open(server.address())?)?;
        server.kill()?;
        self.traffic.judge(self.verdict);
        self.verdict.count("full disks", self.rounds + 1);
        self.verdict.fact(self.times.fact(self.rounds));
        Ok(())
    }

    fn with_traffic(
        &mut self,
        address: SocketAddr,
        during: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let traffic = self.traffic.clone();
        std::thread::scope(|scope| {
            for _ in 0..PUBLISHERS {
                scope.spawn(|| traffic.note_end(traffic.publish(address)));
            }
            scope.spawn(|| traffic.note_end(traffic.consume(address)));
            let outcome = during(self);
            traffic.stop.store(true, Ordering::Relaxed);
            outcome
        })
    }

    /// The broker fills the disk itself, since nobody consumes.
    fn own_backlog(&mut self) -> Result<()> {
        let blocked = self.traffic.wait(State::all_blocked);
        ensure!(blocked.is_some(), "publishers were never blocked by the broker's own backlog");
        self.traffic.consumes.store(true, Ordering::Relaxed);
        let resumed = self.traffic.wait(|state| state.blocked == 0 || state.seen_empty);
        ensure!(resumed.is_some(), "consumers do not empty the queue");
        let resumed = self.traffic.wait(|state| state.blocked == 0);
        self.resumed(resumed, "after the queue was empty");
        Ok(())
    }

    /// Somebody else fills the disk, and takes what the broker frees too.
    fn foreign_file(&mut self) -> Result<()> {
        let told_before = self.traffic.with_state(|state| state.told);
        let mut filler = self.disk.filler()?;
        filler.grow()?;
        match self.traffic.wait(State::all_blocked) {
            Some(took) if took <= BLOCKED_MAX => {
                self.times.until_blocked = self.times.until_blocked.max(took);
            }
            late => self.verdict.fault("blocked late", format!("{late:?} after the disk was full")),
        }
        self.traffic.with_state(|state| state.seen_empty = false);
        let full_until = Instant::now() + FULL_TIME;
        while Instant::now() < full_until {
            filler.grow()?;
            std::thread::sleep(TICK);
        }
        let (told, seen_empty, confirmed) =
            self.traffic.with_state(|state| (state.told, state.seen_empty, state.confirmed.len()));
        self.verdict.demand(seen_empty, "consumers do not empty the queue", "of a full disk");
        let times = format!("{} times in {FULL_TIME:?}, with {PUBLISHERS} publishers", told - told_before);
        self.verdict.demand(told - told_before <= PUBLISHERS as u64, "the alarm flutters", times);
        filler.remove()?;
        let resumed = self.traffic.wait(|state| state.blocked == 0 && state.confirmed.len() > confirmed);
        self.resumed(resumed, "after there was room");
        Ok(())
    }

    fn resumed(&mut self, took: Option<Duration>, since: &str) {
        match took {
            Some(took) if took <= RESUMED_MAX => {
                self.times.until_resumed = self.times.until_resumed.max(took);
            }
            late => self.verdict.fault("publishing resumed late", format!("{late:?} {since}")),
        }
    }
}

impl Times {
    fn fact(&self, rounds: u64) -> String {
        format!(
            "full by its own backlog and {rounds} times by a foreign file: blocked within {} ms, publishing again within {} ms",
            self.until_blocked.as_millis(),
            self.until_resumed.as_millis()
        )
    }
}

/// Publishers, consumers and what they have seen.
struct Traffic {
    seed: u64,
    last_id: AtomicU64,
    stop: AtomicBool,
    consumes: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Publishers that are blocked now.
    blocked: usize,
    /// How often a publisher was told so.
    told: u64,
    confirmed: BTreeSet<u64>,
    consumed: BTreeSet<u64>,
    /// A consumer has found nothing in the queue.
    seen_empty: bool,
    altered: u64,
    complaints: Vec<String>,
}

impl Traffic {
    fn new(seed: u64) -> Traffic {
        Traffic {
            seed,
            last_id: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            consumes: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn with_state<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().expect("no thread panics while it holds the state"))
    }

    fn note_end(&self, end: Result<(), Ended>) {
        if let Err(ended) = end {
            self.with_state(|state| state.complaints.push(ended.to_string()));
        }
    }

    /// How long it took until `condition` held; `None` if it never did.
    fn wait(&self, condition: impl Fn(&State) -> bool) -> Option<Duration> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if self.with_state(|state| condition(state)) {
                return Some(begin.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    fn publish(&self, address: SocketAddr) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        client.select_confirms()?;
        let mut unconfirmed = Unconfirmed::default();
        let mut blocked = false;
        while !self.stop.load(Ordering::Relaxed) {
            while !blocked && unconfirmed.len() < IN_FLIGHT_MAX && self.may_publish() {
                let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
                let message = Message::new(self.seed, id);
                let publish = BasicPublish { routing_key: QUEUE, ..Default::default() };
                client.publish(publish, &message.properties(), &message.body_of(BODY_BYTES))?;
                unconfirmed.push(id);
            }
            client.flush()?;
            let mut event = client.next(TICK)?;
            while let Some(arrived) = event {
                blocked = self.note(arrived, &mut unconfirmed, blocked);
                event = client.next_buffered()?;
            }
        }
        Ok(())
    }

    /// Books what a publisher hears; returns whether it is blocked now.
    fn note(&self, event: Event, unconfirmed: &mut Unconfirmed, was_blocked: bool) -> bool {
        self.with_state(|state| match event {
            Event::Blocked => {
                state.blocked += usize::from(!was_blocked);
                state.told += 1;
                true
            }
            Event::Unblocked => {
                state.blocked -= usize::from(was_blocked);
                false
            }
            Event::Confirm { tag, multiple, kept } => {
                let ids = unconfirmed.take(tag, multiple);
                if kept {
                    state.confirmed.extend(ids);
                }
                was_blocked
            }
            other => {
                state.complaints.push(format!("{other:?} instead of a confirm"));
                was_blocked
            }
        })
    }

    /// Publishers keep a small backlog while somebody consumes.
    fn may_publish(&self) -> bool {
        let backlog = self.with_state(|state| state.confirmed.len().saturating_sub(state.consumed.len()));
        backlog < BACKLOG_MAX || !self.consumes.load(Ordering::Relaxed)
    }

    fn consume(&self, address: SocketAddr) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        while !self.stop.load(Ordering::Relaxed) {
            if self.consumes.load(Ordering::Relaxed) {
                self.empty(&mut client)?;
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Takes messages until the queue is empty.
    fn empty(&self, client: &mut Client) -> Result<(), Ended> {
        let mut empty = false;
        while !empty && !self.stop.load(Ordering::Relaxed) {
            (0..GETS).try_for_each(|_| client.get(QUEUE))?;
            client.flush()?;
            for _ in 0..GETS {
                match client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
                    Event::NothingToGet => empty = true,
                    Event::Delivery(delivery) => {
                        client.ack(delivery.tag, false);
                        self.with_state(|state| state.consume(self.seed, &delivery));
                    }
                    other => return Err(Ended::Garbled(format!("{other:?} in answer to a get"))),
                }
            }
            client.flush()?;
        }
        self.with_state(|state| state.seen_empty |= empty);
        Ok(())
    }

    fn judge(&self, verdict: &mut Verdict) {
        self.with_state(|state| {
            for lost in state.confirmed.difference(&state.consumed) {
                verdict.fault("confirmed and lost", format!("message {lost:x}"));
            }
            for complaint in &state.complaints {
                verdict.fault("a client was let down", complaint);
            }
            verdict.demand(state.altered == 0, "altered", state.altered);
            verdict.fact(format!("{} messages confirmed", state.confirmed.len()));
        });
    }
}

impl State {
    fn all_blocked(&self) -> bool {
        self.blocked == PUBLISHERS
    }

    fn consume(&mut self, seed: u64, delivery: &Delivery) {
        let id = Message::id_of(&delivery.message_id);
        match id.filter(|id| Message::new(seed, *id).body_of(BODY_BYTES) == delivery.body) {
            Some(id) => drop(self.consumed.insert(id)),
            None => self.altered += 1,
        }
    }
}
