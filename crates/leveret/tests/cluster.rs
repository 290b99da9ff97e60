//! A RabbitMQ cluster of three nodes that loses the one its queue is led by, and then another, under calls and tasks.
//!
//! ```text
//!   2 callers ─▶ quorum queue on 3 nodes ─▶ 2 workers        each has all three addresses
//!                 kill -9 of its leader after a third of the calls, of the next node later; both come back meanwhile
//! ```
//!
//! Promised: every call has one outcome, by its deadline and a second; an answer is the answer to that question; no
//! task is lost; whoever loses a node goes on with another.
//!
//! And a leader that is silent for a second is not taken for workers that are not there.
//!
//! `cargo test -p leveret --test cluster -- --ignored --nocapture` (two minutes)
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::collections::{BTreeMap, HashMap};
use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leveret::{CallError, Client, Context, Failure, Handler, QueueKind, Worker};
use leveret_testkit::rabbitmq_cluster::{NODES, RabbitMqCluster};

/// At least; calling goes on until both nodes are back.
const CALLS: usize = 20_000;
const TASKS: usize = 2_000;
/// Calls and tasks on their way at once.
const CALLERS: usize = 160;
const GIVERS: usize = 16;
/// Keeps the load up while nodes go and come back: they need some ten seconds for each.
const PAUSE: Duration = Duration::from_millis(130);
/// Longer than a queue is without a leader whom all know: that is up to 10 s on a machine that does other things besides.
const DEADLINE: Duration = Duration::from_secs(20);
/// Enough to go on until the deadline.
const RETRIES: u32 = 100;
/// By how much an outcome may be later than the deadline.
const GRACE: Duration = Duration::from_secs(1);
/// For a task to be given, and for the last ones to be done when all are given.
const TASK_TIMEOUT: Duration = Duration::from_secs(40);
const SERVICE: &str = "cluster.square";
const PRINTER: &str = "cluster.printer";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts three RabbitMQ nodes, 80 s: cargo test -p leveret --test cluster -- --ignored --nocapture"]
async fn nodes_fall_silent_and_die() {
    let cluster = Arc::new(RabbitMqCluster::start().unwrap());
    a_silent_leader_is_not_taken_for_absent_workers(&cluster).await;
    calls_and_tasks_outlive_nodes(&cluster).await;
}

/// RabbitMQ says after 250 ms that nobody consumes a queue whose leader does not answer. A worker waits all the time; only
/// a client whose requests do not bounce asks for consumers while its request may still be answered.
async fn a_silent_leader_is_not_taken_for_absent_workers(cluster: &RabbitMqCluster) {
    const SILENCE: Duration = Duration::from_secs(1);
    let urls = cluster.urls();
    let workers = serve(&Client::connect(&urls[0]).await.unwrap(), &Arc::default()).await;
    let leader = leader(cluster);
    let caller = Client::builder().direct_reply_to().connect(&urls[(leader + 1) % NODES]).await.unwrap();
    for n in 0..3 {
        assert_eq!(caller.call::<_, i64>(SERVICE, &n).timeout(DEADLINE).await.unwrap(), n * n);
        cluster.freeze(leader).unwrap();
        let call =
            tokio::spawn(caller.call::<_, i64>(SERVICE, &7).fail_fast().timeout(DEADLINE).into_future());
        tokio::time::sleep(SILENCE).await;
        cluster.thaw(leader).unwrap();
        let outcome = call.await.unwrap();
        assert!(!matches!(outcome, Err(CallError::NoWorker { .. })), "{outcome:?}");
    }
    for worker in workers {
        worker.drain().await;
    }
}

