//! Bit rot and truncation (scorecard row 9, P7): what a disk does to files while nobody looks.
//!
//! ```text
//!   a data directory: 4 queues, settled and logged messages, stopped in order or killed
//!     copy ─► one bit flipped, a page zeroed, or a file cut ─► start
//!                serves:  every message that comes is unaltered; what is missing is of a queue that is offline, with file and
//!                         offset in the log, or the log says what was cut off
//!                refuses: it says which file; nothing was changed
//! ```
//!
//! What no single node can tell: the last batch of a log that was not closed in order looks, when its end is
//! damaged, like one that a crash left half-written; it is cut, and the log says how many octets. Such a case counts as
//! "cut as torn" here, and only the newest messages may be gone in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use leveret_testkit::random::Random;
use leveret_testkit::supervisor::Server;
use leveret_wire::method::{BasicPublish, QueueDeclare};

use super::Plan;
use super::client::{CALL_TIMEOUT, Client, Ended, Event};
use super::load::publish_all;
use super::message::Message;
use super::site::Site;
use super::verdict::Verdict;

const QUEUES: u64 = 4;
/// Enough to roll the small log of the template some times.
const MESSAGES: u64 = 600;
const BODY_BYTES: usize = 6000;
const IN_FLIGHT_MAX: usize = 50;
const PAGE_BYTES: usize = 4096;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let mut random = Random::new(plan.seed);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let rounds = plan.rounds_at([24, 300, 300]);
    let site = &site.behind("small-logs", "export LEVERET_LOG_FILE_BYTES=1048576")?;
    for (kind, stops_in_order) in [("stopped", true), ("killed", false)] {
        let template = site.folder().join(kind);
        make_template(&site.with_data_in(template.clone()), plan.seed, stops_in_order)?;
        for round in 0..rounds / 2 {
            let copy = site.folder().join("damaged");
            copy_folder(&template, &copy)?;
            let harm = Harm::do_some(&copy, &mut random)?;
            let case = format!("{kind}, round {round}: {harm}");
            let outcome = Trial { site: &site.with_data_in(copy), plan, stops_in_order, harm: &harm }
                .run(verdict)
                .with_context(|| case.clone())?;
            *counts.entry(outcome).or_default() += 1;
        }
    }
    verdict.count("damaged directories", rounds / 2 * 2);
    let counts: Vec<String> = counts.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    verdict.fact(counts.join(", "));
    Ok(())
}

fn queue_name(queue: u64) -> String {
    format!("reliability.rot.{queue}")
}

/// Messages in four queues, half of one of them acknowledged.
fn make_template(site: &Site, seed: u64, stops_in_order: bool) -> Result<()> {
    let server = site.start().context("failed start")?;
    let mut client = Client::open(server.address())?;
    for queue in 0..QUEUES {
        client.call(QueueDeclare { queue: &queue_name(queue), durable: true, ..Default::default() })?;
    }
    client.select_confirms()?;
    publish_all(&mut client, 1..MESSAGES + 1, IN_FLIGHT_MAX, |client, id| {
        let message = Message::new(seed, id);
        let queue = queue_name(id % QUEUES);
        let publish = BasicPublish { routing_key: &queue, ..Default::default() };
        client.publish(publish, &message.properties(), &message.body_of(BODY_BYTES))
    })?;
    if stops_in_order {
        server.terminate()?;
        let status = server.wait(super::site::START_TIMEOUT)?.context("did not stop")?;
        ensure!(status.success(), "{status}");
    } else {
        server.kill()?;
    }
    Ok(())
}

/// What was done to a file.
struct Harm {
    file: PathBuf,
    what: String,
    before: Vec<(PathBuf, Vec<u8>)>,
}

impl std::fmt::Display for Harm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.what, self.file.display())
    }
}

impl Harm {
    /// Damages one file of a data directory, where it holds anything.
    fn do_some(folder: &Path, random: &mut Random) -> Result<Harm> {
        let mut files = Vec::new();
        list_files(folder, &mut files)?;
        files.retain(|path| path.file_name().is_some_and(|name| name != "lock") && holds_something(path));
        files.sort();
        let file = random.pick(&files).context("no file holds anything")?.clone();
        let mut bytes = fs::read(&file)?;
        // Most of a log file is room that was only reserved: damage there is none.
        let used = bytes.iter().rposition(|octet| *octet != 0).unwrap_or(0) + 1;
        let at = random.below(used as u64) as usize;
        let what = match random.below(3) {
            0 => {
                bytes[at] ^= 1 << random.below(8);
                format!("a flipped bit at {at}")
            }
            1 => {
                let page = at - at % PAGE_BYTES;
                let end = bytes.len().min(page + PAGE_BYTES);
                bytes[page..end].fill(0);
                format!("a zeroed page at {page}")
            }
            _ => {
                bytes.truncate(at);
                format!("a cut at {at}")
            }
        };
        fs::write(&file, &bytes)?;
        let mut before = Vec::new();
        for path in files {
            before.push((path.clone(), fs::read(&path)?));
        }
        Ok(Harm { file: file.strip_prefix(folder)?.to_owned(), what, before })
    }
}

