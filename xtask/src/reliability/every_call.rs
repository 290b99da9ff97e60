//! SIGKILL at every storage call of a script (scorecard row 2): no point between two calls may be one that recovery
//! does not know.
//!
//! ```text
//!   first start │ declare, publish, acknowledge, roll the log, settle, drain │ stop │ start after a kill
//!   ────────────┴──────────────── committer, settler ────────────────────────┴──────┴────────────────────
//!   an undisturbed run tells which thread makes which calls; then one run per call, killed at its beginning;
//!   then a start, and everything confirmed is there, once, unaltered, marked
//! ```
//!
//! `strace` counts calls per thread and kind, so each point is named by stage, thread, call and number. A run may make fewer
//! calls than the undisturbed one, since what is written together depends on the machine: such a run ends unharmed and is
//! counted as that.

use anyhow::{Context, Result, ensure};
use leveret_testkit::random::Random;
use leveret_testkit::supervisor::{Server, StartFailure};
use leveret_wire::method::{BasicPublish, QueueDeclare, QueueDelete};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Plan;
use super::client::{CALL_TIMEOUT, Client, Ended, Event};
use super::ledger::{Ending, Ledger};
use super::load::Unconfirmed;
use super::message::Message;
use super::site::Site;
use super::strace::{self, STORAGE_CALLS, Tracer};
use super::verdict::Verdict;

const QUEUES: [&str; 2] = ["reliability.call.a", "reliability.call.b"];
const LANES: usize = 3;
/// One point in so many, beginning where the seed says.
const QUICK_STEP: usize = 8;
const SIGKILL: i32 = 9;
const PREFIX_FILE: &str = "prefix";
const START_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(10);
/// Log files are 1 MiB, the least: two rounds of these roll one.
const LARGE_BYTES: usize = 150_000;
const SMALL_BYTES: usize = 200;
const ROUNDS: usize = 3;
/// How long the settler has for what was rolled.
const SETTLE_TIME: Duration = Duration::from_millis(150);

/// Comes and goes.
const PASSING_QUEUE: &str = "reliability.call.c";

/// What the broker is doing, and who is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// On an empty data directory.
    FirstStart,
    /// The script, with one thread watched.
    Work(&'static str),
    Stop,
    /// After a kill at the end of the script.
    Recovery,
}

const STAGES: [Stage; 5] =
    [Stage::FirstStart, Stage::Work("committer"), Stage::Work("settler"), Stage::Stop, Stage::Recovery];

/// A call to be killed at: the `number`-th of its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    stage: Stage,
    call: String,
    number: u64,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} number {}", self.stage, self.call, self.number)
    }
}

#[derive(Default)]
struct Tally {
    killed: BTreeMap<String, u64>,
    unharmed: BTreeMap<Stage, u64>,
    verdict: Verdict,
}

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    super::install(&["strace"])?;
    let site = &site.with_binary(wrapper(site)?);
    let mut points = Vec::new();
    for stage in STAGES {
        let lane = Lane::new(site, "undisturbed", plan.seed)?;
        points.extend(lane.points_of(stage).with_context(|| format!("{stage:?}, undisturbed"))?);
    }
    verdict.count("storage calls in an undisturbed run", points.len() as u64);
    if plan.is_quick() {
        let offset = Random::new(plan.seed).below(QUICK_STEP as u64) as usize;
        points = points.into_iter().skip(offset).step_by(QUICK_STEP).collect();
    }
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (points, next, tally) = (&points, &next, &tally);
            scope.spawn(move || {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    try_point(site, &format!("lane-{lane}"), plan.seed, point, tally);
                }
            });
        }
    });
    let tally = tally.into_inner().context("a lane panicked")?;
    verdict.count("runs killed at a call", tally.killed.values().sum());
    verdict.count("runs that made fewer calls", tally.unharmed.values().sum());
    if !tally.unharmed.is_empty() {
        verdict.fact(format!("fewer calls in: {:?}", tally.unharmed));
    }
    let kinds: Vec<String> = tally.killed.iter().map(|(call, count)| format!("{count} {call}")).collect();
    verdict.fact(format!("killed at: {}", kinds.join(", ")));
    verdict.absorb(tally.verdict);
    Ok(())
}

