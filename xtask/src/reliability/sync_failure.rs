//! A flush that fails (P1): nothing is confirmed on its strength, it is not tried again, the process ends.
//!
//! `strace` lets the N-th `fdatasync` of a serving broker fail with EIO. The publisher sends one message at a time, so
//! a confirm that arrives after the failure can only be one for the failed batch.
//!
//! ```text
//!   publish ──► fdatasync ──► confirm ──► publish ──► fdatasync = EIO ──► exit, not 0, within 1 s
//!                  1 … N-1                                   N
//! ```

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use leveret_testkit::supervisor::Server;
use leveret_wire::method::{BasicPublish, QueueDeclare};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Plan;
use super::client::{Client, Event};
use super::message::Message;
use super::site::Site;
use super::strace::Tracer;
use super::verdict::Verdict;

const QUEUE: &str = "reliability.sync";
const NUMBERS_MAX: u64 = 200;
const BODY_BYTES: usize = 512;
const EXIT_MAX: Duration = Duration::from_secs(1);
/// Beyond that the broker is taken to live on.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    super::install(&["strace"])?;
    let mut random = Random::new(plan.seed);
    let mut story =
        Story { seed: plan.seed, last_id: 0, confirmed: BTreeSet::new(), slowest: Duration::ZERO };
    let rounds = plan.rounds(12, 200);
    for round in 1..=rounds {
        let number = if plan.is_quick() { 1 + random.below(NUMBERS_MAX) } else { round };
        story.round(site, number, verdict).with_context(|| format!("fdatasync number {number}"))?;
    }
    let Story { confirmed, slowest, .. } = story;
    verdict.count("failed flushes", rounds);
    verdict.fact(format!(
        "{rounds} failed flushes, {} messages confirmed before them; the slowest exit took {} ms",
        confirmed.len(),
        slowest.as_millis()
    ));
    Ok(())
}

struct Story {
    seed: u64,
    last_id: u64,
    confirmed: BTreeSet<u64>,
    slowest: Duration,
}

impl Story {
    fn round(&mut self, site: &Site, number: u64, verdict: &mut Verdict) -> Result<()> {
        let server = site.start().context("failed start")?;
        let mut client = Client::open(server.address())?;
        client.call(QueueDeclare { queue: QUEUE, durable: true, ..Default::default() })?;
        client.select_confirms()?;
        let output = site.folder().join("strace.log");
        let tracer = fail_flush(&server, number, &output)?;
        let last_confirm = self.publish_until_the_end(&mut client, number)?;
        let status = server.wait(PATIENCE)?;
        let exited_at = since_epoch();
        tracer.finish()?;
        let trace = Trace::parse(&std::fs::read_to_string(&output)?);
        let failure = trace.failure.context("the broker ended before its flush failed")?;
        let took = exited_at.saturating_sub(failure.at);
        self.slowest = self.slowest.max(took);
        let code = status.and_then(|status| status.code());
        verdict.demand(
            code.is_some_and(|code| code != 0),
            "did not end with an error",
            format!("{status:?}"),
        );
        verdict.demand(took <= EXIT_MAX, "ended late", format!("{took:?} after the failure"));
        verdict.demand(
            last_confirm < failure.at || !failure.is_log(),
            "confirmed without a flush",
            format!("fdatasync {number}"),
        );
        verdict.demand(!trace.tried_again, "a failed flush was tried again", format!("fdatasync {number}"));
        self.look_up(site, verdict)
    }

    /// Publishes one by one; returns when the last confirm came, as time since the epoch.
    fn publish_until_the_end(&mut self, client: &mut Client, number: u64) -> Result<Duration> {
        let mut last_confirm = Duration::ZERO;
        for _ in 0..10 * number + 100 {
            self.last_id += 1;
            let message = Message::new(self.seed, self.last_id);
            let publish = BasicPublish { routing_key: QUEUE, ..Default::default() };
            client.publish(publish, &message.properties(), &message.body_of(BODY_BYTES))?;
            client.flush()?;
            match client.next(PATIENCE) {
                Ok(Some(Event::Confirm { kept: true, .. })) => {
                    last_confirm = since_epoch();
                    self.confirmed.insert(message.id);
                }
                Ok(Some(Event::Confirm { kept: false, .. }) | None) | Err(_) => return Ok(last_confirm),
                Ok(Some(other)) => anyhow::bail!("{other:?} instead of a confirm"),
            }
        }
        anyhow::bail!("fdatasync {number} never came")
    }