fn holds_something(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.iter().any(|octet| *octet != 0))
}

fn list_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list_files(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    let mut files = Vec::new();
    list_files(from, &mut files)?;
    for file in files {
        let target = to.join(file.strip_prefix(from)?);
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        fs::copy(&file, &target)?;
    }
    // Folders without a file belong to the format, too.
    ["log", "q", "t"].iter().try_for_each(|name| fs::create_dir_all(to.join(name)))?;
    Ok(())
}

/// One damaged directory.
struct Trial<'a> {
    site: &'a Site,
    plan: &'a Plan,
    stops_in_order: bool,
    harm: &'a Harm,
}

impl Trial<'_> {
    /// What came of it.
    fn run(&self, verdict: &mut Verdict) -> Result<&'static str> {
        let log = &self.site.launcher().log;
        let log_before = fs::metadata(log).map_or(0, |meta| meta.len()) as usize;
        let started = self.site.launcher().start(super::site::START_TIMEOUT);
        let Ok(server) = started else {
            let said = said_since(log, log_before);
            let name = self.harm.file.file_name().unwrap_or_default().to_string_lossy();
            let names_file = said.contains(&*name);
            verdict.demand(names_file, "refused without naming the file", format!("{}: {said}", self.harm));
            self.demand_unchanged("refused, and changed", verdict);
            return Ok("refused");
        };
        let (found, offline) = self.collect(&server, verdict)?;
        server.kill()?;
        let said = said_since(log, log_before);
        let lost: BTreeSet<u64> = (1..=MESSAGES).filter(|id| !found.contains(id)).collect();
        let excused = |id: &u64| offline.contains(&(id % QUEUES));
        let unexcused: Vec<u64> = lost.iter().copied().filter(|id| !excused(id)).collect();
        let reported = said.contains("damaged");
        verdict.demand(
            offline.is_empty() || reported,
            "offline without a word",
            format!("{}: {said}", self.harm),
        );
        if unexcused.is_empty() {
            return Ok(match (offline.is_empty(), reported) {
                (false, _) => "with a queue offline",
                (true, true) => "reported, nobody hit",
                (true, false) => "without consequence",
            });
        }
        // The end of a log that was not closed: the newest messages, and the log says so.
        let is_tail = unexcused.iter().all(|id| *id > MESSAGES - IN_FLIGHT_MAX as u64 - 10);
        if !self.stops_in_order && is_tail {
            let is_told = reported || said.contains("cut off");
            verdict.demand(is_told, "cut as torn without a word", self.harm);
            return Ok("cut as torn");
        }
        verdict.demand(
            reported,
            "lost without a word",
            format!("{}: {} messages, {said}", self.harm, unexcused.len()),
        );
        Ok("with messages missing, reported")
    }

    /// All messages that can be had, and the queues that are offline.
    fn collect(&self, server: &Server, verdict: &mut Verdict) -> Result<(BTreeSet<u64>, BTreeSet<u64>)> {
        let (mut found, mut offline) = (BTreeSet::new(), BTreeSet::new());
        for queue in 0..QUEUES {
            match self.drain(server, queue, &mut found, verdict) {
                Ok(()) => {}
                Err(Ended::Closed { text, .. }) if text.contains("is offline") => {
                    verdict.demand(text.contains(" at "), "no offset in the reason", &text);
                    offline.insert(queue);
                }
                // A queue whose declaration is what was damaged.
                Err(Ended::Closed { code: 404, .. }) => drop(offline.insert(queue)),
                Err(ended) => verdict.fault("a client was let down", format!("{}: {ended}", self.harm)),
            }
        }
        Ok((found, offline))
    }

    fn drain(
        &self,
        server: &Server,
        queue: u64,
        found: &mut BTreeSet<u64>,
        verdict: &mut Verdict,
    ) -> Result<(), Ended> {
        let mut client = Client::open(server.address())?;
        let name = queue_name(queue);
        loop {
            client.get(&name)?;
            client.flush()?;
            match client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
                Event::NothingToGet => return Ok(()),
                Event::Delivery(delivery) => {
                    let id = Message::id_of(&delivery.message_id).filter(|id| id % QUEUES == queue);
                    let body = id.map(|id| Message::new(self.plan.seed, id).body_of(BODY_BYTES));
                    verdict.demand(body == Some(delivery.body), "altered", self.harm);
                    let is_new = id.is_some_and(|id| found.insert(id));
                    verdict.demand(is_new, "delivered twice", self.harm);
                }
                other => return Err(Ended::Garbled(format!("{other:?} in answer to a get"))),
            }
        }
    }

    fn demand_unchanged(&self, kind: &'static str, verdict: &mut Verdict) {
        for (path, bytes) in &self.harm.before {
            let same = fs::read(path).is_ok_and(|now| now == *bytes);
            verdict.demand(same, kind, format!("{} after {}", path.display(), self.harm));
        }
    }
}

fn said_since(log: &Path, from: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned()
}
