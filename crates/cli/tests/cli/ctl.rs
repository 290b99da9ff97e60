//! `leveret ctl` and `leveret top --once`, against a management API that says what it is told to.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::program::{Ended, Server, leveret, run};

/// A management API.
struct Fake {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// One that knows these answers: `("GET /api/overview", 200, "{}")`; everything else is 404.
    fn start(answers: &[(&str, u16, &str)]) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://me:secret@{}", listener.local_addr().unwrap());
        let answers: HashMap<String, (u16, String)> = answers
            .iter()
            .map(|(request, status, body)| ((*request).to_owned(), (*status, (*body).to_owned())))
            .collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                converse(stream.unwrap(), &answers, &log);
            }
        });
        Fake { url, asked }
    }

    fn run(&self, line: &[&str], stdin: &str) -> Ended {
        let mut command = leveret(line);
        command.env("LEVERET_MANAGEMENT_URL", &self.url);
        run(command, stdin.as_bytes())
    }

    /// Runs a command; checks code, all of stdout, and a part of stderr.
    fn check(&self, line: &str, code: i32, stdout: &str, stderr: &str) {
        let ended = self.run(&line.split(' ').collect::<Vec<_>>(), "");
        assert_eq!(String::from_utf8_lossy(&ended.stdout), stdout, "{line}: {ended:?}");
        assert!(ended.stderr.contains(stderr), "{line}: {ended:?}, expected {stderr}");
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
    }

    /// What was asked that is no GET, with its body.
    fn changes(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|request| !request.starts_with("GET ")).cloned().collect()
    }
}

fn converse(stream: TcpStream, answers: &HashMap<String, (u16, String)>, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some((request, body)) = read_request(&mut reader) {
        log.lock().unwrap().push(format!("{request} {body}"));
        let not_found = (404, r#"{"error":"Object Not Found","reason":"Not Found"}"#.to_owned());
        let (status, body) = answers.get(&request).unwrap_or(&not_found);
        let answer = format!("HTTP/1.1 {status} Words\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        writer.write_all(answer.as_bytes()).unwrap();
    }
}

/// `GET /api/queues` without its query, and the body.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, String)> {
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).ok().filter(|&octets| octets > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = first.trim_end().trim_end_matches(" HTTP/1.1");
    let request = request.split('?').next().unwrap().to_owned();
    Some((request, String::from_utf8(body).unwrap()))
}

const QUEUES: &str = r#"[
    {"name": "b\tc\u001b[31m", "vhost": "/", "type": "quorum", "state": "running", "messages_ready": 12345,
     "messages_unacknowledged": 0, "consumers": 1, "policy": "p", "messages": 12345},
    {"name": "a", "vhost": "v", "type": "classic", "state": "running", "messages_ready": 7,
     "messages_unacknowledged": 1, "consumers": 0, "messages": 8}]"#;

#[test]
fn queues_are_listed() {
    let fake = Fake::start(&[("GET /api/queues", 200, QUEUES), ("GET /api/queues/%2f", 200, QUEUES)]);
    let titles = "vhost\tname\ttype\tstate\tmessages_ready\tmessages_unacknowledged\tconsumers\tpolicy\n";
    let (b, a) =
        ("/\tb\\tc\\u{1b}[31m\tquorum\trunning\t12345\t0\t1\tp\n", "v\ta\tclassic\trunning\t7\t1\t0\t\n");
    fake.check("ctl queues list", 0, &format!("{titles}{b}{a}"), "");
    fake.check("ctl queues list --no-header --sort name", 0, &format!("{a}{b}"), "");
    fake.check("ctl queues list --columns name --sort -messages", 0, "name\nb\\tc\\u{1b}[31m\na\n", "");
    fake.check("ctl list_queues name messages -s", 0, "b\\tc\\u{1b}[31m\t12345\n", "");
    let json = "{\"name\":\"b\\tc\\u001b[31m\"}\n{\"name\":\"a\"}\n";
    fake.check("ctl queues list --columns name --json", 0, json, "");
    fake.check("ctl queues list -p / --columns name", 0, "name\nb\\tc\\u{1b}[31m\n", "");
}

