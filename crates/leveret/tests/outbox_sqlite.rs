//! The outbox in SQLite: what leaves when, what stays, what comes twice. Each test is one promise.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod outbox;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leveret::outbox::sqlite::{backlog, create_table, enqueue, parked, retry};
use leveret::outbox::{Message, Relay};
use leveret::{Client, ConnectOptions, Context, Failure, FieldValue, Payload, inbox};
use leveret_client::{Backoff, QueueDeclare};
use leveret_testkit::fault_proxy::FaultProxy;
use outbox::{Post, in_time, judge_killed, kill_relays, quick, run_as_relay, texts, until};
use rusqlite::Connection;
use tempfile::TempDir;

/// A program with a database.
struct Site {
    _dir: TempDir,
    path: PathBuf,
    database: Connection,
}

impl Site {
    fn new() -> Site {
        let site = Site::without_table();
        create_table(&site.database).unwrap();
        create_table(&site.database).unwrap();
        site
    }

    fn without_table() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.db");
        let database = Connection::open(&path).unwrap();
        database.pragma_update(None, "journal_mode", "WAL").unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        Site { _dir: dir, path, database }
    }

    fn commit(&mut self, messages: &[Message]) {
        let transaction = self.database.transaction().unwrap();
        messages.iter().for_each(|message| enqueue(&transaction, message).unwrap());
        transaction.commit().unwrap();
    }

    fn relay(&self, client: &Client) -> Relay {
        Relay::sqlite(&self.path, client)
    }

    async fn until_empty(&self) {
        until("the outbox is empty", async || backlog(&self.database).unwrap().waiting == 0).await;
    }

    fn last_errors(&self) -> Vec<String> {
        let mut statement = self
            .database
            .prepare("SELECT last_error FROM leveret_outbox WHERE last_error IS NOT NULL ORDER BY id")
            .unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

fn text(queue: &str, text: &str) -> Message {
    Message::new("", queue, Payload::new("text/plain", text.to_owned()))
}

#[tokio::test]
async fn a_committed_message_arrives_with_all_it_has() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
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
    site.commit(&[message]);
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
async fn a_rolled_back_message_never_leaves() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relay = quick(site.relay(&post.client));
    let transaction = site.database.transaction().unwrap();
    enqueue(&transaction, &text("tasks", "rolled back")).unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    transaction.rollback().unwrap();
    site.commit(&[text("tasks", "committed")]);
    assert_eq!(texts(&post.take("tasks", 1).await), ["committed"]);
    site.until_empty().await;
    assert!(post.rest("tasks").await.is_empty());
    relay.drain().await;
}

#[tokio::test]
async fn a_commit_wakes_the_relay_of_the_same_process() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relay = site.relay(&post.client).poll(Duration::from_secs(600)).start();
    for round in 0..5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let transaction = site.database.transaction().unwrap();
        enqueue(&transaction, &text("tasks", "now")).unwrap();
        tokio::time::sleep(Duration::from_millis(round * 20)).await;
        transaction.commit().unwrap();
        in_time(post.take("tasks", 1)).await;
    }
    relay.drain().await;
}

