//! How long after the fact a caller hears of it, kind by kind, beside what an answered call takes on this broker at that
//! moment: a machine that is busy with other things is slow to say anything. Prints a table:
//! `cargo test -p leveret --test latency -- --nocapture`
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use leveret::{CallError, Client, Context, Failure, Handler, Worker};
use leveret_client::{Backoff, Consume};
use leveret_testkit::fault_proxy::FaultProxy;
use support::{LONG, Site, Wire, slow, soon, square, start, until};
use tokio::sync::mpsc;

const REPETITIONS: usize = 31;
/// What a slow machine that does other things besides may take; a quiet one takes a fifth of it.
const MEDIAN_MAX: Duration = Duration::from_millis(50);
/// If that is less than so many answered calls, these: a bounce and the question that follows it are several round trips,
/// and a queue on three nodes agrees on each step.
const CALLS_MAX: u32 = 5;

/// From the fact to the error, one for each repetition.
type Times = Vec<Duration>;

#[tokio::test]
async fn every_error_is_told_within_milliseconds() {
    let calls = AnsweredCalls::begin().await;
    let kinds: [(&str, (Times, Times)); 11] = [
        ("no_route", calls.beside(no_route()).await),
        ("no_worker", calls.beside(no_worker()).await),
        ("busy", calls.beside(busy()).await),
        ("overloaded", calls.beside(overloaded()).await),
        ("rejected", calls.beside(rejected()).await),
        ("remote", calls.beside(remote()).await),
        ("undecodable", calls.beside(undecodable()).await),
        ("expired in queue", calls.beside(expired()).await),
        ("connection lost", calls.beside(connection_lost()).await),
        ("closed", calls.beside(closed()).await),
        ("cancelled (worker)", calls.beside(cancelled()).await),
    ];
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    println!("{:<20} {:>9} {:>9} {:>9} {:>9}  ms", "error", "median", "90 %", "longest", "a call");
    let mut late = Vec::new();
    for (kind, (times, answered)) in kinds {
        let [median, ninety, longest] = [50, 90, 100].map(|percent| percentile(&times, percent));
        let call = percentile(&answered, 50);
        println!("{kind:<20} {:>9.2} {:>9.2} {:>9.2} {:>9.2}", ms(median), ms(ninety), ms(longest), ms(call));
        if median > MEDIAN_MAX.max(call * CALLS_MAX) {
            late.push(kind);
        }
    }
    assert!(late.is_empty(), "more than {MEDIAN_MAX:?} and {CALLS_MAX} answered calls: {late:?}");
}

fn percentile(times: &Times, percent: usize) -> Duration {
    let mut times = times.clone();
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

/// What everything is compared with.
struct AnsweredCalls {
    client: Client,
    service: String,
    _worker: Worker,
}

impl AnsweredCalls {
    async fn begin() -> AnsweredCalls {
        let site = Site::new();
        let client = site.client().await;
        let worker = site.serve(&client, "square", square()).start().await.unwrap();
        AnsweredCalls { client, service: site.name("square"), _worker: worker }
    }

    /// What `measured` gives, and what calls took just before and after it.
    async fn beside(&self, measured: impl Future<Output = Times>) -> (Times, Times) {
        let mut answered = self.times().await;
        let times = measured.await;
        answered.extend(self.times().await);
        (times, answered)
    }

    async fn times(&self) -> Times {
        let mut times = Vec::new();
        for _ in 0..REPETITIONS {
            let asked = Instant::now();
            let answer: i64 = self.client.call(&self.service, &7).timeout(LONG).await.unwrap();
            times.push(asked.elapsed());
            assert_eq!(answer, 49);
        }
        times
    }
}

fn is(error: &CallError, kind: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
}

async fn no_route() -> Times {
    let site = Site::new();
    let client = site.client().await;
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        let fact = Instant::now();
        let error = client.call::<_, ()>(&site.name("nobody"), &()).await.unwrap_err();
        times.push(fact.elapsed());
        is(&error, "no_route");
    }
    times
}

/// The queue is there, and nobody consumes it.
async fn no_worker() -> Times {
    let site = Site::new();
    let client = site.client().await;
    site.serve(&client, "gone", slow(LONG)).start().await.unwrap().drain().await;
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        // Longer than the client remembers that nobody was there.
        tokio::time::sleep(Duration::from_millis(110)).await;
        let fact = Instant::now();
        let error = client.call::<_, ()>(&site.name("gone"), &()).fail_fast().await.unwrap_err();
        times.push(fact.elapsed());
        is(&error, "no_worker");
    }
    times
}

async fn busy() -> Times {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "slow", slow(LONG)).concurrency(1).start().await.unwrap();
    let occupied = start(client.call::<_, ()>(&site.name("slow"), &()));
    until("the worker is busy", || worker.stats().in_flight == 1).await;
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        let fact = Instant::now();
        let error = client.call::<_, ()>(&site.name("slow"), &()).fail_fast().await.unwrap_err();
        times.push(fact.elapsed());
        is(&error, "busy");
    }
    occupied.abort();
    times
}

/// One waits; the next one pushes it out.
async fn overloaded() -> Times {
    let site = Site::new();
    let client = site.client().await;
    let serve = site.serve(&client, "slow", slow(LONG)).concurrency(1).queue_length(1);
    let worker = serve.start().await.unwrap();
    let occupied = start(client.call::<_, ()>(&site.name("slow"), &()));
    until("the worker is busy", || worker.stats().in_flight == 1).await;
    let mut waiting = start(client.call::<_, ()>(&site.name("slow"), &()));
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        let fact = Instant::now();
        let next = start(client.call::<_, ()>(&site.name("slow"), &()));
        let error = soon(waiting).await.unwrap().unwrap_err();
        times.push(fact.elapsed());
        is(&error, "overloaded");
        waiting = next;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    occupied.abort();
    waiting.abort();
    times
}

