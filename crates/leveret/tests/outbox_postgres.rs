//! The outbox in PostgreSQL: what leaves when, what stays, what comes twice. Each test is one promise, in a schema of its
//! own on the server that LEVERET_TEST_POSTGRES_URL names; `cargo xtask interop` starts one and runs them.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod outbox;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use leveret::outbox::postgres::{backlog, create_table, enqueue, parked, retry};
use leveret::outbox::{Message, Relay};
use leveret::{Client, FieldValue, Payload, inbox};
use leveret_testkit::postgres::Postgres;
use outbox::{Post, in_time, judge_killed, kill_relays, quick, run_as_relay, texts, until};
use tokio_postgres::NoTls;

/// A program with a database.
struct Site {
    url: String,
    database: tokio_postgres::Client,
}

impl Site {
    async fn new() -> Site {
        let site = Site::without_table().await;
        create_table(&site.database).await.unwrap();
        site
    }

    async fn without_table() -> Site {
        let server = std::env::var("LEVERET_TEST_POSTGRES_URL");
        let server =
            server.expect("LEVERET_TEST_POSTGRES_URL names a server; interop/postgres.sh starts one");
        Site::on(&server).await
    }

    async fn on(server: &str) -> Site {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let schema = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let url = format!("{server}?options=-csearch_path%3D{schema}");
        let database = connect(&url).await;
        database.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
        Site { url, database }
    }