#[tokio::test]
async fn a_row_that_sql_wrote_is_a_message_too() {
    let (post, site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relay = quick(site.relay(&post.client));
    let insert = "INSERT INTO leveret_outbox (routing_key, body) VALUES ('tasks', 'one'), ('tasks', 'two')";
    site.database.execute(insert, []).unwrap();
    let letters = post.take("tasks", 2).await;
    assert_eq!(texts(&letters), ["one", "two"]);
    assert!(letters[0].id.len() == 32 && letters[0].id != letters[1].id, "{letters:?}");
    relay.drain().await;
}

/// The state a relay leaves that dies between the confirm and the delete: the broker has it, the row is there.
#[tokio::test]
async fn a_message_sent_twice_has_the_same_id_and_is_done_once() {
    let (post, mut site) = (Post::with_queues(&[]).await, Site::new());
    let done = Arc::new(AtomicUsize::new(0));
    let count = done.clone();
    let handler = leveret::handler(move |_cx: Context, _text: String| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Failure>(()) }
    });
    let worker = post.client.serve("invoices", handler).start().await.unwrap();
    let keep = "CREATE TRIGGER keep BEFORE DELETE ON leveret_outbox BEGIN SELECT RAISE(ABORT, 'kept'); END";
    site.database.execute_batch(keep).unwrap();
    let dies = quick(site.relay(&post.client));
    site.commit(&[Message::task("invoices", "Ann").unwrap()]);
    until("it was sent, not deleted", async || dies.stats().sent == 1 && dies.stats().database_errors > 0)
        .await;
    assert_eq!(dies.stats().sent, 1, "what is owed is not sent again by the same relay");
    drop(dies);
    assert_eq!(backlog(&site.database).unwrap().waiting, 1);
    site.database.execute_batch("DROP TRIGGER keep").unwrap();

    let next = quick(site.relay(&post.client));
    site.until_empty().await;
    until("the repetition is recognised", async || worker.stats().repeated == 1).await;
    assert_eq!((next.stats().sent, done.load(Ordering::SeqCst)), (1, 1));
    next.drain().await;
    worker.drain().await;
}

#[tokio::test]
async fn messages_wait_for_a_broker_that_is_away() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let proxy = FaultProxy::start(post.broker.addresses()[0]).unwrap();
    let quickly = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(50) };
    let client = Client::builder()
        .connection(move |options: ConnectOptions| options.backoff(quickly))
        .connect(&format!("amqp://guest:guest@{}/%2f", proxy.address()))
        .await
        .unwrap();
    let relay = quick(site.relay(&client).park_after(1));
    for round in 0..3 {
        take_away(&proxy).await;
        let name = format!("round {round}");
        site.commit(&[text("tasks", &name)]);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(post.rest("tasks").await.is_empty());
        assert_eq!(backlog(&site.database).unwrap().failing, 0, "it is not the message's fault");
        proxy.refuse(false).await.unwrap();
        assert_eq!(texts(&post.take("tasks", 1).await), [name.as_str()]);
        site.until_empty().await;
    }
    take_away(&proxy).await;
    site.commit(&[text("tasks", "for the next relay")]);
    in_time(relay.drain()).await;
    assert_eq!(backlog(&site.database).unwrap().waiting, 1);
}

async fn take_away(proxy: &FaultProxy) {
    proxy.refuse(true).await.unwrap();
    proxy.cut();
    until("all connections are cut", async || proxy.connections() == 0).await;
}

#[tokio::test]
async fn what_no_queue_takes_stays_with_its_reason_and_goes_when_one_does() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relay = quick(site.relay(&post.client));
    let no_exchange = Message::new("nowhere", "k", Payload::bytes("no exchange"));
    site.commit(&[text("missing", "no queue"), no_exchange, text("tasks", "behind them")]);
    assert_eq!(texts(&post.take("tasks", 1).await), ["behind them"]);
    until("both failed several times", async || relay.stats().failed >= 6).await;
    let errors = site.last_errors();
    assert!(errors[0].contains("NO_ROUTE"), "{errors:?}");
    assert!(errors[1].contains("404") && errors[1].contains("nowhere"), "{errors:?}");
    let left = backlog(&site.database).unwrap();
    assert_eq!((left.waiting, left.failing, left.parked), (2, 2, 0));
    assert!(left.oldest.is_some());

    post.declare("missing").await;
    assert_eq!(texts(&post.take("missing", 1).await), ["no queue"]);
    assert!(post.rest("tasks").await.is_empty(), "what was published beside it was not sent again");
    relay.drain().await;
}