/// A program without any library of ours gives the request back.
async fn rejected() -> Times {
    let site = Site::new();
    let client = site.client().await;
    site.serve(&client, "picky", slow(LONG)).start().await.unwrap().drain().await;
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    let mut requests = channel.consume(&Consume::queue(&site.name("picky"))).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        let call = start(client.call::<_, ()>(&site.name("picky"), &()));
        let request = soon(requests.next()).await.unwrap();
        let fact = Instant::now();
        request.reject(false);
        channel.flush();
        let error = soon(call).await.unwrap().unwrap_err();
        times.push(fact.elapsed());
        is(&error, "rejected");
    }
    times
}

/// Says when it answered.
fn telling(facts: mpsc::UnboundedSender<Instant>, outcome: Result<i64, Failure>) -> impl Handler {
    leveret::handler(move |_: Context, ()| {
        let (facts, outcome) = (facts.clone(), outcome.clone());
        async move {
            facts.send(Instant::now()).unwrap();
            outcome
        }
    })
}

async fn remote() -> Times {
    answered(Err(Failure::not_found("no such place")), "remote").await
}

async fn undecodable() -> Times {
    answered(Ok(49), "undecodable").await
}

async fn answered(outcome: Result<i64, Failure>, kind: &str) -> Times {
    let site = Site::new();
    let client = site.client().await;
    let (facts, mut fact) = mpsc::unbounded_channel();
    let worker = site.serve(&client, "tells", telling(facts, outcome)).start().await.unwrap();
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        let error = client.call::<_, Vec<String>>(&site.name("tells"), &()).await.unwrap_err();
        times.push(fact.recv().await.unwrap().elapsed());
        is(&error, kind);
    }
    worker.drain().await;
    times
}

/// What comes after the deadline.
async fn expired() -> Times {
    const TIMEOUT: Duration = Duration::from_millis(60);
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "slow", slow(LONG)).concurrency(1).start().await.unwrap();
    let occupied = start(client.call::<_, ()>(&site.name("slow"), &()));
    until("the worker is busy", || worker.stats().in_flight == 1).await;
    let mut times = Vec::new();
    for _ in 0..REPETITIONS {
        let asked = Instant::now();
        let error = client.call::<_, ()>(&site.name("slow"), &()).timeout(TIMEOUT).await.unwrap_err();
        times.push(asked.elapsed().saturating_sub(TIMEOUT));
        is(&error, "expired");
    }
    occupied.abort();
    times
}

async fn connection_lost() -> Times {
    let wire = Wire::start().await;
    let proxy = FaultProxy::start(wire.address(0)).unwrap();
    let backoff = Backoff { min: Duration::from_millis(5), max: Duration::from_millis(20) };
    let builder = Client::builder().connection(move |options| options.backoff(backoff));
    let (site, steady) = (wire.site(&[proxy.address()]), wire.site(&[wire.address(0)]).client().await);
    let client = site.connect(builder).await;
    let worker = site.serve(&steady, "slow", slow(LONG)).start().await.unwrap();
    let mut times = Vec::new();
    for number in 1..=REPETITIONS as u64 {
        let call = start(client.call::<_, ()>(&site.name("slow"), &()));
        until("the work began", || worker.stats().requests == number).await;
        let fact = Instant::now();
        proxy.cut();
        let error = soon(call).await.unwrap().unwrap_err();
        times.push(fact.elapsed());
        is(&error, "connection_lost");
    }
    times
}

/// The client is closed while a call waits.
async fn closed() -> Times {
    let site = Site::new();
    let steady = site.client().await;
    let worker = site.serve(&steady, "slow", slow(LONG)).start().await.unwrap();
    let mut times = Vec::new();
    for number in 1..=REPETITIONS as u64 {
        let client = site.client().await;
        let call = start(client.call::<_, ()>(&site.name("slow"), &()));
        until("the work began", || worker.stats().requests == number).await;
        let fact = Instant::now();
        client.close().await;
        let error = soon(call).await.unwrap().unwrap_err();
        times.push(fact.elapsed());
        is(&error, "connection_lost");
    }
    times
}

/// The caller goes; it is the worker that hears of it, and stops.
async fn cancelled() -> Times {
    struct Bell(mpsc::UnboundedSender<Instant>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.send(Instant::now()).unwrap();
        }
    }
    let site = Site::new();
    let client = site.client().await;
    let (sender, mut stopped) = mpsc::unbounded_channel();
    let sender = Arc::new(sender);
    let handler = leveret::handler(move |_: Context, ()| {
        let bell = Bell((*sender).clone());
        async move {
            tokio::time::sleep(LONG).await;
            drop(bell);
            Ok::<_, Failure>(())
        }
    });
    let worker = site.serve(&client, "long", handler).start().await.unwrap();
    let mut times = Vec::new();
    for number in 1..=REPETITIONS as u64 {
        let call = start(client.call::<_, ()>(&site.name("long"), &()));
        until("the work began", || worker.stats().requests == number).await;
        let fact = Instant::now();
        call.abort();
        times.push(soon(stopped.recv()).await.unwrap().duration_since(fact));
    }
    worker.drain().await;
    times
}
