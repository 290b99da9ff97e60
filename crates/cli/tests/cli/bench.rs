//! `leveret bench` on a Leveret: every shape briefly, what it prints, and what it leaves behind.

use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

use crate::program::{Ended, Server, check, leveret, run};

const BRIEFLY: [&str; 4] = ["--duration", "500ms", "--warm-up", "100ms"];

struct Site {
    server: Server,
    url: String,
    http: String,
    _directory: tempfile::TempDir,
}

impl Site {
    fn start() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start(&directory.path().join("data"), &[]);
        let url = server.url();
        let http = server.line();
        Site { server, url, http, _directory: directory }
    }

    fn bench(&self, arguments: &[&str]) -> Ended {
        let mut command = leveret(&["bench"]);
        command.args(arguments).env("LEVERET_URL", &self.url);
        run(command, b"")
    }

    /// Runs a load that must succeed; returns its JSON.
    fn measure(&self, arguments: &[&str]) -> Value {
        let ended = self.bench(&[arguments, &BRIEFLY, &["--json"]].concat());
        assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
        serde_json::from_slice(&ended.stdout).unwrap()
    }

    /// Names of the queues and exchanges that a load left behind.
    fn left_behind(&self) -> String {
        let management = self.http.replace("http://", "http://guest:guest@");
        let list = |noun: &str| {
            let ended = run(leveret(&["ctl", "--management", &management, noun, "list", "--json"]), b"");
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            String::from_utf8(ended.stdout).unwrap()
        };
        let all = list("queues") + &list("exchanges");
        all.lines().filter(|line| line.contains("leveret-bench")).collect()
    }
}

#[test]
fn every_shape_runs_and_leaves_nothing() {
    let site = Site::start();
    let check = |line: &str, figure: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let document = site.measure(&arguments);
        let broker = &document["brokers"][0];
        assert!(broker["figures"][figure]["median"].as_f64().unwrap() > 1.0, "{line}: {broker}");
        assert_eq!(document["interrupted"], false);
        let messages = &broker["rounds"][0]["messages"];
        for wrong in ["lost", "duplicated", "reordered"] {
            assert!(messages.is_null() || messages[wrong] == 0, "{line}: {messages}");
        }
        document
    };
    check("flow", "delivered");
    check(
        "flow --producers 2 --consumers 2 --queues 2 --persistent --confirms 100 --ack-every 10",
        "confirmed",
    );
    check("flow --rate 500 --exchange headers --header k=v", "end to end p99");
    check("fanout --consumers 3", "delivered");
    check("topic --other-bindings 50", "delivered");
    check("rpc --in-flight 4", "answer p50");
    let document = check("rpc --in-flight 4 --rate 100", "answer p99.9");
    assert_eq!(document["plan"]["rate"], 100.0);
    check("connections --connections 2", "connections");
    check("connections --hold 10", "opened");
    check("channels", "channels");
    let document = check("declare", "cycle p50");
    assert!(document["brokers"][0]["figures"]["broker memory"]["median"].as_f64().unwrap() > 1.0);
    assert_eq!(site.left_behind(), "");
}