    async fn commit(&mut self, messages: &[Message]) {
        let transaction = self.database.transaction().await.unwrap();
        for message in messages {
            enqueue(&transaction, message).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    fn relay(&self, client: &Client) -> Relay {
        Relay::postgres(self.url.parse().unwrap(), client)
    }

    async fn until_empty(&self) {
        until("the outbox is empty", async || backlog(&self.database).await.unwrap().waiting == 0).await;
    }

    async fn last_errors(&self) -> Vec<String> {
        let statement = "SELECT last_error FROM leveret_outbox WHERE last_error IS NOT NULL ORDER BY id";
        let rows = self.database.query(statement, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn text(queue: &str, text: &str) -> Message {
    Message::new("", queue, Payload::new("text/plain", text.to_owned()))
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_committed_message_arrives_with_all_it_has() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let relay = quick(site.relay(&post.client));
    let message = Message::task("tasks", &["a", "b"])
        .unwrap()
        .message_id("m-1")
        .method("render")
        .header("pages", 3)
        .header("for", "Ann")
        .reply_to("site.7", "c-1")
        .priority(4)
        .expiration(Duration::from_secs(60));
    site.commit(&[message]).await;
    let mut arrived = None;
    until("it arrives", async || {
        arrived = post.get("tasks").await;
        arrived.is_some()
    })
    .await;
    let delivery = arrived.unwrap();
    let properties = delivery.properties();
    assert_eq!(&delivery.body[..], br#"["a","b"]"#);
    assert_eq!(properties.content_type(), Some(&b"application/json"[..]));
    assert_eq!(properties.message_id(), Some(&b"m-1"[..]));
    assert_eq!(properties.kind(), Some(&b"render"[..]));
    assert_eq!(properties.reply_to(), Some(&b"site.7"[..]));
    assert_eq!(properties.correlation_id(), Some(&b"c-1"[..]));
    assert_eq!(properties.expiration(), Some(&b"60000"[..]));
    assert_eq!((properties.priority(), properties.delivery_mode()), (Some(4), Some(2)));
    let headers = properties.headers().unwrap().to_table();
    assert_eq!(headers.get("pages"), Some(&FieldValue::I64(3)));
    assert_eq!(headers.get("for"), Some(&FieldValue::from("Ann")));
    site.until_empty().await;
    assert_eq!(relay.stats().sent, 1);
    relay.drain().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_rolled_back_message_never_leaves() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let relay = quick(site.relay(&post.client));
    let transaction = site.database.transaction().await.unwrap();
    enqueue(&transaction, &text("tasks", "rolled back")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    transaction.rollback().await.unwrap();
    site.commit(&[text("tasks", "committed")]).await;
    assert_eq!(texts(&post.take("tasks", 1).await), ["committed"]);
    site.until_empty().await;
    assert!(post.rest("tasks").await.is_empty());
    relay.drain().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_commit_of_anybody_wakes_the_relay() {
    let (post, site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let relay = site.relay(&post.client).poll(Duration::from_secs(600)).start();
    let insert = "INSERT INTO leveret_outbox (routing_key, body) VALUES ('tasks', 'by hand')";
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        site.database.batch_execute(insert).await.unwrap();
        let letters = in_time(post.take("tasks", 1)).await;
        assert_eq!((letters[0].text.as_str(), letters[0].id.len()), ("by hand", 36));
    }
    relay.drain().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn programs_that_start_at_once_share_the_tables() {
    let site = Site::without_table().await;
    let creating = (0..8).map(|_| {
        let url = site.url.clone();
        tokio::spawn(async move {
            let database = connect(&url).await;
            create_table(&database).await.unwrap();
            inbox::postgres::create_table(&database).await.unwrap();
        })
    });
    for created in creating.collect::<Vec<_>>() {
        created.await.unwrap();
    }
    assert_eq!(backlog(&site.database).await.unwrap().waiting, 0);
}

/// The state a relay leaves that dies between the confirm and the delete: the broker has it, the row is there.
#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_message_sent_twice_has_the_same_id() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let keep = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN RAISE EXCEPTION 'kept'; END$$;
        CREATE TRIGGER keep BEFORE DELETE ON leveret_outbox FOR EACH ROW EXECUTE FUNCTION keep()";
    site.database.batch_execute(keep).await.unwrap();
    let dies = quick(site.relay(&post.client));
    site.commit(&[text("tasks", "x")]).await;
    until("it was sent, not deleted", async || dies.stats().sent == 1 && dies.stats().database_errors > 1)
        .await;
    assert!(dies.stats().last_error.unwrap().contains("kept"));
    drop(dies);
    let first = post.take("tasks", 1).await;
    site.database.batch_execute("DROP TRIGGER keep ON leveret_outbox").await.unwrap();
    let next = quick(site.relay(&post.client));
    assert_eq!(post.take("tasks", 1).await, first);
    site.until_empty().await;
    assert!(post.rest("tasks").await.is_empty());
    next.drain().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn what_no_queue_takes_stays_blocks_nobody_and_can_be_retried() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let relay = quick(site.relay(&post.client).park_after(4));
    let no_exchange = Message::new("nowhere", "k", Payload::bytes("no exchange"));
    site.commit(&[text("missing", "no queue").order_key("a"), text("tasks", "its next").order_key("a")])
        .await;
    site.commit(&[no_exchange, text("tasks", "behind them")]).await;
    let letters = post.take("tasks", 2).await;
    assert_eq!(
        texts(&letters),
        ["behind them", "its next"],
        "the next of a key leaves when the first is parked"
    );
    until("both are parked", async || backlog(&site.database).await.unwrap().parked == 2).await;
    let errors = site.last_errors().await;
    assert!(errors[0].contains("NO_ROUTE"), "{errors:?}");
    assert!(errors[1].contains("404") && errors[1].contains("nowhere"), "{errors:?}");
    let given_up = parked(&site.database, 10).await.unwrap();
    assert_eq!((given_up[0].attempts, given_up[0].routing_key.as_str()), (4, "missing"));

    post.declare("missing").await;
    assert_eq!(retry(&site.database, &[given_up[0].id]).await.unwrap(), 1);
    assert_eq!(texts(&post.take("missing", 1).await), ["no queue"]);
    relay.drain().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn relays_share_the_work_and_keep_the_order_of_keys() {
    const ROUNDS: usize = 60;
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let mut messages = Vec::new();
    for round in 0..ROUNDS {
        let keyed =
            ["a", "b", "c", "d"].map(|key| text("tasks", &format!("{key}:{round:03}")).order_key(key));
        messages.extend(keyed);
        messages.push(text("tasks", &format!("free:{round:03}")));
    }
    site.commit(&messages).await;
    let relays: Vec<_> = (0..3).map(|_| quick(site.relay(&post.client).batch(7))).collect();
    let letters = post.take("tasks", messages.len()).await;
    site.until_empty().await;
    assert!(post.rest("tasks").await.is_empty(), "nothing is sent twice");
    for key in ["a:", "b:", "c:", "d:"] {
        let of_key: Vec<&str> = texts(&letters).into_iter().filter(|text| text.starts_with(key)).collect();
        assert!(of_key.len() == ROUNDS && of_key.is_sorted(), "{of_key:?}");
    }
    let sent: Vec<u64> = relays.iter().map(|relay| relay.stats().sent).collect();
    assert_eq!(sent.iter().sum::<u64>(), messages.len() as u64, "{sent:?}");
    assert!(sent.iter().all(|sent| *sent > 0), "each has its share: {sent:?}");
    for relay in relays {
        relay.drain().await;
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_key_waits_for_its_first_and_blocks_no_other() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    site.commit(&[text("late", "a first").order_key("a")]).await;
    let relays: Vec<_> = (0..2).map(|_| quick(site.relay(&post.client).batch(7))).collect();
    for n in 0..30 {
        let keyed = |key: &str| text("tasks", &format!("{key}:{n:02}")).order_key(key);
        site.commit(&[keyed("a"), keyed("b"), text("tasks", "none")]).await;
    }
    let others = post.take("tasks", 60).await;
    let b: Vec<&str> = texts(&others).into_iter().filter(|text| text.starts_with('b')).collect();
    assert!(b.len() == 30 && b.is_sorted(), "{b:?}");
    let failed = async || relays.iter().map(|relay| relay.stats().failed).sum::<u64>();
    let before = failed().await;
    until("the first was tried again", async || failed().await > before + 2).await;
    assert!(post.rest("tasks").await.is_empty(), "all of key a wait for its first");

    post.declare("late").await;
    let letters = post.take("tasks", 30).await;
    let a = texts(&letters);
    assert!(a.iter().all(|text| text.starts_with('a')) && a.is_sorted(), "{a:?}");
    for relay in relays {
        relay.drain().await;
    }
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_relay_outlives_its_connection_to_the_database() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let config: tokio_postgres::Config = site.url.parse().unwrap();
    let name = format!("relay-{}", site.url.rsplit('_').next().unwrap());
    let relay = Relay::postgres(config.clone().application_name(&name).clone(), &post.client).start();
    let terminate =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    for round in 0..3 {
        until("the relay is connected, and is cut off", async || {
            let row = site.database.query_one(terminate, &[&name]).await.unwrap();
            row.get::<_, i64>(0) == 1
        })
        .await;
        site.commit(&[text("tasks", &format!("{round}"))]).await;
        assert_eq!(texts(&post.take("tasks", 1).await), [format!("{round}")]);
    }
    assert!(relay.stats().database_errors >= 3, "{:?}", relay.stats());
    relay.drain().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_relay_outlives_the_database_server() {
    let server = Postgres::start().unwrap();
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::on(&server.url()).await);
    create_table(&site.database).await.unwrap();
    let relay = quick(site.relay(&post.client));
    site.commit(&[text("missing", "before")]).await;
    until("it was tried", async || relay.stats().failed > 0).await;
    server.kill().unwrap();
    until("the relay notices", async || relay.stats().database_errors > 1).await;
    post.declare("missing").await;
    server.restart().unwrap();
    assert_eq!(texts(&post.take("missing", 1).await), ["before"]);
    relay.drain().await;
}

#[tokio::test]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn a_worker_knows_what_it_has_done_even_elsewhere() {
    let mut site = Site::without_table().await;
    inbox::postgres::create_table(&site.database).await.unwrap();
    for (service, id, commit, expected) in [
        ("billing", "m-1", false, true), // the work failed
        ("billing", "m-1", true, true),
        ("billing", "m-1", true, false),
        ("mail", "m-1", true, true), // the same message, somebody else's work
    ] {
        let transaction = site.database.transaction().await.unwrap();
        let first = inbox::postgres::first_time(&transaction, service, id).await.unwrap();
        assert_eq!(first, expected, "{service} {id}");
        if commit { transaction.commit().await.unwrap() } else { transaction.rollback().await.unwrap() }
    }
    let mut other = connect(&site.url).await;
    let running = site.database.transaction().await.unwrap();
    assert!(inbox::postgres::first_time(&running, "billing", "m-2").await.unwrap());
    let second = tokio::spawn(async move {
        let transaction = other.transaction().await.unwrap();
        inbox::postgres::first_time(&transaction, "billing", "m-2").await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "it waits for what becomes of the first");
    running.commit().await.unwrap();
    assert!(!in_time(second).await.unwrap());
    assert_eq!(inbox::postgres::purge(&site.database, Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(inbox::postgres::purge(&site.database, Duration::ZERO).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: cargo xtask interop --only outbox-postgres"]
async fn relays_that_are_killed_lose_nothing() {
    const KILLS: u64 = 30;
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new().await);
    let (url, stop) = (site.url.clone(), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let writer = tokio::spawn(async move {
        let mut committed = BTreeSet::new();
        let mut number = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            let key = format!("key-{}", number % 5);
            let name = format!("{key}:{number}");
            let transaction = site.database.transaction().await.unwrap();
            enqueue(&transaction, &text("tasks", &name).order_key(key)).await.unwrap();
            if number % 3 == 2 {
                transaction.rollback().await.unwrap();
            } else {
                transaction.commit().await.unwrap();
                committed.insert(name);
            }
            number += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (site, committed)
    });
    tokio::task::block_in_place(|| kill_relays(&post, &url, KILLS));
    stop.store(true, Ordering::Relaxed);
    let (site, committed) = writer.await.unwrap();
    let started = Instant::now();
    let last = quick(site.relay(&post.client));
    site.until_empty().await;
    assert!(started.elapsed() < Duration::from_secs(10), "what the dead had claimed is free at once");
    last.drain().await;
    let letters = post.rest("tasks").await;
    let repeated = judge_killed(&committed, &letters);
    println!("{} committed, {KILLS} kills, {repeated} sent twice", committed.len());
    assert!(committed.len() > 100, "{}", committed.len());
}

#[tokio::test]
#[ignore = "not a test: the process that relays_that_are_killed_lose_nothing kills"]
async fn relay_process() {
    run_as_relay(|url, client| Relay::postgres(url.parse().unwrap(), client)).await;
}