#[test]
fn a_change_is_told() {
    let queue = r#"{"durable": true, "auto_delete": false, "arguments": {}, "name": "q"}"#;
    let fake = Fake::start(&[
        ("GET /api/queues/%2f/q", 200, queue),
        ("PUT /api/queues/%2f/q", 204, ""),
        ("PUT /api/queues/%2f/new", 201, ""),
        ("DELETE /api/queues/%2f/q", 204, ""),
        ("DELETE /api/queues/%2f/q/contents", 204, ""),
    ]);
    fake.check("ctl queues declare q", 0, "", "queue q in /: unchanged");
    fake.check("ctl queues declare q --transient", 0, "", "queue q in /: changed");
    fake.check("ctl queues declare new -a x-max-length=3", 0, "", "queue new in /: created");
    fake.check("ctl queues purge q", 0, "", "queue q in /: purged");
    fake.check("ctl queues delete q -q", 0, "", "");
    let json = "{\"change\":\"was not there\",\"kind\":\"queue\",\"name\":\"nix\",\"vhost\":\"/\"}\n";
    fake.check("ctl queues delete nix --if-exists --json", 0, json, "");
    fake.check("ctl queues delete nix", 1, "", "queue nix in /: not found");
    let expected = [
        r#"PUT /api/queues/%2f/q {"arguments":{},"auto_delete":false,"durable":false}"#,
        r#"PUT /api/queues/%2f/new {"arguments":{"x-max-length":3},"auto_delete":false,"durable":true}"#,
        "DELETE /api/queues/%2f/q/contents ",
        "DELETE /api/queues/%2f/q ",
        "DELETE /api/queues/%2f/nix ",
        "DELETE /api/queues/%2f/nix ",
    ];
    assert_eq!(fake.changes(), expected);
}

#[test]
fn a_queue_is_paused_where_the_broker_can() {
    let message = r#"[{"exchange":"","routing_key":"q","payload_bytes":2,"payload":"hi","payload_encoding":"string",
        "redelivered":false,"properties":[]}]"#;
    let fake = Fake::start(&[
        ("PUT /api/queues/%2f/q/pause", 204, ""),
        ("PUT /api/queues/%2f/q/resume", 204, ""),
        ("GET /api/queues/%2f/q/messages", 200, message),
        ("POST /api/queues/%2f/old/get", 200, message),
        ("POST /api/queues/%2f/empty/get", 200, "[]"),
    ]);
    fake.check("ctl queues pause q", 0, "", "queue q in /: paused");
    fake.check("ctl queues resume q", 0, "", "queue q in /: resumed");
    fake.check("ctl queues pause other", 1, "", "not found, or this broker cannot pause queues");
    let shown = "exchange= key=q octets=2\nhi\n";
    fake.check("ctl queues peek q", 0, shown, "");
    fake.check("ctl queues peek old", 0, shown, "");
    fake.check("ctl queues peek empty", 1, "", "");
    fake.check("ctl queues peek none", 1, "", "not found");
}