async fn calls_and_tasks_outlive_nodes(cluster: &Arc<RabbitMqCluster>) {
    let urls = cluster.urls();
    let done = Arc::new(Done::default());
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.extend(serve(&connect(&urls).await, &done).await);
    }
    let callers = [connect(&urls).await, connect(&urls).await];
    let ledger = Arc::new(Ledger::default());
    let tasks = tokio::spawn(give_tasks(callers[0].clone()));
    let failing = tokio::spawn(lose_nodes(cluster.clone(), ledger.clone()));
    let calling: Vec<_> = (0..CALLERS)
        .map(|number| tokio::spawn(call(callers[number % 2].clone(), number, ledger.clone())))
        .collect();
    for caller in calling {
        caller.await.unwrap();
    }
    let events = failing.await.unwrap();
    let given = tasks.await.unwrap();
    await_tasks(&done, &given).await;
    report(&ledger, &events, &done, &given, &callers);
    for caller in &callers {
        assert_eq!(caller.in_flight(), 0, "a call left something behind");
    }
    let answer: i64 = callers[0].call(SERVICE, &12).retries(RETRIES).await.unwrap();
    assert_eq!(answer, 144);
    for worker in workers {
        worker.drain().await;
    }
    assert!(ledger.ended.load(Ordering::Relaxed) >= CALLS);
    let ledger = ledger.outcomes.lock().unwrap();
    assert!(!ledger.contains_key("late") && !ledger.contains_key("wrong"), "{ledger:?}");
    let failed_with_retries: usize =
        ledger.iter().filter(|(kind, _)| kind.ends_with(" (retries)")).map(|(_, count)| count).sum();
    assert!(failed_with_retries <= CALLS / 200, "two nodes of three were there all the time: {ledger:?}");
}

/// With all addresses; it begins with any of them.
async fn connect(urls: &[String; NODES]) -> Client {
    Client::connect(&urls.join(",")).await.unwrap()
}

/// How often each piece of work was done.
#[derive(Default)]
struct Done {
    calls: Mutex<HashMap<i64, usize>>,
    tasks: Mutex<HashMap<String, usize>>,
}

async fn serve(client: &Client, done: &Arc<Done>) -> [Worker; 2] {
    let (calls, tasks) = (done.clone(), done.clone());
    let square = leveret::handler(move |_: Context, n: i64| {
        *calls.calls.lock().unwrap().entry(n).or_default() += 1;
        async move { Ok::<_, Failure>(n * n) }
    });
    let printer = leveret::handler(move |cx: Context, _page: usize| {
        let id = cx.message_id().unwrap_or_default().to_owned();
        *tasks.tasks.lock().unwrap().entry(id).or_default() += 1;
        async move { Ok::<_, Failure>(()) }
    });
    [start(client, SERVICE, square).await, start(client, PRINTER, printer).await]
}

async fn start<H: Handler>(client: &Client, service: &str, handler: H) -> Worker {
    client.serve(service, handler).queue_kind(QueueKind::Quorum).concurrency(100).start().await.unwrap()
}

/// What came of the calls, by kind, and when one was answered.
#[derive(Default)]
struct Ledger {
    ended: AtomicUsize,
    /// Nothing more happens to the nodes.
    nodes_are_back: AtomicBool,
    outcomes: Mutex<BTreeMap<String, usize>>,
    answered: [Mutex<Vec<Instant>>; 2],
    slowest: Mutex<Duration>,
    /// The last error of each kind, in its own words.
    words: Mutex<BTreeMap<&'static str, String>>,
}

/// Its share of the calls, one after the other. Every second caller asks again if that may help.
async fn call(client: Client, number: usize, ledger: Arc<Ledger>) {
    let is_over = |n: &usize| *n >= CALLS && ledger.nodes_are_back.load(Ordering::Relaxed);
    for n in (number..).step_by(CALLERS).take_while(|n| !is_over(n)) {
        let question = i64::try_from(n).unwrap();
        let call = client.call::<_, i64>(SERVICE, &question).timeout(DEADLINE);
        let call = if number % 4 < 2 { call } else { call.retries(RETRIES) };
        let asked = Instant::now();
        let outcome = tokio::time::timeout(DEADLINE + GRACE, call.into_future()).await;
        let kind = match outcome {
            Err(_) => "late".to_owned(),
            Ok(Ok(answer)) if answer != question * question => "wrong".to_owned(),
            Ok(Ok(_)) => {
                ledger.answered[number % 2].lock().unwrap().push(Instant::now());
                "ok".to_owned()
            }
            Ok(Err(error)) => {
                ledger.words.lock().unwrap().insert(error.kind(), error.to_string());
                let retries = if number % 4 < 2 { "no retries" } else { "retries" };
                format!("{} ({retries})", error.kind())
            }
        };
        {
            let mut slowest = ledger.slowest.lock().unwrap();
            *slowest = slowest.max(asked.elapsed());
        }
        *ledger.outcomes.lock().unwrap().entry(kind).or_default() += 1;
        ledger.ended.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// The ids of the tasks that the broker confirmed.
async fn give_tasks(client: Client) -> Vec<String> {
    let givers: Vec<_> = (0..GIVERS)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut given = Vec::new();
                for page in (number..TASKS).step_by(GIVERS) {
                    given.push(client.task(PRINTER, &page).timeout(TASK_TIMEOUT).await.unwrap());
                    tokio::time::sleep(PAUSE).await;
                }
                given
            })
        })
        .collect();
    let mut given = Vec::new();
    for giver in givers {
        given.extend(giver.await.unwrap());
    }
    given
}