#[tokio::test]
async fn what_a_full_queue_refuses_goes_when_there_is_room() {
    let (post, mut site) = (Post::with_queues(&[]).await, Site::new());
    let channel = post.client.connection().await.unwrap().channel().await.unwrap();
    let arguments = [("x-max-length", FieldValue::I64(1)), ("x-overflow", "reject-publish".into())];
    let full = QueueDeclare { arguments: arguments.into(), ..QueueDeclare::durable("full") };
    channel.declare_queue(&full).await.unwrap();
    let relay = quick(site.relay(&post.client));
    site.commit(&[text("full", "1").order_key("k"), text("full", "2").order_key("k")]);
    until("the second was refused", async || site.last_errors().iter().any(|e| e.contains("refused"))).await;
    assert_eq!(texts(&post.take("full", 2).await), ["1", "2"]);
    site.until_empty().await;
    relay.drain().await;
}

#[tokio::test]
async fn a_message_given_up_is_parked_and_can_be_retried() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relay = quick(site.relay(&post.client).park_after(3));
    let poison = text("missing", "1").order_key("k").message_id("poison");
    site.commit(&[poison, text("tasks", "2").order_key("k")]);
    assert_eq!(texts(&post.take("tasks", 1).await), ["2"], "the next of its key may go then");
    let given_up = parked(&site.database, 10).unwrap();
    assert_eq!((given_up[0].attempts, given_up[0].message_id.as_str()), (3, "poison"));
    assert!(given_up[0].reason.contains("NO_ROUTE"), "{given_up:?}");
    assert_eq!(relay.stats().parked, 1);

    post.declare("missing").await;
    assert_eq!(retry(&site.database, &[given_up[0].id]).unwrap(), 1);
    let letters = post.take("missing", 1).await;
    assert_eq!(letters[0].id, "poison");
    site.until_empty().await;
    assert_eq!(backlog(&site.database).unwrap().parked, 0);
    relay.drain().await;
}

#[tokio::test]
async fn what_can_never_be_sent_is_parked_at_once() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relay = quick(site.relay(&post.client));
    let no_object = "INSERT INTO leveret_outbox (routing_key, body, headers) VALUES ('tasks', 'x', '[]')";
    site.database.execute(no_object, []).unwrap();
    site.commit(&[text(&"k".repeat(256), "too long a key"), text("tasks", "sound")]);
    assert_eq!(texts(&post.take("tasks", 1).await), ["sound"]);
    site.until_empty().await;
    let given_up = parked(&site.database, 10).unwrap();
    assert_eq!(given_up.len(), 2, "{given_up:?}");
    assert!(given_up[0].reason.contains("JSON object"), "{given_up:?}");
    relay.drain().await;
}

#[tokio::test]
async fn a_key_keeps_its_order_and_blocks_no_other() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relay = quick(site.relay(&post.client).batch(7));
    site.commit(&[text("late", "a first").order_key("a")]);
    for n in 0..30 {
        let keyed = |key: &str| text("tasks", &format!("{key}:{n:02}")).order_key(key);
        site.commit(&[keyed("a"), keyed("b"), text("tasks", "none")]);
    }
    let others = post.take("tasks", 60).await;
    let b: Vec<&str> = texts(&others).into_iter().filter(|text| text.starts_with('b')).collect();
    assert!(b.len() == 30 && b.is_sorted(), "{b:?}");
    assert!(post.rest("tasks").await.is_empty(), "all of key a wait for its first");

    post.declare("late").await;
    let letters = post.take("tasks", 30).await;
    let a = texts(&letters);
    assert!(a.iter().all(|text| text.starts_with('a')) && a.is_sorted(), "{a:?}");
    relay.drain().await;
}

#[tokio::test]
async fn several_relays_send_nothing_twice_and_take_over() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let relays: Vec<_> = (0..3).map(|_| quick(site.relay(&post.client).batch(10))).collect();
    let mut sent = BTreeSet::new();
    for (round, relay) in relays.into_iter().enumerate() {
        let names: Vec<String> = (0..100).map(|n| format!("{round} {n}")).collect();
        site.commit(&names.iter().map(|name| text("tasks", name)).collect::<Vec<_>>());
        sent.extend(post.take("tasks", 100).await.into_iter().map(|letter| letter.text));
        site.until_empty().await;
        relay.drain().await; // whichever it was that worked
    }
    assert!(post.rest("tasks").await.is_empty());
    assert_eq!(sent.len(), 300);
}

