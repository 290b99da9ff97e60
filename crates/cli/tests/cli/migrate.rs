//! `leveret migrate` between two brokers, without management APIs: definitions come from a file.

use leveret_client::{ConnectOptions, Connection, Publish, QueueDeclare};
use serde_json::{Value, json};

use crate::program::{Ended, Server, check, leveret, run};

/// Two brokers and a folder with a definitions file: exchange `x`, bound to queue `q`, and an auto-delete queue.
struct Two {
    folder: tempfile::TempDir,
    _servers: [Server; 2],
    urls: [String; 2],
    runtime: tokio::runtime::Runtime,
}

impl Two {
    fn start() -> Two {
        let folder = tempfile::tempdir().unwrap();
        let mut servers = ["from", "to"].map(|name| Server::start(&folder.path().join(name), &[]));
        let urls = servers.each_mut().map(Server::url);
        let definitions = json!({
            "vhosts": [{"name": "/"}],
            "exchanges": [{"vhost": "/", "name": "x", "type": "fanout", "durable": true}],
            "queues": [
                {"vhost": "/", "name": "q", "durable": true, "arguments": {"x-max-priority": 3}},
                {"vhost": "/", "name": "going", "durable": true, "auto_delete": true},
            ],
            "bindings": [{"vhost": "/", "source": "x", "destination": "q", "destination_type": "queue"}],
        });
        std::fs::write(folder.path().join("definitions.json"), definitions.to_string()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Two { folder, _servers: servers, urls, runtime }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn migrate(&self, more: &[&str]) -> Ended {
        let [from, to] = &self.urls;
        let mut command = leveret(&["migrate", "--from", from, "--to", to, "--json"]);
        command.args(["--management-from", "none", "--management-to", "none", "--definitions"]);
        command.arg(self.path("definitions.json")).args(more);
        run(command, b"")
    }

    /// Publishes numbers to queue `q` of the source, which gets a priority queue's arguments first.
    fn fill(&self, count: u32) {
        self.runtime.block_on(async {
            let options = ConnectOptions::parse(&self.urls[0]).unwrap();
            let connection = Connection::open(&options).await.unwrap();
            let channel = connection.confirm_channel().await.unwrap();
            let queue = QueueDeclare::durable("q").argument("x-max-priority", 3);
            channel.channel().declare_queue(&queue).await.unwrap();
            for number in 0..count {
                let body = number.to_string();
                channel.publish(&Publish::to_queue("q", body.as_bytes())).await.unwrap().await.unwrap();
            }
            connection.close().await;
        });
    }

    /// The bodies in a queue of the destination, which is emptied.
    fn arrived(&self, queue: &str) -> Vec<String> {
        self.runtime.block_on(async {
            let options = ConnectOptions::parse(&self.urls[1]).unwrap();
            let connection = Connection::open(&options).await.unwrap();
            let channel = connection.channel().await.unwrap();
            let mut bodies = Vec::new();
            while let Ok(Some(delivery)) = channel.get(queue, true).await {
                bodies.push(String::from_utf8(delivery.body.to_vec()).unwrap());
            }
            connection.close().await;
            bodies
        })
    }

    /// Declares a queue at the destination.
    fn declare(&self, queue: &QueueDeclare) {
        self.runtime.block_on(async {
            let options = ConnectOptions::parse(&self.urls[1]).unwrap();
            let connection = Connection::open(&options).await.unwrap();
            connection.channel().await.unwrap().declare_queue(queue).await.unwrap();
            connection.close().await;
        });
    }
}

fn report(ended: &Ended) -> Value {
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

fn numbers(count: u32) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[test]
fn definitions_and_messages_are_moved_and_a_second_run_adds_its_own() {
    let two = Two::start();
    two.fill(200);
    let state = two.path("state.json");
    let first = two.migrate(&["--state", &state]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let found = report(&first);
    let queue = json!({"vhost": "/", "name": "q", "moved": 200, "marked": 0, "left": 0, "unacknowledged": null,
                       "at_destination": 200, "problem": null});
    assert_eq!((&found["complete"], &found["queues"]), (&json!(true), &json!([queue])));
    assert_eq!(found["left_out"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(two.arrived("q"), numbers(200));
    two.fill(3);
    let second = two.migrate(&["--state", &state]);
    assert_eq!((second.code, &report(&second)["queues"][0]["moved"]), (Some(0), &json!(203)), "{second:?}");
    assert_eq!(two.arrived("q"), numbers(3));
}

#[test]
fn a_dry_run_changes_nothing() {
    let two = Two::start();
    two.fill(5);
    let ended = two.migrate(&["--dry-run"]);
    let found = report(&ended);
    assert_eq!((ended.code, &found["queues"][0]["left"]), (Some(0), &json!(5)), "{ended:?}");
    assert_eq!(found["queues"][0]["at_destination"], Value::Null);
}

#[test]
fn a_definition_that_is_refused_ends_it_before_messages_move() {
    let two = Two::start();
    two.fill(5);
    two.declare(&QueueDeclare::durable("q"));
    let ended = two.migrate(&[]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(report(&ended)["refused"][0].as_str().unwrap().contains("queue 'q' in vhost '/'"), "{ended:?}");
    assert!(two.arrived("q").is_empty());
    let ended = two.migrate(&["--keep-going"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(two.arrived("q"), numbers(5));
}

#[test]
fn classic_queues_become_quorum_queues_on_request() {
    let two = Two::start();
    two.fill(5);
    let ended = two.migrate(&["--queue-type", "quorum"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    two.declare(&QueueDeclare::durable("q").argument("x-queue-type", "quorum"));
    assert_eq!(two.arrived("q"), numbers(5));
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let from = ["migrate", "--from", "amqp://u:canary@127.0.0.1:1", "--to", "amqp://127.0.0.1:1"];
    let check = |more: &[&str], code, words: &str| {
        let ended = check(&[&from, more].concat(), code, words);
        assert!(!ended.stderr.contains("canary") && ended.stdout.is_empty(), "{ended:?}");
    };
    check(&["--management-from", "none"], 2, "--definitions names the file");
    check(&["--management-from", "amqp://x"], 2, "http://");
    check(&["--management-from", "http://127.0.0.1:1"], 6, "no management API at");
    check(&["--definitions", "/nowhere.json"], 2, "/nowhere.json");
    check(&["--queue-type", "stream"], 2, "quorum");
}