/// What happened to which node, and when.
type Event = (String, Instant);

async fn lose_nodes(cluster: Arc<RabbitMqCluster>, ledger: Arc<Ledger>) -> Vec<Event> {
    let first = leader(&cluster);
    let mut events = Vec::new();
    for node in [first, (first + 1) % NODES] {
        let before = ledger.ended.load(Ordering::Relaxed);
        while ledger.ended.load(Ordering::Relaxed) < before + CALLS / 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (at, cluster) = (Instant::now(), cluster.clone());
        tokio::task::spawn_blocking(move || {
            cluster.kill(node).unwrap();
            std::thread::sleep(Duration::from_secs(1));
            cluster.restart(node).unwrap();
        })
        .await
        .unwrap();
        events.push((format!("node {node} away for {:.1} s", at.elapsed().as_secs_f64()), at));
    }
    ledger.nodes_are_back.store(true, Ordering::Relaxed);
    events
}

/// The node that leads the queue of the service.
fn leader(cluster: &RabbitMqCluster) -> usize {
    let queues = cluster.ctl(0, &["-q", "list_queues", "name", "leader", "--no-table-headers"]).unwrap();
    let queue = queues.lines().find(|line| line.starts_with(SERVICE)).unwrap();
    let number = queue.rsplit_once('@').unwrap().0.rsplit_once('-').unwrap().1;
    number.parse::<usize>().unwrap() - 1
}

async fn await_tasks(done: &Done, given: &[String]) {
    let asked = Instant::now();
    loop {
        let lost = {
            let tasks = done.tasks.lock().unwrap();
            given.iter().filter(|id| !tasks.contains_key(*id)).count()
        };
        if lost == 0 {
            return;
        }
        assert!(asked.elapsed() < TASK_TIMEOUT, "{lost} tasks of {} were never done", given.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn report(ledger: &Ledger, events: &[Event], done: &Done, given: &[String], callers: &[Client]) {
    println!("calls: {:?}", ledger.outcomes.lock().unwrap());
    for words in ledger.words.lock().unwrap().values() {
        println!("  {words}");
    }
    println!("slowest outcome: {:?} (deadline {DEADLINE:?})", ledger.slowest.lock().unwrap());
    for (what, at) in events {
        let gaps = ledger.answered.each_ref().map(|answered| longest_gap(&answered.lock().unwrap(), *at));
        println!("{what}; the callers heard nothing for at most {gaps:?}");
    }
    let repeated = |counts: Vec<usize>| counts.into_iter().filter(|&count| count > 1).count();
    let calls = done.calls.lock().unwrap().values().copied().collect();
    let tasks = done.tasks.lock().unwrap().values().copied().collect();
    println!(
        "worked more than once: {} calls, {} of {} tasks",
        repeated(calls),
        repeated(tasks),
        given.len()
    );
    let unclaimed: Vec<u64> = callers.iter().map(Client::unclaimed_answers).collect();
    println!("answers that nobody waited for: {unclaimed:?}");
}

/// The longest silence between two answers that began or ended so soon after something happened.
fn longest_gap(answered: &[Instant], after: Instant) -> Duration {
    let mut times: Vec<Instant> = answered.to_vec();
    times.sort_unstable();
    let within = |at: &Instant| *at >= after && *at <= after + DEADLINE;
    let gaps = times.windows(2).filter(|pair| within(&pair[0]) || within(&pair[1]));
    gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
