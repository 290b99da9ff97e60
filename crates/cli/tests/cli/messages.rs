use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::program::{Ended, Server, check, leveret, run};

/// A broker and its URL. No command declares a queue that stays: that is left to an ordinary client.
struct Broker {
    server: Server,
    _directory: tempfile::TempDir,
    url: String,
}

impl Broker {
    fn start() -> Broker {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start(&directory.path().join("data"), &[]);
        let url = server.url();
        Broker { server, _directory: directory, url }
    }

    fn with_queue(name: &str) -> Broker {
        let broker = Broker::start();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(declare(&broker.url, name)).unwrap();
        broker
    }

    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Ended {
        let mut command = leveret(arguments);
        command.env("LEVERET_URL", &self.url);
        run(command, stdin)
    }

    /// Runs a command that must succeed; returns its stdout.
    fn succeed(&self, arguments: &[&str], stdin: &[u8]) -> Vec<u8> {
        let ended = self.run(arguments, stdin);
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        ended.stdout
    }

    fn fail(&self, arguments: &[&str], code: i32, words: &str) {
        let ended = self.run(arguments, b"");
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(words) && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
}

async fn declare(url: &str, queue: &str) -> lapin::Result<()> {
    let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = lapin::options::QueueDeclareOptions::durable();
    channel.queue_declare(queue.into(), options, Default::default()).await?;
    connection.close(200, "OK".into()).await
}

#[test]
fn what_is_published_is_got_octet_by_octet() {
    let broker = Broker::with_queue("q");
    let body = b"\x00\xff\n\r\nanything";
    broker.succeed(&["publish", "q"], body);
    assert_eq!(broker.succeed(&["get", "q"], b""), body);
    assert_eq!(broker.run(&["get", "q"], b"").code, Some(1), "empty");

    broker.succeed(&["publish", "q", "-", "--lines"], b"one\ntwo\r\nthree");
    assert_eq!(broker.succeed(&["get", "q", "--requeue", "--count", "2"], b""), b"one\ntwo\n");
    assert_eq!(broker.succeed(&["get", "q", "--count", "9"], b""), b"one\ntwo\nthree\n");
}

#[test]
fn properties_travel() {
    let broker = Broker::with_queue("q");
    let publish =
        "publish q {} --persistent --content-type application/json --header a=b --property app-id=me";
    broker.succeed(&publish.split(' ').collect::<Vec<_>>(), b"");
    let line = broker.succeed(&["get", "q", "--json"], b"");
    assert_eq!(
        serde_json::from_slice::<Value>(&line).unwrap(),
        json!({
            "exchange": "", "routing_key": "q", "redelivered": false, "body": "{}", "body_encoding": "utf-8",
            "properties": {
                "content_type": "application/json", "delivery_mode": 2, "app_id": "me", "headers": {"a": "b"},
            },
        })
    );
}

#[test]
fn a_tail_shows_copies_and_ends_after_its_count() {
    let broker = Broker::start();
    let mut tail = leveret(&["tail", "--exchange", "amq.topic", "--key", "#.ohio", "--count", "2"]);
    let tail = tail.env("LEVERET_URL", &broker.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tail = tail.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(tail.stderr.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains("waiting for messages of exchange amq.topic"), "{ready}");
    broker.succeed(&["publish", "--exchange", "amq.topic", "--key", "news.ohio", "news"], b"");
    broker.fail(&["publish", "--exchange", "amq.topic", "--key", "news.iowa", "news"], 3, "NO_ROUTE");
    broker.succeed(&["publish", "--exchange", "amq.topic", "--key", "sports.ohio", "sports"], b"");
    let output = tail.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"news\nsports\n");
}

#[test]
fn a_tail_of_a_queue_takes_what_it_shows_and_no_more() {
    let broker = Broker::with_queue("q");
    broker.succeed(&["publish", "q", "--lines"], b"one\ntwo\nthree\n");
    assert_eq!(broker.succeed(&["tail", "--queue", "q", "--count", "2"], b""), b"one\ntwo\n");
    assert_eq!(broker.succeed(&["get", "q"], b""), b"three");
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let broker = Broker::start();
    broker.fail(&["publish", "q", "x"], 3, "NO_ROUTE: there is no queue \"q\"");
    broker.fail(&["publish", "--exchange", "x", "x"], 3, "NOT_FOUND - no exchange 'x' in vhost '/'");
    broker.fail(&["get", "q"], 3, "NOT_FOUND - no queue 'q' in vhost '/'");
    broker.fail(&["tail", "--exchange", "x"], 3, "NOT_FOUND - no exchange 'x' in vhost '/'");
    broker.fail(&["publish"], 2, "where to?");
    broker.fail(&["tail"], 2, "--exchange");
    broker.fail(&["get", "q", "--ack", "--requeue"], 2, "cannot be used with");
    let lines = broker.run(&["publish", "--lines", "q"], b"a\nb\n");
    assert_eq!(lines.code, Some(3));
    assert!(lines.stderr.contains("2 of 2 messages reached no queue"), "{}", lines.stderr);

    let secret = broker.url.replace("guest:guest", "guest:secret");
    let refused = check(&["get", "q", "--url", &secret], 6, "ACCESS_REFUSED");
    assert!(!refused.stderr.contains("secret"), "{}", refused.stderr);
    check(&["get", "q", "--url", "amqp://127.0.0.1:1"], 6, "Connection refused");
    check(&["get", "q", "--url", "http://x"], 2, "must start with amqp://");
    let tls = broker.url.replace("amqp://", "amqps://");
    check(&["get", "q", "--url", &tls], 6, "TLS");
    check(&["get", "q", "--url", "embedded:"], 3, "no queue 'q'");
}

#[test]
fn a_message_that_nobody_took_ends_with_a_goodbye() {
    let broker = Broker::start();
    let ended = broker.run(&["publish", "missing", "hello"], b"");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    broker.server.signal("TERM");
    let (_, log) = broker.server.wait();
    assert!(!log.contains("unexpectedly closed"), "{log}");
}
