//! Acting on queues and calling services over HTTP.

use std::collections::BTreeSet;
use std::time::Duration;

use leveret::{Client, Context, Failure};
use leveret_client::{ConnectOptions, Connection, Consume, Publish, QueueDeclare};
use leveret_wire::Properties;
use serde_json::{Value, json};

use crate::http::Http;
use crate::program::Server;

/// `guest:guest`
const GUEST: (&str, &str) = ("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
const PATIENCE: Duration = Duration::from_secs(30);

fn start(directory: &tempfile::TempDir) -> (Server, String, Http) {
    let mut server = Server::start(&directory.path().join("data"), &[]);
    let url = server.url();
    let http = Http::at(&server.line());
    (server, url, http)
}

async fn connect(url: &str) -> Connection {
    Connection::open(&ConnectOptions::parse(url).unwrap()).await.unwrap()
}

/// Publishes numbers from 0 on, confirmed.
async fn fill(connection: &Connection, queue: &str, count: usize) {
    let channel = connection.confirm_channel().await.unwrap();
    let kept = Properties { delivery_mode: Some(2), ..Properties::default() };
    let mut confirms = Vec::new();
    for number in 0..count {
        let body = number.to_string();
        let publish = Publish { properties: &kept, ..Publish::to_queue(queue, body.as_bytes()) };
        confirms.push(channel.publish(&publish).await.unwrap());
    }
    for confirm in confirms {
        confirm.await.unwrap();
    }
}

fn ask(http: &Http, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = http.ask(method, path, &[GUEST], body.to_string().as_bytes());
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

fn check(http: &Http, method: &str, path: &str, body: &Value, status: u16, words: &str) {
    let (actual, answer) = ask(http, method, path, body);
    assert!(
        actual == status && answer.to_string().contains(words),
        "{method} {path} {body}: {actual} {answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_browsed_paused_and_moved() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, url, http) = start(&directory);
    let connection = connect(&url).await;
    let channel = connection.channel().await.unwrap();
    for queue in ["jobs", "done"] {
        channel.declare_queue(&QueueDeclare::durable(queue)).await.unwrap();
    }
    fill(&connection, "jobs", 5).await;
    let jobs = |action: &str| format!("/api/queues/%2F/jobs/{action}");
    let (_, shown) = ask(&http, "GET", &jobs("messages?offset=1&count=2"), &Value::Null);
    let first = json!({
        "offset": 1, "redelivered": false, "exchange": "", "routing_key": "jobs", "properties": {"delivery_mode": 2},
        "payload_bytes": 1, "payload": "1", "payload_encoding": "string",
    });
    assert_eq!((&shown[0], shown.as_array().map(Vec::len)), (&first, Some(2)));

    check(&http, "PUT", &jobs("pause"), &json!({}), 204, "");
    let mut consumer = channel.consume(&Consume::queue("jobs")).await.unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
    assert!(silence.is_err(), "a paused queue handed something out");
    check(&http, "POST", &jobs("move"), &json!({"to_queue": "done", "count": 2}), 200, "\"moved\":2");
    check(&http, "PUT", &jobs("resume"), &json!({}), 204, "");
    for number in 2..5 {
        let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap();
        assert_eq!((&*delivery.body, delivery.redelivered), (number.to_string().as_bytes(), false));
    }
    let (_, held) = ask(&http, "GET", &jobs("unacked"), &Value::Null);
    assert_eq!(held.as_array().map(Vec::len), Some(3));
    assert!(held[0]["connection"].is_string() && held[0]["since"].as_u64() > Some(0), "{held}");
    assert_eq!((&held[0]["channel"], held[0]["consumer_tag"].is_string()), (&json!(1), true));

    check(&http, "POST", &jobs("move"), &json!({}), 400, "must be given");
    check(&http, "POST", &jobs("move"), &json!({"to_queue": "a", "retry": true}), 400, "must be given");
    check(&http, "POST", &jobs("move"), &json!({"to_queue": "done", "count": -1}), 400, "count");
    check(&http, "GET", &jobs("messages?count=x"), &Value::Null, 400, "count must be a number");
    check(&http, "PUT", "/api/queues/%2F/nobody/pause", &json!({}), 404, "no queue 'nobody'");
    check(&http, "GET", "/api/queues/nowhere/jobs/messages", &Value::Null, 404, "Not Found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_called_and_failures_explain_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, url, http) = start(&directory);
    let call = |body: Value| ask(&http, "POST", "/api/services/%2F/square/call", &body);
    let said = |(status, answer): (u16, Value), expected: u16, words: &str| {
        assert!(
            status == expected && answer.to_string().contains(words),
            "{status} {answer}, expected {words}"
        );
    };
    said(call(json!({})), 404, "no queue takes requests for 'square'");
    let client = Client::connect(&url).await.unwrap();
    let square = leveret::handler(|_: Context, n: u64| async move {
        tokio::time::sleep(Duration::from_millis(n * 100)).await;
        Ok::<_, Failure>(n * n)
    });
    let worker = client.serve("square", square).start().await.unwrap();
    let question = |n: u64, timeout_ms: u64| json!({"payload": n.to_string(), "content_type": "application/json", "timeout_ms": timeout_ms});
    let (status, answer) = call(question(3, 20_000));
    assert_eq!(
        (status, &answer["payload"], &answer["payload_encoding"]),
        (200, &json!("9"), &json!("string"))
    );
    // Worker and console see the deadline pass at the same moment; whoever speaks first explains it.
    let (status, late) = call(question(300, 200));
    let late = late.to_string();
    let unanswered = status == 504 && late.contains("no answer of 'square' within 200 ms");
    assert!(unanswered || (status == 200 && late.contains("DEADLINE_EXCEEDED")), "{status} {late}");
    said(call(json!({"timeout_ms": 60_001})), 400, "timeout_ms must be a number from 1 to 60000");
    said(call(json!({"payload": "x", "payload_encoding": "rot13"})), 400, "unsupported_encoding");
    worker.drain().await;
    said(call(question(3, 20_000)), 503, "no worker serves 'square'");
}

/// Moves while the process is killed, and says what is in the queues afterwards.
async fn move_and_kill(after: Duration) {
    const MESSAGES: usize = 2_000;
    let directory = tempfile::tempdir().unwrap();
    let (server, url, http) = start(&directory);
    let connection = connect(&url).await;
    let channel = connection.channel().await.unwrap();
    for queue in ["from", "to"] {
        channel.declare_queue(&QueueDeclare::durable(queue)).await.unwrap();
    }
    fill(&connection, "from", MESSAGES).await;
    let body = json!({"to_queue": "to"}).to_string();
    // Its answer may never come.
    let moving = std::thread::spawn(move || {
        std::panic::catch_unwind(|| {
            drop(http.post("/api/queues/%2F/from/move", &[GUEST], body.as_bytes()));
        })
    });
    tokio::time::sleep(after).await;
    drop(server);
    drop(moving.join());

    let (_server, url, _) = start(&directory);
    let channel = connect(&url).await.channel().await.unwrap();
    let mut found = BTreeSet::new();
    let mut count = 0;
    for queue in ["from", "to"] {
        while let Some(message) = channel.get(queue, true).await.unwrap() {
            found.insert(String::from_utf8(message.body.to_vec()).unwrap());
            count += 1;
        }
    }
    assert_eq!(found, (0..MESSAGES).map(|number| number.to_string()).collect(), "killed after {after:?}");
    assert!(count <= MESSAGES + 1, "{count} messages, killed after {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_a_move_loses_nothing() {
    for after_ms in [5, 30, 80] {
        move_and_kill(Duration::from_millis(after_ms)).await;
    }
}
