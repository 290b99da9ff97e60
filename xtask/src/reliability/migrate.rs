//! `leveret migrate` from our broker to RabbitMQ, killed with -9 again and again while a publisher goes on at the source.
//!
//! ```text
//!   publisher ─► Leveret ─► leveret migrate ─► RabbitMQ      quick: one node
//!                              killed, resumed                full: three nodes, quorum queues
//! ```
//!
//! Passes if every confirmed message is at the destination, in order, with at most one copy that is not marked as
//! possibly being there twice, and if the last run says that it is complete.

use anyhow::{Context, Result, ensure};
use leveret_client::{ConnectOptions, Connection, Consume, Publish, QueueDeclare};
use leveret_testkit::rabbitmq::RabbitMq;
use leveret_testkit::rabbitmq_cluster::RabbitMqCluster;
use leveret_testkit::random::Random;
use leveret_wire::Properties;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Plan;
use super::site::Site;
use super::verdict::Verdict;

/// Header of a message that may be there twice.
const MARK: &str = "x-leveret-migrated";
/// A killed run lives that long.
const LIFE_MS: std::ops::Range<u64> = 300..2_000;
/// Between two messages of the publisher that goes on.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(2);
/// Nothing more comes out of a queue after that.
const SILENCE: Duration = Duration::from_millis(500);
/// Messages that are waited for at a time when the queues are filled.
const FILL_WINDOW: u64 = 2_000;

/// The brokers and how much there is to move.
struct Scene<'s> {
    site: &'s Site,
    source: String,
    destination: String,
    to_quorum: bool,
    queues: u64,
    messages: u64,
}

/// RabbitMQ, stopped when dropped.
enum Destination {
    Node(RabbitMq),
    Cluster(RabbitMqCluster),
}

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let server = site.start().context("failed start")?;
    let destination = if plan.is_quick() {
        Destination::Node(RabbitMq::start()?)
    } else {
        Destination::Cluster(RabbitMqCluster::start()?)
    };
    let scene = Scene {
        site,
        source: format!("amqp://guest:guest@{}/%2f", server.address()),
        destination: destination.urls(),
        to_quorum: !plan.is_quick(),
        queues: plan.rounds(10, 50),
        messages: plan.rounds(20_000, 200_000),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(scene.play(plan, verdict))?;
    Ok(server.kill().map(drop)?)
}

impl Destination {
    fn urls(&self) -> String {
        match self {
            Destination::Node(node) => format!("amqp://guest:guest@{}/%2f", node.addr()),
            Destination::Cluster(cluster) => cluster.urls().join(","),
        }
    }
}

