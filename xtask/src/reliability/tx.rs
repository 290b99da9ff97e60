//! A kill right after `tx.commit-ok`, or before it (P3).
//!
//! A transaction takes messages from one queue and puts others into another. After `commit-ok` every one of both is
//! final: nothing that it published is lost, nothing that it acknowledged comes back. Without it each
//! queue shows all of the transaction or none of it.

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use leveret_wire::method::{BasicPublish, QueueDeclare, QueueDelete, TxCommit, TxSelect};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Plan;
use super::client::{CALL_TIMEOUT, Client, Ended, Event};
use super::message::Message;
use super::site::Site;
use super::verdict::Verdict;

const IN: &str = "reliability.tx.in";
const OUT: &str = "reliability.tx.out";
const MESSAGES_MAX: u64 = 20;
const BODY_MAX_BYTES: u64 = 4096;
/// How long after sending `commit` the kill comes when nobody waits for the answer.
const BEFORE_ANSWER_US: u64 = 600;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let mut random = Random::new(plan.seed);
    let rounds = plan.rounds(20, 500);
    let mut story = Story { seed: plan.seed, last_id: 0, committed: 0, all: 0, none: 0 };
    for round in 0..rounds {
        let answer = if round % 2 == 0 { Answer::Awaited } else { Answer::NotAwaited };
        story.round(site, &mut random, answer, verdict).with_context(|| format!("round {round}"))?;
    }
    let Story { committed, all, none, .. } = story;
    verdict.count("kills", rounds);
    verdict.fact(format!(
        "{committed} kills on commit-ok; before it, {all} queues had all of it and {none} nothing"
    ));
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Awaited,
    NotAwaited,
}

struct Story {
    seed: u64,
    last_id: u64,
    committed: u64,
    all: u64,
    none: u64,
}

impl Story {
    fn round(
        &mut self,
        site: &Site,
        random: &mut Random,
        answer: Answer,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let server = site.start().context("failed start")?;
        let mut client = Client::open(server.address())?;
        for queue in [IN, OUT] {
            client.call(QueueDeclare { queue, durable: true, ..Default::default() })?;
        }
        let waiting = self.fill(&mut client, 1 + random.below(MESSAGES_MAX), random)?;
        let mut client = Client::open(server.address())?;
        client.call(TxSelect)?;
        let taken = take(&mut client, IN, 1 + random.below(waiting.len() as u64))?;
        let published = self.publish(&mut client, OUT, 1 + random.below(MESSAGES_MAX), random)?;
        client.send(TxCommit)?;
        client.flush()?;
        match answer {
            Answer::Awaited => drop(client.answer()?),
            Answer::NotAwaited => std::thread::sleep(Duration::from_micros(random.below(BEFORE_ANSWER_US))),
        }
        server.kill()?;
        let server = site.start().context("failed start")?;
        let (found_in, found_out) = (empty(server.address(), IN)?, empty(server.address(), OUT)?);
        server.kill()?;
        let after = waiting.difference(&taken).copied().collect();
        match answer {
            Answer::Awaited => {
                self.committed += 1;
                verdict.demand(
                    found_in == after,
                    "acknowledged in a committed transaction and back",
                    shown(&found_in, &after),
                );
                verdict.demand(
                    found_out == published,
                    "published in a committed transaction and lost",
                    shown(&found_out, &published),
                );
            }
            Answer::NotAwaited => {
                self.all_or_none(&found_in, &after, &waiting, verdict);
                self.all_or_none(&found_out, &published, &BTreeSet::new(), verdict);
            }
        }
        Ok(())
    }

    fn all_or_none(
        &mut self,
        found: &BTreeSet<u64>,
        all: &BTreeSet<u64>,
        none: &BTreeSet<u64>,
        verdict: &mut Verdict,
    ) {
        if found == all {
            self.all += 1;
        } else if found == none {
            self.none += 1;
        } else {
            verdict.fault("half a transaction", format!("{}, or {none:x?}", shown(found, all)));
        }
    }

    /// Confirmed messages in `IN`.
    fn fill(&mut self, client: &mut Client, count: u64, random: &mut Random) -> Result<BTreeSet<u64>, Ended> {
        client.select_confirms()?;
        let ids = self.publish(client, IN, count, random)?;
        client.flush()?;
        let mut confirmed = 0;
        while confirmed < count {
            match client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
                Event::Confirm { tag, multiple: true, kept: true } => confirmed = tag,
                Event::Confirm { kept: true, .. } => confirmed += 1,
                other => return Err(Ended::Garbled(format!("{other:?} instead of a confirm"))),
            }
        }
        Ok(ids)
    }

    fn publish(
        &mut self,
        client: &mut Client,
        queue: &str,
        count: u64,
        random: &mut Random,
    ) -> Result<BTreeSet<u64>, Ended> {
        let mut ids = BTreeSet::new();
        for _ in 0..count {
            self.last_id += 1;
            let message = Message::new(self.seed, self.last_id);
            let body = message.body_of(random.below(BODY_MAX_BYTES) as usize);
            let publish = BasicPublish { routing_key: queue, ..Default::default() };
            client.publish(publish, &message.properties(), &body)?;
            ids.insert(self.last_id);
        }
        Ok(ids)
    }
}

fn shown(found: &BTreeSet<u64>, expected: &BTreeSet<u64>) -> String {
    format!("found {found:x?}, expected {expected:x?}")
}

/// Gets `count` messages and acknowledges them on the client's channel.
fn take(client: &mut Client, queue: &str, count: u64) -> Result<BTreeSet<u64>, Ended> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let Some((id, tag)) = client.get_numbered(queue)? else { break };
        client.ack(tag, false);
        ids.insert(id);
    }
    Ok(ids)
}

/// Takes everything out of a queue and removes it.
fn empty(address: SocketAddr, queue: &str) -> Result<BTreeSet<u64>, Ended> {
    let mut client = Client::open(address)?;
    let mut ids = BTreeSet::new();
    while let Some((id, tag)) = client.get_numbered(queue)? {
        client.ack(tag, false);
        ids.insert(id);
    }
    // The next round starts without it. A kill may bring back what was just acknowledged, but not the queue (P2).
    client.call(QueueDelete { queue, ..Default::default() })?;
    Ok(ids)
}