    /// Everything confirmed so far is there; messages stay in the queue from round to round.
    fn look_up(&self, site: &Site, verdict: &mut Verdict) -> Result<()> {
        let server = site.start().context("failed start")?;
        let mut client = Client::open(server.address())?;
        let count = client.call(QueueDeclare { queue: QUEUE, passive: true, ..Default::default() })?;
        let mut found = BTreeSet::new();
        for _ in 0..count {
            let delivery = client.get_now(QUEUE)?.context("the queue had said that there are more")?;
            found.extend(Message::id_of(&delivery.message_id));
        }
        for lost in self.confirmed.difference(&found) {
            verdict.fault("confirmed and lost", format!("message {lost:x}"));
        }
        server.kill()?;
        Ok(())
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What it saw.
#[derive(Debug, PartialEq)]
struct Trace {
    failure: Option<SyncCall>,
    tried_again: bool,
}

#[derive(Debug, PartialEq)]
struct SyncCall {
    /// When it began, since the epoch.
    at: Duration,
    file: String,
}

/// Lets one flush of a running broker fail.
fn fail_flush(server: &Server, number: u64, output: &Path) -> Result<Tracer> {
    let inject = format!("inject=fdatasync:error=EIO:when={number}");
    let options = ["-y", "-ttt", "-e", "trace=fdatasync", "-e", &inject].map(str::to_owned);
    Tracer::of_process(server.pid(), &options, output)
}

impl Trace {
    /// Lines are `TID SECONDS.MICROS fdatasync(FD<PATH>) = …`, or such a call in two halves.
    fn parse(output: &str) -> Trace {
        let mut trace = Trace { failure: None, tried_again: false };
        let mut unfinished: HashMap<&str, SyncCall> = HashMap::new();
        for line in output.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let call = SyncCall::parse(rest);
            if let (Some(call), Some(failure)) = (&call, &trace.failure) {
                trace.tried_again |= call.file == failure.file && call.at > failure.at;
            }
            if line.contains("(INJECTED)") {
                trace.failure = trace.failure.or(call).or_else(|| unfinished.remove(thread));
            } else if let Some(call) = call {
                unfinished.insert(thread, call);
            }
        }
        trace
    }
}

impl SyncCall {
    fn parse(line: &str) -> Option<SyncCall> {
        let (seconds, call) = line.trim_start().split_once(' ')?;
        let (_, file) = call.split_once("fdatasync(")?.1.split_once('<')?;
        let at = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
        Some(SyncCall { at, file: file.split_once('>')?.0.to_owned() })
    }

    /// A confirm rests on this file, and not on what is settled behind it.
    fn is_log(&self) -> bool {
        self.file.contains("/log/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_read() {
        let check = |output: &str, failed: Option<(f64, &str)>, tried_again| {
            let failure =
                failed.map(|(at, file)| SyncCall { at: Duration::from_secs_f64(at), file: file.to_owned() });
            assert_eq!(Trace::parse(output), Trace { failure, tried_again }, "{output}");
        };
        let good = "77 100.5 fdatasync(9</d/log/1.log>) = 0\n";
        let bad = "77 101.25 fdatasync(9</d/log/1.log>)    = -1 EIO (Input/output error) (INJECTED)\n";
        let again = "77 101.5 fdatasync(9</d/log/1.log> <unfinished ...>\n";
        let halves = "78 102 fdatasync(10</d/q/0.seg> <unfinished ...>\n\
                      77 102.1 fdatasync(9</d/log/1.log>) = 0\n\
                      78 102.2 <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)\n";
        check(good, None, false);
        check(&format!("{good}{bad}77 101.3 +++ exited with 1 +++\n"), Some((101.25, "/d/log/1.log")), false);
        check(&format!("{bad}{halves}"), Some((101.25, "/d/log/1.log")), true);
        check(halves, Some((102.0, "/d/q/0.seg")), false);
        check(&format!("{good}{bad}{again}"), Some((101.25, "/d/log/1.log")), true);
        assert!(!Trace::parse(halves).failure.unwrap().is_log());
    }
}