#[tokio::test]
async fn a_relay_waits_for_its_table() {
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::without_table());
    let relay = quick(site.relay(&post.client));
    until("it complains", async || relay.stats().database_errors > 1).await;
    assert!(relay.stats().last_error.unwrap().contains("no such table: leveret_outbox"));
    create_table(&site.database).unwrap();
    site.commit(&[text("tasks", "at last")]);
    assert_eq!(texts(&post.take("tasks", 1).await), ["at last"]);
    relay.drain().await;
}

#[tokio::test]
async fn draining_does_not_wait_for_what_cannot_leave() {
    let (post, mut site) = (Post::with_queues(&[]).await, Site::new());
    site.commit(&[text("missing", "x")]);
    let relay = site.relay(&post.client).start();
    until("it was tried", async || relay.stats().failed > 0).await;
    let asked = Instant::now();
    in_time(relay.drain()).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(backlog(&site.database).unwrap().waiting, 1);
}

#[test]
fn a_worker_knows_what_it_has_done() {
    let mut site = Site::new();
    inbox::sqlite::create_table(&site.database).unwrap();
    let mut first_time = |service: &str, id: &str, commit: bool| {
        let transaction = site.database.transaction().unwrap();
        let first = inbox::sqlite::first_time(&transaction, service, id).unwrap();
        if commit {
            transaction.commit().unwrap()
        } else {
            transaction.rollback().unwrap()
        }
        first
    };
    for (service, id, commit, expected) in [
        ("billing", "m-1", false, true), // the work failed
        ("billing", "m-1", true, true),
        ("billing", "m-1", true, false),
        ("mail", "m-1", true, true), // the same message, somebody else's work
        ("billing", "m-2", true, true),
    ] {
        assert_eq!(first_time(service, id, commit), expected, "{service} {id}");
    }
    let purge = |older_than| inbox::sqlite::purge(&site.database, older_than).unwrap();
    assert_eq!(purge(Duration::from_secs(3600)), 0);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(purge(Duration::ZERO), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_are_killed_lose_nothing() {
    const KILLS: u64 = 20;
    let (post, mut site) = (Post::with_queues(&["tasks"]).await, Site::new());
    let database = site.path.to_str().unwrap().to_owned();
    let stop = Arc::new(AtomicUsize::new(0));
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut committed = BTreeSet::new();
        for number in 0_u64.. {
            if stopped.load(Ordering::Relaxed) > 0 {
                break;
            }
            let key = format!("key-{}", number % 5);
            let name = format!("{key}:{number}");
            let transaction = site.database.transaction().unwrap();
            enqueue(&transaction, &text("tasks", &name).order_key(key)).unwrap();
            if number % 3 == 2 {
                transaction.rollback().unwrap();
            } else {
                transaction.commit().unwrap();
                committed.insert(name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        (site, committed)
    });
    tokio::task::block_in_place(|| kill_relays(&post, &database, KILLS));
    stop.store(1, Ordering::Relaxed);
    let (site, committed) = writer.join().unwrap();
    let last = quick(site.relay(&post.client));
    site.until_empty().await;
    last.drain().await;
    let letters = post.rest("tasks").await;
    let repeated = judge_killed(&committed, &letters);
    println!("{} committed, {KILLS} kills, {repeated} sent twice", committed.len());
    assert!(committed.len() > 100, "{}", committed.len());
}

#[tokio::test]
#[ignore = "not a test: the process that relays_that_are_killed_lose_nothing kills"]
async fn relay_process() {
    run_as_relay(|path, client| Relay::sqlite(path, client)).await;
}
