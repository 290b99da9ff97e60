//! The management API of a broker with 10,000 queues and 1,000 connections, each with a channel and a consumer, publishing once a
//! second; and then 1,000 queues that come and go again and again while somebody looks.
//!
//! Passes if every page of every list is there within 100 ms (p99), and if the memory is what it was when the queues are gone. A slow
//! machine, or one that others use, keeps `/health/live` waiting too, which does nothing: ten times what that waits is granted on top.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leveret_client::{Channel, ConnectOptions, Connection, Consume, Publish, QueueDeclare};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Plan;
use super::doors::Doors;
use super::http::demand;
use super::site::Site;
use super::verdict::Verdict;

const PAGE_P99_MAX: Duration = Duration::from_millis(100);
const SLOW_MACHINE_FACTOR: u32 = 10;
const IDLE: &str = "/health/live";
/// The pages that the console and monitoring ask for.
const PAGES: [&str; 13] = [
    "/api/overview",
    "/api/nodes",
    "/api/queues?page=1&page_size=100",
    "/api/queues?page=10&page_size=100&sort=messages_ready&sort_reverse=true",
    "/api/queues?page=1&page_size=100&sort=message_stats.publish_details.rate&sort_reverse=true",
    "/api/queues?page=1&page_size=100&name=9&use_regex=true",
    "/api/exchanges?page=1&page_size=100",
    "/api/bindings/%2F?page=1&page_size=100",
    "/api/connections?page=1&page_size=100",
    "/api/connections?page=1&page_size=100&sort=recv_oct_details.rate&sort_reverse=true",
    "/api/channels?page=1&page_size=100",
    "/api/vhosts",
    "/metrics",
];
const PAUSE: Duration = Duration::from_millis(5);
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// So many connections are opened at a time.
const OPENING: usize = 50;
const CHURNED_QUEUES: usize = 1_000;
const RESIDENT_GROWTH_MAX: f64 = 1.05;
/// From the last look to the last octet given back.
const RETURN_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let doors = Doors::open(site)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let queues = plan.rounds(2_000, 10_000) as usize;
    let begun = Instant::now();
    demand(doors.http, "POST", "/api/definitions", &definitions(queues).to_string())?;
    verdict.fact(format!("{queues} queues with bindings imported in {} ms", begun.elapsed().as_millis()));
    let url = format!("amqp://guest:guest@{}/%2f", doors.amqp);
    let load = Load::begin(&runtime, &url, plan.rounds(200, 1_000) as usize)?;
    look(doors.http, plan.rounds(100, 300), verdict)?;
    load.end(&runtime, verdict)?;
    churn(&doors, &runtime, &url, Duration::from_secs(plan.rounds(10, 60)), verdict)?;
    doors.close()
}

fn definitions(queues: usize) -> Value {
    let queue = |number| json!({ "name": name(number), "vhost": "/", "durable": true, "auto_delete": false, "arguments": {} });
    let binding = |number| {
        json!({
            "source": "amq.topic", "vhost": "/", "destination": name(number), "destination_type": "queue",
            "routing_key": format!("key.{number}"), "arguments": {},
        })
    };
    json!({
        "queues": (0..queues).map(queue).collect::<Value>(),
        "bindings": (0..queues).map(binding).collect::<Value>(),
    })
}

fn name(number: usize) -> String {
    format!("queue-{number}")
}

/// Asks for every page again and again, and judges what each took.
fn look(api: SocketAddr, rounds: u64, verdict: &mut Verdict) -> Result<()> {
    let mut times = vec![Vec::new(); PAGES.len()];
    let mut idle = Vec::new();
    for _ in 0..rounds {
        for (page, times) in PAGES.iter().zip(&mut times) {
            times.push(time(api, page)?);
            idle.push(time(api, IDLE)?);
            std::thread::sleep(PAUSE);
        }
    }
    let machine = p99(&mut idle);
    let allowed = PAGE_P99_MAX + machine * SLOW_MACHINE_FACTOR;
    verdict.fact(format!("{IDLE}: p99 {:.1} ms; allowed for a page: {:.1} ms", ms(machine), ms(allowed)));
    for (page, times) in PAGES.iter().zip(&mut times) {
        let p99 = p99(times);
        let median = times[times.len() / 2];
        verdict.fact(format!("{page}: median {:.1} ms, p99 {:.1} ms", ms(median), ms(p99)));
        verdict.demand(p99 <= allowed, "a page is slow", format!("{page}: p99 {:.1} ms", ms(p99)));
    }
    Ok(())
}