/// One run, booked.
fn try_point(site: &Site, folder: &str, seed: u64, point: &Point, tally: &Mutex<Tally>) {
    let outcome = Lane::new(site, folder, seed).and_then(|lane| lane.kill_at(point));
    let Ok(mut tally) = tally.lock() else { return };
    match outcome {
        Ok((killed, found)) => {
            if killed {
                *tally.killed.entry(point.call.clone()).or_default() += 1;
            } else {
                *tally.unharmed.entry(point.stage).or_default() += 1;
            }
            if found.passed() {
                tally.verdict.absorb(found);
            } else {
                tally.verdict.fault("a point that breaks a promise", format!("{point}:\n{found}"));
            }
        }
        Err(error) => tally.verdict.fault("not finished", format!("{point}: {error:#}")),
    }
}

/// A data directory of its own with what was promised about it.
struct Lane {
    site: Site,
    folder: PathBuf,
    ledger: Ledger,
    seed: u64,
    last_id: u64,
}

impl Lane {
    /// An empty one; what the last run of this name left is removed.
    fn new(site: &Site, name: &str, seed: u64) -> Result<Lane> {
        let folder = site.folder().join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let site = site.with_data_in(folder.join("data"));
        Ok(Lane { site, folder, ledger: Ledger::new(), seed, last_id: 0 })
    }

    fn trace(&self) -> PathBuf {
        self.folder.join("strace.log")
    }

    /// The storage calls of a stage that nobody disturbs.
    fn points_of(mut self, stage: Stage) -> Result<Vec<Point>> {
        let options = ["-y", "-e", &format!("trace={STORAGE_CALLS}")].map(str::to_owned);
        self.reach(stage, &options)?;
        let text = std::fs::read_to_string(self.trace())?;
        let data = self.folder.join("data").display().to_string();
        Ok(storage_calls(&text, &data)
            .into_iter()
            .map(|(call, number)| Point { stage, call, number })
            .collect())
    }

    /// Whether the broker was killed there, and what was found after the next start.
    fn kill_at(mut self, point: &Point) -> Result<(bool, Verdict)> {
        let Point { stage, call, number } = point;
        let trace = format!("trace={call}");
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let options = ["-e", &trace, "-e", &inject].map(str::to_owned);
        let killed = self.reach(*stage, &options)?;
        self.look()?;
        Ok((killed, self.ledger.into_faults()))
    }

    /// Plays everything up to and with a stage, which is watched; whether the broker was killed in it. No broker runs
    /// afterwards.
    fn reach(&mut self, stage: Stage, options: &[String]) -> Result<bool> {
        if stage == Stage::FirstStart {
            return self.start_watched(options);
        }
        let server = self.start_undisturbed()?;
        match stage {
            Stage::FirstStart => Ok(false),
            Stage::Work(thread) => self.work_watched(server, thread, options),
            Stage::Stop => {
                self.play(server.address())?;
                self.stop_watched(server, options)
            }
            Stage::Recovery => {
                self.play(server.address())?;
                self.ledger.ended(Ending::Killed, Instant::now());
                server.kill()?;
                self.start_watched(options)
            }
        }
    }

    fn work_watched(&mut self, mut server: Server, thread: &str, options: &[String]) -> Result<bool> {
        let thread = strace::thread_named(server.pid(), thread)?;
        let tracer = Tracer::of_thread(thread, options, &self.trace())?;
        let end = self.play(server.address());
        self.ledger.ended(Ending::Killed, Instant::now());
        let killed = match end {
            // A socket is closed a moment before its process can be waited for.
            Err(Ended::Gone) => {
                server.wait(STOP_MAX)?.context("closed a connection and lives")?.signal() == Some(SIGKILL)
            }
            Err(ended) => {
                self.ledger.fault("a client was let down", ended);
                server.kill().map(|_| false)?
            }
            Ok(()) => {
                let killed = !server.is_running()?;
                server.kill().map(|_| killed)?
            }
        };
        tracer.finish()?;
        Ok(killed)
    }

