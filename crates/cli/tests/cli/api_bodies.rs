//! Strange bodies at every route of the HTTP API that takes one: RabbitMQ crashes at some (500), we never do.

use crate::http::Http;
use crate::program::Server;

/// `guest:guest`
const GUEST: (&str, &str) = ("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");

/// The fields that handlers look at.
const FIELDS: [&str; 27] = [
    "password",
    "password_hash",
    "hashing_algorithm",
    "tags",
    "users",
    "configure",
    "write",
    "read",
    "exchange",
    "pattern",
    "definition",
    "priority",
    "apply-to",
    "value",
    "name",
    "durable",
    "auto_delete",
    "arguments",
    "type",
    "routing_key",
    "properties",
    "payload",
    "payload_encoding",
    "count",
    "ackmode",
    "encoding",
    "description",
];

#[test]
fn strange_bodies_are_refused_and_never_our_fault() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &[]);
    server.line();
    let http = Http::at(&server.line());
    let bodies = strange_bodies();
    for route in leveret_admin::routes().filter(|route| matches!(route.method.name(), "PUT" | "POST")) {
        let path = route.path.replace("{vhost}", "%2F").replace(['{', '}'], "");
        for body in &bodies {
            let answer = http.ask(route.method.name(), &path, &[GUEST], body);
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            assert!(answer.status < 500, "{} {path} {shown}: {}", route.method.name(), answer.status);
            if answer.status >= 400 {
                let error: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                assert!(error["error"].is_string() && error["reason"].is_string(), "{path} {shown}: {error}");
            }
        }
    }
    assert_eq!(http.ask("GET", "/api/definitions", &[GUEST], b"").status, 200);
}

fn strange_bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = ["", "null", "[]", "5", "\"x\"", "{}", "{", "{\"a\":", "[{}]", "\u{0}"]
        .map(|body| body.as_bytes().to_vec())
        .into();
    bodies.push(b"{\"name\":\"\xff\"}".to_vec());
    bodies.push([vec![b'['; 100_000], vec![b']'; 100_000]].concat());
    let deep = "{\"arguments\":".repeat(100) + "1" + &"}".repeat(100);
    bodies.push(deep.into_bytes());
    for value in ["null", "5", "-1", "1e300", "\"<b>\\u0000../\"", "[[]]", "[1]", "{\"a\":{}}", "{}"] {
        let fields: Vec<_> = FIELDS.iter().map(|field| format!("\"{field}\":{value}")).collect();
        bodies.push(format!("{{{}}}", fields.join(",")).into_bytes());
    }
    bodies
}