fn time(api: SocketAddr, path: &str) -> Result<Duration> {
    let began = Instant::now();
    demand(api, "GET", path, "")?;
    Ok(began.elapsed())
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort();
    let rank = (times.len() * 99).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Connections, each with a queue that it publishes to and consumes from.
struct Load {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    began: Instant,
    connections: Vec<Connection>,
}

impl Load {
    fn begin(runtime: &Runtime, url: &str, count: usize) -> Result<Load> {
        let stop = Arc::new(AtomicBool::new(false));
        let (published, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut load = Load { stop, published, received, began: Instant::now(), connections: Vec::new() };
        let numbers: Vec<usize> = (0..count).collect();
        for together in numbers.chunks(OPENING) {
            let opening = together.iter().map(|number| {
                let (url, counts) = (url.to_owned(), (load.published.clone(), load.received.clone()));
                runtime.spawn(talk(url, *number, load.stop.clone(), counts))
            });
            let opening: Vec<_> = opening.collect();
            for one in opening {
                load.connections.push(runtime.block_on(one)??);
            }
        }
        load.began = Instant::now();
        Ok(load)
    }

    /// Ends it; what was published has to have arrived, at the pace that was meant.
    fn end(self, runtime: &Runtime, verdict: &mut Verdict) -> Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        std::thread::sleep(2 * PUBLISH_EVERY);
        let (published, received) =
            (self.published.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed));
        let open = self.connections.iter().filter(|connection| connection.is_open()).count();
        verdict.fact(format!(
            "{open} connections published {published} and received {received} messages in {seconds:.0} s"
        ));
        verdict.demand(published == received, "not delivered", format!("{received} of {published}"));
        verdict.demand(open == self.connections.len(), "connections ended", self.connections.len() - open);
        for connection in &self.connections {
            runtime.block_on(connection.close());
        }
        Ok(())
    }
}

/// Opens a connection; what it does goes on behind.
async fn talk(
    url: String,
    number: usize,
    stop: Arc<AtomicBool>,
    (published, received): (Arc<AtomicU64>, Arc<AtomicU64>),
) -> Result<Connection> {
    let connection = Connection::open(&ConnectOptions::parse(&url)?).await?;
    let channel = connection.channel().await?;
    let mut consumer = channel.consume(&Consume::queue(&name(number)).no_ack()).await?;
    tokio::spawn(async move {
        while consumer.next().await.is_some() {
            received.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) && publish(&channel, &name(number)).await {
            published.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PUBLISH_EVERY).await;
        }
        // The consumer ends with its channel: not before the connection does.
        channel.connection().closed().await;
    });
    Ok(connection)
}

async fn publish(channel: &Channel, queue: &str) -> bool {
    let message = Publish::to_queue(queue, b"tick");
    channel.publish(&message).await.is_ok()
}

/// Queues that come and go while somebody looks at them: what is remembered of them goes, too.
fn churn(doors: &Doors, runtime: &Runtime, url: &str, length: Duration, verdict: &mut Verdict) -> Result<()> {
    let connection = runtime.block_on(async { Connection::open(&ConnectOptions::parse(url)?).await })?;
    let channel = runtime.block_on(connection.channel())?;
    let round = |number: u64| -> Result<()> {
        runtime.block_on(declare(&channel, number))?;
        demand(doors.http, "GET", "/api/queues?page=1&page_size=100&name=churned", "")?;
        demand(doors.http, "GET", "/api/overview", "")?;
        runtime.block_on(delete(&channel, number))
    };
    // Memory that the first ones need is kept for the next ones.
    (0..3).try_for_each(round)?;
    let before = doors.resident_bytes()?;
    let began = Instant::now();
    let mut rounds = 3;
    while began.elapsed() < length {
        round(rounds)?;
        rounds += 1;
    }
    let after = settled_bytes(doors, before)?;
    let growth = after as f64 / before as f64;
    verdict.fact(format!(
        "{} queues came and went; memory {} MiB before, {} MiB after",
        rounds * CHURNED_QUEUES as u64,
        before >> 20,
        after >> 20
    ));
    verdict.demand(growth <= RESIDENT_GROWTH_MAX, "memory grows", format!("{growth:.3} times"));
    runtime.block_on(connection.close());
    Ok(())
}

/// What is resident when it is back, or after a while.
fn settled_bytes(doors: &Doors, before: u64) -> Result<u64> {
    let deadline = Instant::now() + RETURN_MAX;
    loop {
        let resident = doors.resident_bytes()?;
        if resident as f64 <= before as f64 * RESIDENT_GROWTH_MAX || Instant::now() > deadline {
            return Ok(resident);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

async fn declare(channel: &Channel, round: u64) -> Result<()> {
    for number in 0..CHURNED_QUEUES {
        let queue = QueueDeclare { name: churned(round, number), ..QueueDeclare::default() };
        channel.declare_queue(&queue).await.context("declare")?;
    }
    Ok(())
}

async fn delete(channel: &Channel, round: u64) -> Result<()> {
    for number in 0..CHURNED_QUEUES {
        let messages = channel.delete_queue(&churned(round, number)).await.context("delete")?;
        ensure!(messages == 0, "nobody published there");
    }
    Ok(())
}

fn churned(round: u64, number: usize) -> String {
    format!("churned-{round}-{number}")
}