    fn stop_watched(&mut self, server: Server, options: &[String]) -> Result<bool> {
        let tracer = Tracer::of_process(server.pid(), options, &self.trace())?;
        let asked_at = Instant::now();
        server.terminate()?;
        let status = server.wait(STOP_MAX)?.context("did not stop")?;
        tracer.finish()?;
        let killed = status.signal() == Some(SIGKILL);
        self.ledger.ended(if killed { Ending::KilledStopping } else { Ending::Stopped }, asked_at);
        Ok(killed)
    }

    fn start_undisturbed(&self) -> Result<Server> {
        std::fs::write(self.folder.join(PREFIX_FILE), "")?;
        self.site.start()
    }

    /// A start that is watched from its first instruction; whether it was killed.
    fn start_watched(&mut self, options: &[String]) -> Result<bool> {
        let words = options.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        // `-D`: the broker is our child, and the tracer ends with it.
        let prefix = format!("strace -D -f -o '{}' {words} --", self.trace().display());
        std::fs::write(self.folder.join(PREFIX_FILE), prefix)?;
        match self.site.launcher().start(START_MAX) {
            Ok(server) => {
                self.ledger.ended(Ending::Killed, Instant::now());
                server.kill()?;
                Ok(false)
            }
            Err(StartFailure::Exited(status)) if status.signal() == Some(SIGKILL) => Ok(true),
            Err(failure) => Err(failure.into()),
        }
    }

    /// The script; ends early when the broker does.
    fn play(&mut self, address: SocketAddr) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        for queue in QUEUES {
            client.call(QueueDeclare { queue, durable: true, ..Default::default() })?;
        }
        client.select_confirms()?;
        let mut unconfirmed = Unconfirmed::default();
        for round in 0..ROUNDS {
            self.publish(&mut client, &mut unconfirmed, &[(0, LARGE_BYTES); 4])?;
            self.publish(&mut client, &mut unconfirmed, &[(1, SMALL_BYTES), (0, 0), (1, SMALL_BYTES)])?;
            self.take(&mut client, 0, 2 * round)?;
            client.call(QueueDeclare { queue: PASSING_QUEUE, durable: true, ..Default::default() })?;
            client.call(QueueDelete { queue: PASSING_QUEUE, ..Default::default() })?;
        }
        std::thread::sleep(SETTLE_TIME);
        self.take(&mut client, 0, usize::MAX)?;
        self.publish(&mut client, &mut unconfirmed, &[(1, SMALL_BYTES), (0, LARGE_BYTES)])?;
        std::thread::sleep(SETTLE_TIME);
        Ok(())
    }

    /// Messages for queues, of sizes; returns when all are confirmed.
    fn publish(
        &mut self,
        client: &mut Client,
        unconfirmed: &mut Unconfirmed,
        messages: &[(usize, usize)],
    ) -> Result<(), Ended> {
        for (queue, size_bytes) in messages {
            self.last_id += 1;
            let message = Message::new(self.seed, self.last_id);
            self.ledger.sent_to(message.id, 0, [*queue].into_iter());
            let publish = BasicPublish { routing_key: QUEUES[*queue], ..Default::default() };
            client.publish(publish, &message.properties(), &message.body_of(*size_bytes))?;
            unconfirmed.push(message.id);
        }
        client.flush()?;
        while unconfirmed.len() > 0 {
            match client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
                Event::Confirm { tag, multiple, kept: true } => {
                    unconfirmed.take(tag, multiple).into_iter().for_each(|id| self.ledger.confirmed(id));
                }
                other => return Err(Ended::Garbled(format!("{other:?} instead of a confirm"))),
            }
        }
        Ok(())
    }

    /// Gets and acknowledges up to `count` messages of a queue; true when it is empty.
    fn take(&mut self, client: &mut Client, queue: usize, count: usize) -> Result<bool, Ended> {
        for _ in 0..count {
            let Some(delivery) = client.get_now(QUEUES[queue])? else { return Ok(true) };
            let id = Message::id_of(&delivery.message_id).unwrap_or_default();
            let intact = delivery.body == Message::new(self.seed, id).body_of(delivery.body.len());
            if !intact {
                self.ledger.fault("altered", format!("message {id:x}"));
            }
            self.ledger.delivered(queue, id, delivery.redelivered);
            self.ledger.acked(queue, id);
            client.ack(delivery.tag, false);
        }
        client.flush()?;
        Ok(false)
    }

    /// After a start that nobody disturbs: what is there, against what was promised.
    fn look(&mut self) -> Result<()> {
        let server = self.start_undisturbed().context("failed start")?;
        let mut client = Client::open(server.address())?;
        for (number, queue) in QUEUES.into_iter().enumerate() {
            client.call(QueueDeclare { queue, durable: true, ..Default::default() })?;
            let is_empty = self.take(&mut client, number, usize::MAX)?;
            ensure!(is_empty, "{queue} never ends");
            self.ledger.drained(number);
        }
        server.kill()?;
        Ok(())
    }
}

