use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use leveret::{Answer, Client, Code, Failure, Payload, Request, Worker};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::http::Http;
use crate::program::{Server, check, leveret};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PIECE_BYTES: usize = 64 << 10;

/// A broker, a gateway in front of it, and what the service `weather` has done.
struct Site {
    http: Http,
    gateway: Server,
    broker: Server,
    client: Client,
    worker: Worker,
    seen: Arc<Seen>,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

#[derive(Default)]
struct Seen {
    /// Handlers that were dropped before they ended.
    cancelled: AtomicUsize,
    /// Pieces of streams that were taken from the handler.
    pieces: AtomicUsize,
    tasks: AtomicUsize,
}

impl Site {
    fn start(arguments: &[&str]) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let mut broker = Server::start(&directory.path().join("data"), &[]);
        let url = broker.url();
        let runtime = Runtime::new().unwrap();
        let seen = Arc::new(Seen::default());
        let (client, worker) = runtime.block_on(serve(&url, &seen));
        let mut command = leveret(&["gateway", "--http", "127.0.0.1:0"]);
        command.args(arguments).env("LEVERET_URL", url);
        let mut gateway = Server::run(command);
        let http = Http::at(&gateway.line());
        Site { http, gateway, broker, client, worker, seen, runtime, _directory: directory }
    }
}

async fn serve(url: &str, seen: &Arc<Seen>) -> (Client, Worker) {
    let client = Client::connect(url).await.unwrap();
    let description = leveret::Description {
        version: "1.2.0".into(),
        endpoints: vec!["fail".into(), "hang".into()],
        ..Default::default()
    };
    let seen = seen.clone();
    let handler = leveret::raw(move |request| weather(request, seen.clone()));
    let serve = client.serve("weather", handler).describe(description).bind("amq.topic", "#.ohio");
    let worker = serve.start().await.unwrap();
    (client, worker)
}

/// Does what the method says.
async fn weather(request: Request, seen: Arc<Seen>) -> Result<Answer, Failure> {
    let text = String::from_utf8_lossy(&request.payload.body).into_owned();
    match request.method.as_deref() {
        None => Ok(Answer::One(request.payload)),
        Some("context") => Ok(Answer::One(Payload::new("application/json", context(&request)))),
        Some("page") => Ok(Answer::One(Payload::new("text/html\r\nx: y", "<p>"))),
        Some("fail") => Err(Failure::new(Code::from_name(&text), "as you wish").with_details(&[text])),
        Some("hang") => {
            let _dropped = Dropped(seen);
            std::future::pending().await
        }
        Some("nap") => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(Answer::One(Payload::bytes("rested")))
        }
        Some("tiles") => {
            request.cx.progress("looking").await;
            let left = text.parse().map_err(|_| Failure::invalid_argument("how many?"))?;
            Ok(Answer::Many(Box::pin(Tiles { left, seen })))
        }
        Some("note") => {
            seen.tasks.fetch_add(usize::from(text == "buy milk"), Ordering::SeqCst);
            Ok(Answer::One(Payload::bytes("")))
        }
        Some(other) => Err(Failure::new(Code::Unimplemented, other)),
    }
}

fn context(request: &Request) -> String {
    let header = |name: &str| request.cx.header(name).and_then(|value| value.as_str()).map(str::to_owned);
    let told = json!({
        "tenant": header("tenant"),
        "accept": header("rpc-accept"),
        "trace": request.cx.trace().map(|trace| (trace.trace_id(), trace.tracestate().map(str::to_owned))),
        "message_id": request.cx.message_id(),
        "remaining_ms": request.cx.remaining().map(|left| left.as_millis() as u64),
        "content_type": request.payload.content_type,
        "routing_key": request.cx.routing_key(),
    });
    told.to_string()
}

