//! What the tests of every outbox share: a broker with queues, what arrived in them, and relays that are killed.

use std::collections::BTreeSet;
use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leveret::Client;
use leveret::outbox::{Relay, RelayHandle};
use leveret_client::{Channel, Delivery, QueueDeclare};
use leveret_server::Broker;

/// Names the broker for a relay in a process of its own.
const BROKER_URL: &str = "LEVERET_TEST_BROKER_URL";
/// Names the database for a relay in a process of its own.
const DATABASE: &str = "LEVERET_TEST_DATABASE";
/// Anything that has not happened after this time will not.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker on a port of its own, and a connection to it.
pub(crate) struct Post {
    pub(crate) broker: Broker,
    pub(crate) client: Client,
    channel: Channel,
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) text: String,
}

impl Post {
    pub(crate) async fn with_queues(names: &[&str]) -> Post {
        let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
        let client = Client::connect(&broker.url()).await.unwrap();
        let channel = client.connection().await.unwrap().channel().await.unwrap();
        let post = Post { broker, client, channel };
        for name in names {
            post.declare(name).await;
        }
        post
    }

    pub(crate) async fn declare(&self, queue: &str) {
        self.channel.declare_queue(&QueueDeclare::durable(queue)).await.unwrap();
    }

    pub(crate) async fn get(&self, queue: &str) -> Option<Delivery> {
        self.channel.get(queue, true).await.unwrap()
    }

    /// The next so many messages of a queue.
    pub(crate) async fn take(&self, queue: &str, count: usize) -> Vec<Letter> {
        let mut letters = Vec::new();
        until(&format!("{count} messages in `{queue}`"), async || {
            letters.extend(self.get(queue).await.map(|delivery| letter(&delivery)));
            letters.len() >= count
        })
        .await;
        letters
    }

    /// Everything that is in a queue now.
    pub(crate) async fn rest(&self, queue: &str) -> Vec<Letter> {
        let mut letters = Vec::new();
        while let Some(delivery) = self.get(queue).await {
            letters.push(letter(&delivery));
        }
        letters
    }
}

fn letter(delivery: &Delivery) -> Letter {
    let id = String::from_utf8(delivery.properties().message_id().unwrap().to_vec()).unwrap();
    Letter { id, text: String::from_utf8(delivery.body.to_vec()).unwrap() }
}

pub(crate) fn texts(letters: &[Letter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.text.as_str()).collect()
}

/// Waits for something that must happen.
pub(crate) async fn until(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !happened().await {
        assert!(Instant::now() < end, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}

/// Impatient, so that tests are not.
pub(crate) fn quick(relay: Relay) -> RelayHandle {
    let (first, max) = (Duration::from_millis(20), Duration::from_millis(100));
    relay.poll(Duration::from_millis(20)).backoff(first, max).start()
}

/// A relay in a process of its own: the test `relay_process` of the same program.
pub(crate) fn spawn_relay(post: &Post, database: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "relay_process", "--ignored", "--nocapture"])
        .env(BROKER_URL, post.broker.url())
        .env(DATABASE, database)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// That process: carries until it is killed. Returns at once if nobody spawned it.
pub(crate) async fn run_as_relay(relay: impl FnOnce(&str, &Client) -> Relay) {
    let (Ok(url), Ok(database)) = (std::env::var(BROKER_URL), std::env::var(DATABASE)) else { return };
    let client = Client::connect(&url).await.unwrap();
    let _relay = quick(relay(&database, &client).batch(10));
    tokio::time::sleep(4 * PATIENCE).await;
}

/// Starts relays and kills each (SIGKILL) after a moment, `kills` times.
pub(crate) fn kill_relays(post: &Post, database: &str, kills: u64) {
    for kill in 0..kills {
        let mut relay = spawn_relay(post, database);
        // Early, in the middle of a batch, late: the start itself takes some 50 ms.
        std::thread::sleep(Duration::from_millis(40 + kill * 67 % 240));
        relay.kill().unwrap();
        relay.wait().unwrap();
    }
}

/// Nothing committed is missing, nothing else is there, and what comes first of each key is in order. Texts are
/// `key:number`. Returns how many were repetitions.
pub(crate) fn judge_killed(committed: &BTreeSet<String>, letters: &[Letter]) -> usize {
    let mut ids = BTreeSet::new();
    let firsts: Vec<&Letter> = letters.iter().filter(|letter| ids.insert(letter.id.as_str())).collect();
    let arrived: BTreeSet<String> = firsts.iter().map(|letter| letter.text.clone()).collect();
    assert_eq!(firsts.len(), arrived.len(), "the same message under several ids");
    assert_eq!(&arrived, committed);
    let mut last = std::collections::HashMap::new();
    for letter in &firsts {
        let (key, number) = letter.text.split_once(':').unwrap();
        let number: u64 = number.parse().unwrap();
        let before = last.insert(key, number);
        assert!(before < Some(number), "{key}: {number} after {before:?}");
    }
    letters.len() - firsts.len()
}