#[test]
fn a_backlog_is_counted() {
    let site = Site::start();
    let ended =
        site.bench(&["backlog", "--count", "5000", "--size", "100", "--ack-every", "100", "--progress"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = String::from_utf8(ended.stdout).unwrap();
    assert!(report.contains("filled") && report.contains("broker memory, all waiting"), "{report}");
    assert_eq!(site.left_behind(), "");
}

#[test]
fn brokers_are_compared_in_a_table_and_a_picture() {
    let (one, other) = (Site::start(), Site::start());
    let picture = tempfile::NamedTempFile::new().unwrap();
    let pid = format!("second={}", other.server.pid());
    let vs =
        ["flow", "--vs", &other.url, "--name", "first", "--name", "second", "--rounds", "2", "--pid", &pid];
    let svg = ["--svg", picture.path().to_str().unwrap(), "--progress"];
    let ended = one.bench(&[&vs[..], &svg, &BRIEFLY].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = String::from_utf8(ended.stdout).unwrap();
    for words in ["first", "better", "delivered", "broker CPU", "throughput over time", "end to end latency"]
    {
        assert!(report.contains(words), "{words}: {report}");
    }
    assert!(ended.stderr.contains("second round 2/2 measuring"), "{}", ended.stderr);
    assert!(std::fs::read_to_string(picture.path()).unwrap().starts_with("<svg "));
    assert_eq!(one.left_behind() + &other.left_behind(), "");
}

#[test]
fn lost_messages_are_a_failure() {
    let site = Site::start();
    // With a time to live of nothing, whatever finds no credit waiting is dropped.
    let drops = ["flow", "--queue-argument", "x-message-ttl=0", "--ack-every", "1", "--prefetch", "1"];
    let ended = site.bench(&[&drops[..], &BRIEFLY, &["--rate", "2000"]].concat());
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let said = "a promise was broken: 127.0.0.1:";
    assert!(ended.stderr.contains(said) && ended.stderr.contains("--allow-loss"), "{}", ended.stderr);
    assert!(
        String::from_utf8(ended.stdout).unwrap().contains("delivered"),
        "the numbers are there all the same"
    );
    let document = site.measure(&[&drops[..], &["--rate", "2000", "--allow-loss"]].concat());
    assert_eq!(document["broken_promises"].as_array().unwrap().len(), 0);
    assert!(document["brokers"][0]["rounds"][0]["messages"]["lost"].as_u64().unwrap() > 0);
}

#[test]
fn a_broker_is_loaded_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (chain, key) = (chain.to_str().unwrap(), key.to_str().unwrap());
    let flags = ["--listen-tls", "127.0.0.1:0", "--tls-cert", chain, "--tls-key", key];
    let mut server = Server::start(&directory.path().join("data"), &flags);
    server.line();
    let address = server.line().replace("amqps://", "");
    let url = format!("amqps://guest:guest@{address}/%2f?cacertfile={chain}");
    let check = |line: &str, figure: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        let url = ["--url", &url, "--json"];
        let ended = run(leveret(&[&["bench"], &arguments[..], &BRIEFLY, &url].concat()), b"");
        assert_eq!(ended.code, Some(0), "{line}: {}", ended.stderr);
        let document: Value = serde_json::from_slice(&ended.stdout).unwrap();
        let value = &document["brokers"][0]["figures"][figure]["median"];
        assert!(value.as_f64().unwrap() > 1.0, "{line}: {document}");
    };
    check("flow --size 16,100000 --ack-every 10", "delivered");
    check("flow --confirms 100 --ack-every 10 --rate 500 --channels 2 --producers 2", "confirm p99");
    check("rpc --rate 200", "answer p99");
    check("connections", "connections");
    let check = |url: &str, code: i32, words: &str| {
        let ended = run(leveret(&["bench", "flow", "--url", url]), b"");
        assert_eq!(ended.code, Some(code), "{url}: {ended:?}");
        assert!(ended.stderr.contains(words), "{url}: {}", ended.stderr);
    };
    check(&format!("amqps://{address}?cacertfile={key}"), 2, "no certificate in it");
    check(&format!("amqps://{address}?ca=1"), 2, "unknown parameter 'ca'");
    check(&format!("{url}&auth_mechanism=external"), 2, "by name and password only");
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(key, stranger.cert.pem()).unwrap();
    check(&format!("amqps://{address}?cacertfile={key}"), 6, "TLS handshake: invalid peer certificate");
}

#[test]
fn an_interrupt_ends_the_load_and_cleans_up() {
    let site = Site::start();
    let mut command = leveret(&["bench", "flow", "--rate", "100", "--duration", "5m"]);
    command.env("LEVERET_URL", &site.url).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    while site.left_behind().is_empty() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped before its end"), "{said}");
    assert_eq!(site.left_behind(), "");
}

#[test]
fn wrong_flags_and_brokers_are_refused_by_name() {
    let nobody = "amqp://127.0.0.1:1";
    check(&["bench"], 2, "Usage");
    check(&["bench", "flow", "--size", "15"], 2, "16 to 67108864");
    check(&["bench", "flow", "--producers", "0"], 2, "producers: 0 is not from 1 to 10000");
    check(&["bench", "flow", "--url", "http://x"], 2, "--url: the URI must start with amqp");
    check(&["bench", "rpc", "--rate", "0"], 2, "a rate is more than 0 and at most 10000000 a second, not 0");
    check(&["bench", "flow", "--url", "embedded:"], 2, "leveret serve");
    check(&["bench", "flow", "--url", nobody, "--pid", "none"], 2, "not a process id");
    check(&["bench", "flow", "--url", nobody, "--vs", nobody], 2, "two brokers are called");
    check(&["bench", "flow", "--url", nobody, "--name", "a", "--name", "b"], 2, "2 names for 1 brokers");
    check(&["bench", "flow", "--url", nobody], 6, "connecting");
    let site = Site::start();
    let ended = site.bench(&["flow", "--queue-argument", "x-max-length=many"]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("406 PRECONDITION_FAILED"), "{}", ended.stderr);
    let stranger = site.url.replace("guest:guest", "guest:wrong");
    let ended = site.bench(&["flow", "--url", &stranger]);
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("403") && !ended.stderr.contains("wrong"), "{}", ended.stderr);
}