/// A program that starts the broker with small log files, behind whatever stands in a file beside its data directory, which
/// is its last argument. It is one for all lanes: a file that is still open for writing in a child of another thread
/// cannot be executed.
fn wrapper(site: &Site) -> Result<PathBuf> {
    let path = site.folder().join("broker.sh");
    let broker = site.launcher().binary.display().to_string();
    let script = format!(
        "#!/bin/sh\nexport LEVERET_LOG_FILE_BYTES=1048576\nfor last; do :; done\n\
         eval \"exec $(cat \"${{last%/*}}/{PREFIX_FILE}\") '{broker}' \\\"\\$@\\\"\"\n"
    );
    std::fs::write(&path, script)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Kind and number of every call in a trace that touches the data directory, counted per thread and kind as `strace`
/// counts them: all calls of the kind, those to other files too.
fn storage_calls(trace: &str, data: &str) -> BTreeSet<(String, u64)> {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in trace.lines() {
        let (thread, rest) = match line.split_once(' ') {
            Some((thread, rest)) if thread.bytes().all(|byte| byte.is_ascii_digit()) => {
                (thread, rest.trim_start())
            }
            _ => ("", line),
        };
        let Some((call, arguments)) = rest.split_once('(') else { continue };
        if !STORAGE_CALLS.split(',').any(|known| known == call) {
            continue;
        }
        let count = counts.entry((thread, call)).or_default();
        *count += 1;
        if arguments.contains(data) {
            found.insert((call.to_owned(), *count));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_as_strace_counts_them() {
        let trace = "7 openat(AT_FDCWD</x>, \"/lib/c.so\", O_RDONLY) = 3\n\
                     7 openat(AT_FDCWD</x>, \"/d/lock\", O_RDWR) = 3</d/lock>\n\
                     8 openat(AT_FDCWD</x>, \"/d/log/1\", O_RDWR) = 4</d/log/1>\n\
                     7 fdatasync(3</d/log/1> <unfinished ...>\n\
                     7 <... fdatasync resumed>) = 0\n\
                     7 write(1</dev/null>, \"x\", 1) = 1\n\
                     7 +++ killed by SIGKILL +++\n";
        let expected = [("fdatasync", 1), ("openat", 1), ("openat", 2)].map(|(call, n)| (call.to_owned(), n));
        assert_eq!(storage_calls(trace, "/d/"), expected.into());
        let one_thread = "pwrite64(3</d/log/1>, \"\", 0) = 0\nfsync(3</d>) = 0\n";
        assert_eq!(storage_calls(one_thread, "/d").len(), 2);
    }
}
