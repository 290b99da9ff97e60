//! Canaries: passwords, tokens and bodies that must be nowhere but where they were put, whatever goes wrong with
//! them and however much is logged.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::Http;
use crate::program::{Server, leveret, run};

/// In every canary, and in nothing else.
const MARK: &str = "canary7f3a";
/// What an administrator can look at.
const PAGES: [&str; 19] = [
    "/api/overview",
    "/api/nodes",
    "/api/users",
    "/api/users/ann",
    "/api/users/guest",
    "/api/connections",
    "/api/channels",
    "/api/consumers",
    "/api/queues",
    "/api/exchanges",
    "/api/bindings",
    "/api/federation-links",
    "/api/shovels",
    "/api/whoami",
    "/api/logs?level=trace&count=2000",
    "/api/log-levels",
    "/metrics",
    "/metrics/per-object",
    "/metrics/detailed",
];

/// What everybody said who is not the sender of a canary.
#[derive(Default)]
struct Heard(String);

impl Heard {
    fn hear(&mut self, from: &str, text: &[u8]) {
        let _ = writeln!(self.0, "{from}: {}", String::from_utf8_lossy(text));
    }

    fn check(&self) {
        let encoded: Vec<String> =
            ["ann", "guest"].map(|user| STANDARD.encode(format!("{user}:{MARK}"))[..12].to_owned()).into();
        let leaks = |line: &&str| line.contains(MARK) || encoded.iter().any(|text| line.contains(text));
        let leaks: Vec<String> = self.0.lines().filter(leaks).map(around).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
}

/// Where in a line it is.
fn around(line: &str) -> String {
    let at = line.find(MARK).unwrap_or(0);
    let (begin, end) = (line.floor_char_boundary(at.saturating_sub(200)), line.floor_char_boundary(at + 100));
    format!("{} … {}", &line[..line.floor_char_boundary(40)], &line[begin..end])
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Requests with a canary in every place where a secret can be, right and wrong.
fn ask_everything(http: &Http, heard: &mut Heard) {
    let right = basic("guest", "guest");
    let wrong = basic("guest", &format!("{MARK}-wrong"));
    let put = |path: &str, body: String| ("PUT", path.to_owned(), right.clone(), body);
    let get = |path: String, login: &str| ("GET", path, login.to_owned(), String::new());
    let uri = format!("amqp://ann:{MARK}-uri@127.0.0.1:1");
    let shovel = "/api/parameters/shovel/%2F/s";
    let upstream = "/api/parameters/federation-upstream/%2F/u";
    let steps = [
        get("/api/whoami".into(), &wrong),
        get("/api/whoami".into(), &format!("Bearer {MARK}-token")),
        get("/api/whoami".into(), &format!("Basic {MARK}-no-base64")),
        get(format!("/api/queues?password={MARK}-query"), &right),
        get(format!("/api/auth/hash_password/{MARK}-path"), &right),
        put("/api/users/ann", format!("{{\"password\":\"{MARK}-put\",\"tags\":\"\"}}")),
        put("/api/users/ann", format!("{{\"password\":\"{MARK}-cut")),
        put("/api/users/ann", format!("{{\"passwort\":\"{MARK}-field\",\"tags\":\"\"}}")),
        put("/api/users/ann", format!("{{\"password\":[\"{MARK}-type\"],\"tags\":\"\"}}")),
        put("/api/users/ann", format!("{{\"password_hash\":\"{MARK}-hash\",\"tags\":\"\"}}")),
        put("/api/permissions/%2F/ann", "{\"configure\":\".*\",\"write\":\".*\",\"read\":\".*\"}".into()),
        put(
            shovel,
            format!("{{\"value\":{{\"src-uri\":\"{uri}\",\"src-queue\":\"a\",\"dest-uri\":\"{uri}\"}}}}"),
        ),
        put(shovel, format!("{{\"value\":{{\"src-uri\":\"amqp://ann:{MARK}-bad@[\",\"src-queue\":\"a\"}}}}")),
        put(upstream, format!("{{\"value\":{{\"uri\":\"{uri}\"}}}}")),
        put(upstream, format!("{{\"value\":{{\"uri\":\"amqp://ann:{MARK}-bad@[\"}}}}")),
        put(
            "/api/policies/%2F/fed",
            "{\"pattern\":\"^amq.topic$\",\"definition\":{\"federation-upstream\":\"u\"}}".into(),
        ),
    ];
    for (method, path, login, body) in steps {
        let answer = http.ask(method, &path, &[("authorization", &login)], body.as_bytes());
        heard.hear(&format!("{method} {}", path.replace(MARK, "…")), &answer.body);
    }
    for page in PAGES {
        heard.hear(page, &http.ask("GET", page, &[("authorization", &right)], b"").body);
    }
}

/// AMQP logins, right and wrong, and a body.
fn publish_everything(address: &str, heard: &mut Heard) {
    let urls = [
        format!("amqp://ann:{MARK}-put@{address}/%2f"),
        format!("amqp://guest:{MARK}-amqp@{address}/%2f"),
        format!("amqp://{address}:{MARK}-no-port@/"),
        format!("amqp://guest:{MARK}-closed@127.0.0.1:1/"),
    ];
    for url in urls {
        let mut command = leveret(&["publish", "--routing-key", "nowhere", &format!("{MARK}-body")]);
        command.env("LEVERET_URL", url).env("LEVERET_LOG", "trace");
        let ended = run(command, b"");
        heard.hear("publish", ended.stderr.as_bytes());
    }
}

#[test]
fn no_secret_is_logged_or_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &["--log", "trace"]);
    let amqp = server.line().replace("amqp://", "");
    let http = Http::at(&server.line());
    let mut heard = Heard::default();
    ask_everything(&http, &mut heard);
    publish_everything(&amqp, &mut heard);
    ask_everything(&http, &mut heard);
    heard.hear("its command line", &std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap());
    server.signal("TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0));
    assert!(log.lines().count() > 20, "trace is not much: {log}");
    heard.hear("the log", log.as_bytes());
    heard.check();
}