#[test]
fn messages_are_moved() {
    let fake = Fake::start(&[
        ("POST /api/queues/%2f/dead/move", 200, r#"{"moved":3,"stayed":0,"reason":null}"#),
        ("POST /api/queues/%2f/stuck/move", 200, r#"{"moved":1,"stayed":2,"reason":"no queue 'x'"}"#),
        (
            "GET /api/queues/%2f/dead/unacked",
            200,
            r#"[{"connection":"c","channel":1,"consumer_tag":"t","since":7}]"#,
        ),
    ]);
    fake.check("ctl queues move dead --retry", 0, "", "3 moved, 0 stayed");
    fake.check("ctl queues move stuck --to-queue x -n 3", 1, "", "leveret: no queue 'x'");
    fake.check("ctl queues move dead", 2, "", "Usage");
    fake.check("ctl queues unacked dead --columns connection,since", 0, "connection\tsince\nc\t7\n", "");
    let expected = [
        r#"POST /api/queues/%2f/dead/move {"retry":true}"#,
        r#"POST /api/queues/%2f/stuck/move {"count":3,"to_queue":"x"}"#,
    ];
    assert_eq!(fake.changes(), expected);
}

/// RabbitMQ ignores `preview` and does it.
#[test]
fn a_preview_changes_nothing() {
    let effect = r#"{"queues":2,"exchanges":0,"messages_dropped":7}"#;
    let ours = Fake::start(&[
        ("GET /api/overview", 200, r#"{"product_name":"Leveret"}"#),
        ("PUT /api/policies/%2f/p", 200, effect),
    ]);
    let line = ["ctl", "policies", "set", "p", "^x", r#"{"max-length":1}"#, "--preview"];
    let ended = ours.run(&line, "");
    assert_eq!(ended.stdout, b"exchanges\t0\nmessages_dropped\t7\nqueues\t2\n", "{ended:?}");
    let rabbitmq = Fake::start(&[
        ("GET /api/overview", 200, r#"{"product_name":"RabbitMQ"}"#),
        ("PUT /api/policies/%2f/p", 204, ""),
        ("DELETE /api/policies/%2f/p", 204, ""),
    ]);
    assert_eq!(rabbitmq.run(&line, "").code, Some(2));
    rabbitmq.check("ctl policies delete p --preview", 2, "", "cannot tell before it does it");
    assert_eq!(rabbitmq.changes(), Vec::<String>::new());
}

#[test]
fn a_refusal_has_the_brokers_words() {
    let fake = Fake::start(&[
        ("GET /api/users", 401, r#"{"error":"not_authorised","reason":"Login failed"}"#),
        ("PUT /api/queues/%2f/q", 400, r#"{"error":"bad_request","reason":"inequivalent arg 'durable'"}"#),
        ("GET /api/health/checks/alarms", 503, r#"{"status":"failed","reason":"alarms in effect"}"#),
        ("GET /api/overview", 200, "<html>"),
    ]);
    fake.check("ctl users list", 1, "", "leveret: not authorized: Login failed");
    fake.check("ctl queues declare q", 1, "", "leveret: refused (400): inequivalent arg 'durable'");
    let failed = "check\tstatus\treason\nalarms\tfailed\talarms in effect\n";
    fake.check("ctl health alarms", 1, failed, "1 of 1 checks failed");
    fake.check("ctl status", 1, "", "the answer to /api/overview cannot be read");
    fake.check("ctl queues", 2, "", "Usage");
    fake.check("ctl --management ftp://me:canary@x status", 2, "", "it must begin with http://");
    fake.check("ctl --management http://me:canary@127.0.0.1:1 status", 6, "", "http://me@127.0.0.1:1");
}

#[test]
fn a_password_comes_by_stdin() {
    let fake = Fake::start(&[
        ("PUT /api/users/bob", 201, ""),
        ("GET /api/users/ann", 200, r#"{"name":"ann","tags":["management"],"password_hash":"aGFzaA=="}"#),
        ("PUT /api/users/ann", 204, ""),
    ]);
    let ended = fake.run(&["ctl", "users", "add", "bob", "--tags", "monitoring,x"], "canary\n");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), "user bob: created\n"), "{ended:?}");
    let ended = fake.run(&["ctl", "users", "add", "ann"], "canary\n");
    assert!(ended.code == Some(1) && ended.stderr.contains("user ann is there already"), "{ended:?}");
    fake.check("ctl users tags ann monitoring", 0, "", "user ann: changed");
    fake.check("ctl clear_password ann", 0, "", "user ann: changed");
    let ended = fake.run(&["ctl", "users", "password", "ann"], "");
    assert!(ended.code == Some(2) && ended.stderr.contains("the password is empty"), "{ended:?}");
    let expected = [
        r#"PUT /api/users/bob {"password":"canary","tags":"monitoring,x"}"#,
        r#"PUT /api/users/ann {"password_hash":"aGFzaA==","tags":"monitoring"}"#,
        r#"PUT /api/users/ann {"password_hash":"","tags":"management"}"#,
    ];
    assert_eq!(fake.changes(), expected);
}

#[test]
fn definitions_are_a_private_file() {
    use std::os::unix::fs::PermissionsExt;
    let fake = Fake::start(&[
        ("GET /api/definitions", 200, r#"{"users": []}"#),
        ("POST /api/definitions/v", 204, ""),
    ]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("definitions.json");
    let name = file.to_str().unwrap();
    fake.check(&format!("ctl definitions export {name}"), 0, "", "written to");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fake.check(&format!("ctl definitions import {name} -p v"), 0, "", "imported");
    fake.check("ctl definitions export", 0, "{\n  \"users\": []\n}\n", "");
    fake.check("ctl definitions import -", 2, "", "is no JSON");
    assert_eq!(fake.changes(), [r#"POST /api/definitions/v {"users":[]}"#]);
}

#[test]
fn top_looks_once() {
    let fake = Fake::start(&[
        ("GET /api/overview", 200, r#"{"product_name": "RabbitMQ", "product_version": "3.10.8"}"#),
        ("GET /api/nodes", 401, r#"{"error":"not_authorised","reason":"no"}"#),
        ("GET /api/queues", 200, QUEUES),
        ("GET /api/connections", 200, "[]"),
    ]);
    let ended = fake.run(&["top", "--once", "--json"], "");
    let sample: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&sample["queues"][1]["name"], &sample["services"]), (&Value::from("a"), &Value::Null));
    let ended = fake.run(&["top", "--once"], "");
    assert!(String::from_utf8_lossy(&ended.stdout).starts_with("RabbitMQ 3.10.8"), "{ended:?}");
    fake.check("top", 2, "", "stdout is no terminal");
}

/// The other side is `leveret serve`.
#[test]
fn our_own_broker_is_administered() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &[]);
    server.line();
    let line = server.line();
    let address = line.strip_prefix("http://").unwrap_or_else(|| panic!("{line:?}"));
    let check = |login: &str, line: &str, stdin: &str, code: i32, stdout: &str| {
        let mut command = leveret(&line.split(' ').collect::<Vec<_>>());
        command.env("LEVERET_MANAGEMENT_URL", format!("http://{login}@{address}"));
        let ended = run(command, stdin.as_bytes());
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
        assert!(String::from_utf8_lossy(&ended.stdout).contains(stdout), "{line}: {ended:?}");
    };
    let guest = |line, stdin, code, stdout| check("guest:guest", line, stdin, code, stdout);
    guest("ctl queues declare q -a x-max-length=5 --json", "", 0, r#""change":"created""#);
    guest("ctl queues declare q -a x-max-length=5 --json", "", 0, r#""change":"unchanged""#);
    guest("ctl queues declare q", "", 1, "");
    guest("ctl list_queues name messages -s", "", 0, "q\t0\n");
    guest("ctl users add bob --tags management --json", "canary\n", 0, r#""change":"created""#);
    check("bob:canary", "ctl users whoami", "", 0, "bob");
    guest("ctl users tags bob monitoring --json", "", 0, r#""change":"changed""#);
    check("bob:canary", "ctl users whoami", "", 0, "monitoring");
    check("bob:wrong", "ctl users whoami", "", 1, "");
    guest("ctl permissions set bob .* .* .* --json", "", 0, r#""change":"created""#);
    guest("ctl users delete bob --json", "", 0, r#""change":"deleted""#);
    guest("top --once --json", "", 0, r#""name":"q""#);
    guest("ctl status", "", 0, "Leveret");
}

#[test]
fn shells_get_completions() {
    for (shell, words) in
        [("bash", "_leveret()"), ("zsh", "#compdef leveret"), ("fish", "complete -c leveret")]
    {
        let ended = run(leveret(&["completions", shell]), b"");
        let script = String::from_utf8(ended.stdout).unwrap();
        assert!(ended.code == Some(0) && script.contains(words) && script.contains("definitions"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    let ended = run(leveret(&["man", directory.path().to_str().unwrap()]), b"");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for page in ["leveret.1", "leveret-serve.1", "leveret-ctl.1", "leveret-ctl-queues-declare.1"] {
        let text = std::fs::read_to_string(directory.path().join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains(".SH DESCRIPTION"), "{page}: {text}");
    }
}

/// `eprintln!` panicked, with exit code 101.
#[test]
fn a_closed_stderr_ends_no_command() {
    for line in ["ctl --management ftp://x status", "call --url amqp://127.0.0.1:1 x y"] {
        let mut command = leveret(&line.split(' ').collect::<Vec<_>>());
        let mut child =
            command.stderr(Stdio::piped()).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        drop(child.stderr.take());
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(2 | 6)), "{line}: {code:?}");
    }
}