impl Scene<'_> {
    async fn play(&self, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
        std::fs::write(self.definitions(), self.document().to_string())?;
        let source = Connection::open(&ConnectOptions::parse(&self.source)?).await?;
        self.fill(&source).await.context("filling the source")?;
        let goes_on = Arc::new(AtomicBool::new(true));
        let publisher = tokio::spawn(publish_on(source, self.queues, self.messages, goes_on.clone()));
        let kills = plan.rounds(4, 10);
        let killed = self.kill_runs(kills, &mut Random::new(plan.seed));
        goes_on.store(false, Ordering::Relaxed);
        let published = publisher.await?.context("the publisher beside the migration")?;
        verdict.fact(format!(
            "{published} messages in {} queues, {} of {kills} runs killed",
            self.queues, killed?
        ));
        let report = self.last_run()?;
        verdict.demand(report["complete"] == json!(true), "not complete", &report);
        self.judge(published, verdict).await
    }

    fn definitions(&self) -> PathBuf {
        self.site.folder().join("definitions.json")
    }

    fn document(&self) -> Value {
        let queue = |number| json!({"vhost": "/", "name": queue_name(number), "durable": true});
        json!({"vhosts": [{"name": "/"}], "queues": (0..self.queues).map(queue).collect::<Vec<_>>()})
    }

    async fn fill(&self, source: &Connection) -> Result<()> {
        let channel = source.confirm_channel().await?;
        for queue in 0..self.queues {
            channel.channel().declare_queue(&QueueDeclare::durable(&queue_name(queue))).await?;
        }
        let properties = persistent();
        for window in (0..self.messages).step_by(FILL_WINDOW as usize) {
            let mut confirms = Vec::new();
            for number in window..self.messages.min(window + FILL_WINDOW) {
                let (queue, body) = (queue_name(number % self.queues), body(number));
                let publish = Publish { properties: &properties, ..Publish::to_queue(&queue, &body) };
                confirms.push(channel.publish(&publish).await?);
            }
            for confirm in confirms {
                confirm.await?;
            }
        }
        Ok(())
    }

    /// How many runs were killed that had not ended by themselves.
    fn kill_runs(&self, kills: u64, random: &mut Random) -> Result<u64> {
        let mut killed = 0;
        for _ in 0..kills {
            let mut run = self.migrate()?.stdout(Stdio::null()).spawn()?;
            std::thread::sleep(Duration::from_millis(
                LIFE_MS.start + random.below(LIFE_MS.end - LIFE_MS.start),
            ));
            killed += u64::from(run.try_wait()?.is_none());
            run.kill()?;
            run.wait()?;
        }
        Ok(killed)
    }

    fn last_run(&self) -> Result<Value> {
        let output = self.migrate()?.output()?;
        let report = serde_json::from_slice(&output.stdout);
        report.with_context(|| format!("the last run ended with {}", output.status))
    }

    fn migrate(&self) -> Result<Command> {
        let log = self.site.folder().join("migrate.log");
        let log = File::options().create(true).append(true).open(log)?;
        let mut migrate = Command::new(&self.site.launcher().binary);
        migrate.args(["migrate", "--from", &self.source, "--to", &self.destination, "--json"]);
        migrate.args(["--management-from", "none", "--management-to", "none", "--definitions"]);
        migrate.arg(self.definitions()).arg("--state").arg(self.site.folder().join("state.json"));
        if self.to_quorum {
            migrate.args(["--queue-type", "quorum"]);
        }
        migrate.stdin(Stdio::null()).stderr(log);
        Ok(migrate)
    }

    async fn judge(&self, published: u64, verdict: &mut Verdict) -> Result<()> {
        let destination = Connection::open(&ConnectOptions::parse(&self.destination)?).await?;
        let (mut copies, mut marked) = (BTreeMap::<u64, u64>::new(), 0);
        for queue in 0..self.queues {
            let name = queue_name(queue);
            let mut newest = None;
            for (number, is_marked) in drain(&destination, &name).await? {
                let seen = copies.entry(number).or_default();
                if *seen == 0 {
                    verdict.demand(
                        Some(number) > newest,
                        "out of order",
                        format!("{name}: {number} after {newest:?}"),
                    );
                    newest = Some(number);
                } else {
                    verdict.demand(is_marked, "a second copy without a mark", format!("{name}: {number}"));
                }
                *seen += 1;
                marked += u64::from(is_marked);
            }
        }
        for number in (0..published).filter(|number| !copies.contains_key(number)) {
            verdict.fault("lost", number);
        }
        let twice = copies.values().filter(|copies| **copies > 1).count();
        verdict.fact(format!("{} arrived, {twice} of them twice, {marked} copies marked", copies.len()));
        Ok(())
    }
}

/// Publishes one message after the other until told to stop; the number of the next one that would have come.
async fn publish_on(source: Connection, queues: u64, first: u64, goes_on: Arc<AtomicBool>) -> Result<u64> {
    let channel = source.confirm_channel().await?;
    let properties = persistent();
    let mut number = first;
    while goes_on.load(Ordering::Relaxed) {
        let (queue, body) = (queue_name(number % queues), body(number));
        let publish = Publish { properties: &properties, ..Publish::to_queue(&queue, &body) };
        channel.publish(&publish).await?.await?;
        number += 1;
        tokio::time::sleep(PUBLISH_INTERVAL).await;
    }
    Ok(number)
}

/// The numbers in a queue, in order, and whether each is marked.
async fn drain(connection: &Connection, queue: &str) -> Result<Vec<(u64, bool)>> {
    let channel = connection.channel().await?;
    let mut consumer = channel.consume(&Consume::queue(queue).no_ack()).await?;
    let mut found = Vec::new();
    while let Ok(Some(delivery)) = tokio::time::timeout(SILENCE, consumer.next()).await {
        let number = delivery.body.get(..8).and_then(|octets| octets.try_into().ok()).map(u64::from_be_bytes);
        let number = number.context("a body that nobody published")?;
        ensure!(delivery.body[..] == body(number)[..], "message {number} has another body");
        found.push((
            number,
            delivery.properties().headers().is_some_and(|headers| headers.find(MARK).is_some()),
        ));
    }
    Ok(found)
}

fn queue_name(number: u64) -> String {
    format!("migrate.{number}")
}

fn persistent() -> Properties {
    Properties { delivery_mode: Some(2), ..Properties::default() }
}

/// The number, then octets that follow from it.
fn body(number: u64) -> Vec<u8> {
    let mut random = Random::new(number);
    let mut body = number.to_be_bytes().to_vec();
    body.extend((0..number % 16).flat_map(|_| random.next().to_be_bytes()));
    body
}
