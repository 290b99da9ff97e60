//! Calls as a user of the toolkit makes them: `Client::call` and `Client::serve`, each on a connection and a runtime of
//! its own. Beside `rpc-1` and `rpc-64`, which are the same traffic as bare frames, the difference is what the
//! toolkit costs.

use anyhow::{Context as _, Result, anyhow};
use leveret::dialect::Dialect;
use leveret::{Answer, Client, FieldTable, Payload, Properties, Worker};
use leveret_bench::connection::Connection;
use leveret_bench::load::{Counters, Histogram};
use leveret_bench::rpc;
use leveret_client::{Consume, Flush, Publish, QueueDeclare};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SERVICE: &str = "bench.toolkit";
/// The recipe that this project grew from: one durable request queue, answers by topic.
const RECIPE_SERVICE: &str = "bench.recipe";
const RECIPE_WORKERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(10);

/// Workers that echo, and what keeps them running.
pub(super) struct Workers {
    runtime: Runtime,
    workers: Vec<Worker>,
}

impl Workers {
    /// One worker of the toolkit, as `client.serve` makes it, with enough concurrency for the load.
    pub(super) fn echo(url: &str) -> Result<Workers> {
        Workers::start(url, 1, SERVICE, &[Dialect::Profile])
    }

    fn start(url: &str, count: usize, service: &str, dialects: &[Dialect]) -> Result<Workers> {
        let runtime = runtime()?;
        let workers = runtime.block_on(async {
            let mut workers = Vec::new();
            for _ in 0..count {
                let client = Client::connect(url).await?;
                let echo =
                    leveret::raw(|request: leveret::Request| async { Ok(Answer::One(request.payload)) });
                let serve = client.serve(service, echo).concurrency(256).dialects(dialects);
                workers.push(serve.start().await?);
            }
            anyhow::Ok(workers)
        })?;
        Ok(Workers { runtime, workers })
    }

    pub(super) fn stop(self) -> Result<()> {
        let Workers { runtime, workers } = self;
        let drained = async {
            for worker in workers {
                worker.drain().await;
            }
        };
        let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, drained).await });
        runtime.shutdown_timeout(PATIENCE);
        ended.context("a worker did not drain")
    }
}

/// Calls until stopped, `in_flight` at a time; returns how long answers took.
pub(super) fn call(url: &str, in_flight: u32, counters: &Arc<Counters>) -> Result<Histogram> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let client = Client::connect(url).await?;
        let callers: Vec<_> =
            (0..in_flight).map(|_| tokio::spawn(one_caller(client.clone(), counters.clone()))).collect();
        let mut latencies = Histogram::default();
        for caller in callers {
            latencies.merge(&caller.await.map_err(|_| anyhow!("a caller panicked"))??);
        }
        client.close().await;
        anyhow::Ok(latencies)
    });
    runtime.shutdown_timeout(PATIENCE);
    ended
}

async fn one_caller(client: Client, counters: Arc<Counters>) -> Result<Histogram> {
    let payload = Payload::bytes(vec![b'?'; rpc::BODY_BYTES]);
    let mut latencies = Histogram::default();
    while !counters.stopped() {
        let asked = Instant::now();
        counters.sent.fetch_add(1, Ordering::Relaxed);
        client.request(SERVICE, payload.clone()).timeout(PATIENCE).await?;
        counters.received.fetch_add(1, Ordering::Relaxed);
        if counters.is_recording() {
            latencies.record(asked.elapsed());
        }
    }
    Ok(latencies)
}

/// The recipe as its users run it: for each question a response queue of its own, bound by the question's id, and a
/// thin JSON wrapper; three workers of the toolkit share the durable request queue.
pub(super) fn recipe_workers(url: &str) -> Result<Workers> {
    Workers::start(url, RECIPE_WORKERS, RECIPE_SERVICE, &[Dialect::Seed])
}

/// Asks one question after the other until stopped.
pub(super) fn ask_by_recipe(url: &str, counters: &Counters) -> Result<Histogram> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let connection =
            leveret_client::Connection::open(&leveret_client::ConnectOptions::parse(url)?).await?;
        let mut latencies = Histogram::default();
        for number in 0_u64.. {
            if counters.stopped() {
                break;
            }
            let asked = Instant::now();
            counters.sent.fetch_add(1, Ordering::Relaxed);
            one_question(&connection, &format!("{}-{number}", std::process::id())).await?;
            counters.received.fetch_add(1, Ordering::Relaxed);
            if counters.is_recording() {
                latencies.record(asked.elapsed());
            }
        }
        connection.close().await;
        anyhow::Ok(latencies)
    });
    runtime.shutdown_timeout(PATIENCE);
    ended
}

async fn one_question(connection: &leveret_client::Connection, qid: &str) -> Result<()> {
    let channel = connection.channel().await?;
    let responses = channel.declare_queue(&QueueDeclare::exclusive("")).await?.name;
    channel.bind_queue(&responses, "amq.topic", qid, FieldTable::new()).await?;
    let mut answers = channel.consume(&Consume::queue(&responses).no_ack()).await?;
    let body = serde_json::json!({ "q": "how is the weather?", "qid": qid }).to_string();
    let properties = Properties {
        content_type: Some(b"application/json".to_vec()),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let publish = Publish {
        exchange: "",
        routing_key: RECIPE_SERVICE,
        mandatory: false,
        properties: &properties,
        body: body.as_bytes(),
        flush: Flush::Now,
    };
    channel.publish(&publish).await?;
    let answer = tokio::time::timeout(PATIENCE, answers.next()).await.context("no answer")?;
    answer.context("the response queue went away")?;
    channel.delete_queue(&responses).await?;
    channel.close().await?;
    Ok(())
}

/// Bare frames ask, so that the worker is what is measured.
pub(super) fn ask_worker(connection: Connection, in_flight: u32, counters: &Counters) -> Result<Histogram> {
    Ok(rpc::request(connection, SERVICE, in_flight, counters)?)
}

/// What a request that is left in the queue would do to the next round.
pub(super) fn clear(control: &mut Connection) -> Result<()> {
    control.delete_queue(SERVICE)?;
    control.delete_queue(RECIPE_SERVICE)?;
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