struct Dropped(Arc<Seen>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

struct Tiles {
    left: usize,
    seen: Arc<Seen>,
}

impl Stream for Tiles {
    type Item = Result<Payload, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.seen.pieces.fetch_add(1, Ordering::SeqCst);
        let size = if self.left > 100 { PIECE_BYTES } else { 2 };
        Poll::Ready(Some(Ok(Payload::new("text/plain", "x".repeat(size)))))
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        self.seen.cancelled.fetch_add(usize::from(self.left > 0), Ordering::SeqCst);
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(10), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_question_is_answered_as_it_was_asked() {
    let site = Site::start(&[]);
    for (content_type, body) in [("application/json", &b"{\"a\": 1}"[..]), ("image/png", b"\x00\xff\r\n")] {
        let answer = site.http.post("/call/weather", &[("content-type", content_type)], body);
        assert_eq!((answer.status, answer.body.as_slice()), (200, body));
        assert_eq!(answer.header("content-type"), Some(content_type));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    let chunked = b"POST /call/w%65ather HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
        transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(site.http.raw(chunked).whole().text(), "abcde");
    let page = site.http.post("/call/weather/page", &[], b"");
    assert_eq!(page.header("content-type"), Some("application/octet-stream"), "a type that is no type");
}

#[test]
fn what_the_headers_say_reaches_the_handler() {
    let site = Site::start(&[]);
    let headers = [
        ("Content-Type", "text/plain"),
        ("X-Rpc-Timeout", "2s"),
        ("Idempotency-Key", "\"order 7\""),
        ("X-Rpc-Header-Tenant", "acme"),
        ("Accept", "application/cbor, */*"),
        ("traceparent", TRACEPARENT),
        ("tracestate", "vendor=1"),
    ];
    let told = site.http.post("/call/weather/context", &headers, b"x").json();
    let remaining_ms = told["remaining_ms"].as_u64().unwrap();
    assert!((500..=2_000).contains(&remaining_ms), "{told}");
    for (name, expected) in [
        ("tenant", json!("acme")),
        ("accept", json!("application/cbor")),
        ("trace", json!([&TRACEPARENT[3..35], "vendor=1"])),
        ("message_id", json!("order 7")),
        ("content_type", json!("text/plain")),
        ("routing_key", json!("weather")),
    ] {
        assert_eq!(told[name], expected, "{told}");
    }
    let through = "/call/weather/context?exchange=amq.topic&key=news.ohio";
    assert_eq!(site.http.post(through, &[], b"").json()["routing_key"], "news.ohio");
    assert!(site.http.post("/call/weather/context", &[], b"").json()["remaining_ms"].as_u64() > Some(20_000));
}

#[test]
fn whatever_goes_wrong_is_a_problem() {
    let site = Site::start(&[]);
    for (code, status) in [("NOT_FOUND", 404), ("UNAUTHENTICATED", 401), ("DATA_LOSS", 500)] {
        let problem = site.http.post("/call/weather/fail", &[], code.as_bytes()).problem(status, "remote");
        assert_eq!(problem["detail"], "as you wish");
        assert_eq!((&problem["code"], &problem["details"]), (&json!(code), &json!([code])));
    }
    let full = site.http.post("/call/weather/fail", &[], b"RESOURCE_EXHAUSTED");
    assert_eq!(full.problem(429, "remote")["retryable"], true);
    assert_eq!(full.header("retry-after"), Some("1"));
    let nowhere = site.http.post("/call/nowhere", &[], b"");
    assert_eq!(nowhere.problem(404, "no_route")["may_have_run"], false);
    let late = site.http.post("/call/weather/hang", &[("grpc-timeout", "100m")], b"");
    assert_eq!(late.problem(504, "expired")["may_have_run"], true);
    until("the handler was stopped", || site.seen.cancelled.load(Ordering::SeqCst) == 1);
    site.http.post("/call/weather/nothing", &[], b"").problem(501, "remote");

    let Site { http, worker, runtime, gateway: _gateway, broker: _broker, client: _client, .. } = site;
    runtime.block_on(worker.drain());
    let nobody = http.post("/call/weather?fail_fast=true", &[], b"");
    assert_eq!(nobody.problem(503, "no_worker")["retryable"], true);
    assert_eq!(nobody.header("retry-after"), Some("1"));
}

#[test]
fn hostile_requests_are_refused_and_named() {
    let site = Site::start(&["--body-max", "1KiB", "--allow", "weather", "--allow", "amq.topic/*.ohio"]);
    let check = |path: &str, headers: &[_], status, kind: &str, words: &str| {
        let problem = site.http.post(path, headers, b"").problem(status, kind);
        assert!(problem["detail"].as_str().unwrap().contains(words), "{path}: {problem}");
    };
    for path in ["/", "/call", "/call/", "/call/weather/a/b", "/call//a", "/gather/x", "/health"] {
        check(path, &[], 404, "no_such_path", path);
    }
    check("/call/weather", &[("x-rpc-timeout", "soon")], 400, "invalid", "X-Rpc-Timeout `soon`");
    check("/call/weather", &[("prefer", "wait=x")], 400, "invalid", "Prefer: wait `x`");
    let long = "k".repeat(300);
    check("/call/weather", &[("idempotency-key", &long)], 400, "invalid", "has 300 octets");
    check(&format!("/call/{long}"), &[], 400, "invalid", "service has 300 octets");
    check(&format!("/call/weather/{long}"), &[], 400, "invalid", "method has 300 octets");
    check("/call/weather?exchnge=x", &[], 400, "invalid", "no parameter `exchnge`");
    check("/call/weather%ff", &[], 400, "invalid", "service");
    check("/call/weather", &[("x-rpc-header-rpc-deadline", "0")], 400, "invalid", "rpc-deadline");
    check("/call/rpc.reply.x", &[], 403, "forbidden", "--allow");
    check("/call/news", &[], 403, "forbidden", "--allow");
    check("/task/news", &[], 403, "forbidden", "--allow");
    check("/call/weather?key=news", &[], 403, "forbidden", "--allow");
    check("/call/weather?exchange=amq.topic&key=a.iowa", &[], 403, "forbidden", "--allow");
    check("/gather/amq.fanout/a.ohio", &[], 403, "forbidden", "--allow");
    check("/gather/amq.topic/a.ohio?count=0", &[], 400, "invalid", "count");
    check("/call/weather", &[("content-length", "1025")], 413, "body_too_large", "1024 octets");
    check("/call/weather", &[("origin", "http://evil.example")], 403, "forbidden", "own machine");
    for path in ["/call/weather", "/task/weather"] {
        let wrong = site.http.get(path);
        wrong.problem(405, "wrong_method");
        assert_eq!(wrong.header("allow"), Some("POST"));
    }
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", 2_000, "x".repeat(2_000));
    let head = "POST /call/weather HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    site.http.raw(format!("{head}{body}").as_bytes()).whole().problem(413, "body_too_large");
}

#[test]
fn what_is_not_http_ends_the_connection_and_nothing_else() {
    let site = Site::start(&[]);
    let check = |octets: &[u8], expected: u16| {
        let told: String = octets.escape_ascii().to_string().chars().take(80).collect();
        assert_eq!(site.http.raw(octets).status, expected, "{told}");
    };
    check(b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400);
    check(b"AMQP\x00\x00\x09\x01\r\n\r\n", 400);
    check(b"POST /call/weather HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400);
    check(b"POST /call/weather HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400);
    let many: String = (0..200).map(|n| format!("h{n}: x\r\n")).collect();
    check(format!("GET /services HTTP/1.1\r\n{many}\r\n").as_bytes(), 431);
    let large = "x".repeat(100 << 10);
    check(format!("GET /services HTTP/1.1\r\nx: {large}\r\n\r\n").as_bytes(), 431);
    assert_eq!(site.http.post("/call/weather", &[], b"alive").text(), "alive");
}

#[test]
fn a_client_that_hangs_up_stops_the_work() {
    let site = Site::start(&[]);
    let mut stream = site.http.connect();
    write!(stream, "POST /call/weather/hang HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    until("the work began", || site.worker.stats().in_flight == 1);
    drop(stream);
    until("the work was stopped", || site.seen.cancelled.load(Ordering::SeqCst) == 1);
}

#[test]
fn many_answers_come_as_events() {
    let site = Site::start(&[]);
    let events = [("accept", "text/event-stream")];
    let answer = site.http.post("/call/weather/tiles", &events, b"2");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(
        answer.text(),
        "event: progress\ndata: looking\n\nid: 0\ndata: xx\n\nid: 1\ndata: xx\n\n\
         event: end\ndata: {\"answers\":2}\n\n"
    );
    let once = site.http.post("/call/weather", &events, b"one answer");
    assert_eq!(once.text(), "id: 0\ndata: one answer\n\nevent: end\ndata: {\"answers\":1}\n\n");
    let failed = site.http.post("/call/weather/tiles", &events, b"many");
    let data = failed.text().split("event: error\ndata: ").nth(1).unwrap_or_else(|| panic!("{failed:?}"));
    assert_eq!(serde_json::from_str::<Value>(data).unwrap()["code"], "INVALID_ARGUMENT");
    site.http.post("/call/nowhere", &events, b"").problem(404, "no_route");
    site.http.post("/call/weather?fail_fast", &events, b"").problem(400, "invalid");
}

#[test]
fn a_slow_reader_slows_the_worker_down() {
    let site = Site::start(&[]);
    let pieces = || site.seen.pieces.load(Ordering::SeqCst);
    let mut incoming =
        site.http.send("POST", "/call/weather/tiles", &[("accept", "text/event-stream")], b"5000");
    assert_eq!(incoming.status, 200);
    incoming.chunk().unwrap();
    // The kernel's buffers and the window of the stream fill up, and then it stands still.
    let mut before = 0;
    until("the worker waits", || {
        let (was, now) = (before, pieces());
        before = now;
        std::thread::sleep(Duration::from_millis(300));
        now > 0 && now == was
    });
    assert!(before < 2_000, "{before} pieces of {PIECE_BYTES} octets, and nobody reads them");
    for _ in 0..before {
        incoming.chunk().unwrap();
    }
    until("the worker goes on", || pieces() > before);
    drop(incoming);
    until("the worker stops", || site.seen.cancelled.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_task_is_accepted_when_the_broker_has_it() {
    let site = Site::start(&[]);
    let answer = site.http.post("/task/weather/note", &[("idempotency-key", "milk")], b"buy milk");
    assert_eq!((answer.status, answer.json()), (202, json!({ "message_id": "milk" })));
    until("the task was done", || site.seen.tasks.load(Ordering::SeqCst) == 1);
    assert!(site.http.post("/task/weather/note", &[], b"").json()["message_id"].is_string());
    site.http.post("/task/nowhere", &[], b"").problem(404, "no_route");
}

#[test]
fn everybody_who_listens_is_gathered() {
    let site = Site::start(&[]);
    let answers = site.http.post("/gather/amq.topic/news.ohio?silence=100ms", &[], b"[1]").json();
    assert_eq!((answers.as_array().unwrap().len(), &answers[0]["body"]), (1, &json!([1])), "{answers}");
    assert!(answers[0]["from"].as_str().unwrap().starts_with("weather/"), "{answers}");
    let failed = site.http.post("/gather/amq.topic/a.ohio?count=1&method=fail", &[], b"NOT_FOUND").json();
    assert_eq!(failed[0]["code"], "NOT_FOUND");
    site.http.post("/gather/amq.topic/news.iowa?count=1", &[], b"").problem(404, "no_route");
}

#[test]
fn what_there_is_to_call_is_told() {
    let site = Site::start(&["--allow", "weather"]);
    let hidden =
        site.client.serve("hidden", leveret::handler(|_, n: u64| async move { Ok::<_, Failure>(n) }));
    let _hidden = site.runtime.block_on(hidden.start()).unwrap();
    let found = site.http.get("/services").json();
    assert_eq!((found.as_array().unwrap().len(), &found[0]["name"]), (1, &json!("weather")), "{found}");
    assert!(found[0]["endpoints"][0]["num_requests"].is_u64(), "{found}");
    assert_eq!(site.http.get("/services?service=hidden").json(), json!([]));
    let document = site.http.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.contains_key("/call/weather/fail") && paths.contains_key("/task/{service}"), "{paths:?}");
    assert!(!paths.keys().any(|path| path.contains("hidden")));
    assert_eq!(document["paths"]["/call/weather/hang"]["post"]["x-service-version"], "1.2.0");
}

#[test]
fn health_follows_the_broker() {
    let site = Site::start(&[]);
    assert_eq!(site.http.get("/health/live").json(), json!({ "status": "live" }));
    assert_eq!(site.http.get("/health/ready").json(), json!({ "status": "ready" }));
    drop(site.broker);
    until("the loss is noticed", || site.http.get("/health/ready").status == 503);
    site.http.get("/health/ready").problem(503, "broker_away");
    assert_eq!(site.http.get("/health/live").status, 200);
    let lost = site.http.post("/call/weather", &[("x-rpc-timeout", "100ms")], b"");
    assert_eq!(lost.problem(502, "connection_lost")["may_have_run"], false);
}

#[test]
fn a_token_lets_in_and_nothing_else_does() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old-token\nnew-token\n").unwrap();
    let path = file.path().to_str().unwrap();
    let site = Site::start(&["--token", path]);
    for token in ["Bearer old-token", "Bearer new-token"] {
        let headers = [("authorization", token), ("host", "gateway.example")];
        assert_eq!(site.http.post("/call/weather", &headers, b"in").text(), "in");
    }
    let refused = site.http.post("/call/weather", &[("authorization", "Bearer other")], b"");
    refused.problem(401, "unauthenticated");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    for path in ["/services", "/openapi.json", "/nowhere"] {
        site.http.get(path).problem(401, "unauthenticated");
    }
    assert_eq!(site.http.get("/health/ready").status, 200);
}

#[test]
fn flags_that_make_no_sense_are_named() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    let gateway = |more: &[&str], words: &str| {
        check(&[&["gateway"], more].concat(), 2, words);
    };
    gateway(&["--http", "0.0.0.0:0"], "--token FILE, or --allow-anonymous");
    gateway(&["--http", "nowhere"], "--http nowhere: ");
    gateway(&["--token", empty], "there is no token in it");
    gateway(&["--token", empty, "--allow-anonymous"], "cannot be used with");
    gateway(&["--timeout", "10m"], "--timeout must be from 1ms to --timeout-max");
    gateway(&["--timeout", "0"], "--timeout must be");
    gateway(&["--timeout-max", "25h"], "at most 24h");
    gateway(&["--timeout-max", "1e19h"], "a time from 0");
    gateway(&["--body-max", "16MB"], "no unit of size");
    gateway(&["--allow", ""], "EXCHANGE/KEY");
    gateway(&["--concurrency", "0"], "--concurrency");
    let away = ["gateway", "--http", "127.0.0.1:0", "--url", "amqp://127.0.0.1:1"];
    check(&away, 6, "Connection refused");
}

#[test]
fn more_requests_than_allowed_wait_outside() {
    let site = Site::start(&["--concurrency", "1"]);
    let hanging = site.http.connect();
    let head = "POST /call/weather/hang HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    (&hanging).write_all(head.as_bytes()).unwrap();
    until("the work began", || site.worker.stats().in_flight == 1);
    let refused = site.http.post("/call/weather", &[], b"");
    assert_eq!(refused.problem(503, "gateway_busy")["retryable"], true);
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(hanging);
    until("there is room again", || site.http.post("/call/weather", &[], b"").status == 200);
}

#[test]
fn a_signal_lets_running_calls_end() {
    let site = Site::start(&[]);
    let mut running = site.http.connect();
    let head = "POST /call/weather/nap HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    running.write_all(head.as_bytes()).unwrap();
    until("the work began", || site.worker.stats().in_flight == 1);
    site.gateway.signal("TERM");
    let mut answer = String::new();
    running.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("rested"), "{answer}");
    let (code, stderr) = site.gateway.wait();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_second_signal_does_not_wait() {
    let site = Site::start(&[]);
    let mut running = site.http.connect();
    let head = "POST /call/weather/hang HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    running.write_all(head.as_bytes()).unwrap();
    until("the work began", || site.worker.stats().in_flight == 1);
    site.gateway.signal("TERM");
    std::thread::sleep(Duration::from_millis(200));
    site.gateway.signal("TERM");
    assert_eq!(site.gateway.wait().0, Some(0));
    until("the work was stopped", || site.seen.cancelled.load(Ordering::SeqCst) == 1);
}

#[test]
fn headers_that_do_not_come_end_the_connection() {
    let site = Site::start(&[]);
    let began = Instant::now();
    let mut slow = site.http.connect();
    slow.write_all(b"POST /call/weather HTTP/1.1\r\nhost: ").unwrap();
    let mut answer = Vec::new();
    drop(slow.read_to_end(&mut answer));
    assert!((8..20).contains(&began.elapsed().as_secs()), "{:?} {}", began.elapsed(), answer.escape_ascii());
}
