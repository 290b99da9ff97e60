//! What a browser is told, and what pages of other sites can make it do: read nothing, change nothing, frame nothing.

use std::path::Path;

use crate::http::{Answer, Http};
use crate::program::Server;

/// `guest:guest`, which a browser that once logged in sends by itself.
const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
const FOREIGN: [&str; 6] = [
    "http://evil.example",
    "https://evil.example:15672",
    "null",
    "",
    "http://127.0.0.1:1",
    "http://127.0.0.1.evil.example",
];
/// What a form can send without asking first.
const FORM_TYPES: [&str; 3] =
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"];
/// Changes, and the bodies for which they would be made.
const CHANGES: [(&str, &str, &str); 5] = [
    ("POST", "/api/definitions", r#"{"users":[{"name":"intruder","password":"x","tags":"administrator"}]}"#),
    ("POST", "/api/users/bulk-delete", r#"{"users":["guest"]}"#),
    ("PUT", "/api/users/intruder", r#"{"password":"x","tags":"administrator"}"#),
    ("DELETE", "/api/users/guest", ""),
    (
        "POST",
        "/api/exchanges/%2F/amq.default/publish",
        r#"{"routing_key":"q","payload":"x","payload_encoding":"string","properties":{}}"#,
    ),
];
const CONSOLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../console");

fn start(directory: &Path) -> (Server, Http) {
    let mut server = Server::start(&directory.join("data"), &[]);
    server.line();
    let http = Http::at(&server.line());
    (server, http)
}

fn check_no_sharing(what: &str, answer: &Answer) {
    for name in ["origin", "credentials", "methods", "headers"] {
        let name = format!("access-control-allow-{name}");
        assert_eq!(answer.header(&name), None, "{what}");
    }
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{what}");
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, http) = start(directory.path());
    let queue = http.ask("PUT", "/api/queues/%2F/q", &[GUEST], b"{}");
    assert_eq!(queue.status, 201);
    let before = http.ask("GET", "/api/definitions", &[GUEST], b"").body;
    for (method, path, body) in CHANGES {
        for (origin, kind) in FOREIGN.iter().flat_map(|origin| FORM_TYPES.map(|kind| (origin, kind))) {
            let what = format!("{method} {path} from {origin:?} as {kind}");
            let headers = [GUEST, ("origin", origin), ("content-type", kind)];
            let answer = http.ask(method, path, &headers, body.as_bytes());
            assert_eq!(answer.status, 403, "{what}");
            check_no_sharing(&what, &answer);
        }
    }
    assert_eq!(http.ask("GET", "/api/definitions", &[GUEST], b"").body, before);
    let queue = http.ask("GET", "/api/queues/%2F/q", &[GUEST], b"").json();
    assert_eq!(queue["messages"], 0);
}

#[test]
fn pages_of_other_sites_read_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, http) = start(directory.path());
    let asked =
        [("access-control-request-method", "PUT"), ("access-control-request-headers", "authorization")];
    for path in ["/api/overview", "/api/users", "/api/definitions", "/metrics", "/", "/console/main.js"] {
        let origin = ("origin", "http://evil.example");
        check_no_sharing(path, &http.ask("GET", path, &[GUEST, origin], b""));
        let preflight = http.ask("OPTIONS", path, &[origin, asked[0], asked[1]], b"");
        check_no_sharing(&format!("OPTIONS {path}"), &preflight);
    }
}

#[test]
fn the_console_itself_may_change_things() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, http) = start(directory.path());
    let own = http.own_origin();
    let headers = [GUEST, ("origin", own.as_str()), ("content-type", "application/json")];
    assert_eq!(http.ask("PUT", "/api/queues/%2F/q", &headers, b"{}").status, 201);
}

#[test]
fn nothing_of_the_console_runs_but_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, http) = start(directory.path());
    let page = http.get("/");
    let policy = page.header("content-security-policy").expect("a policy");
    let directives: Vec<&str> = policy.split(';').map(str::trim).collect();
    for directive in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ] {
        assert!(directives.contains(&directive), "{directive}: {policy}");
    }
    for allowed in ["unsafe-inline", "unsafe-eval", "unsafe-hashes", "data:", "*", "http:", "https:"] {
        assert!(!policy.contains(allowed), "{allowed}: {policy}");
    }
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
}

/// The policy would stop it in browsers that know policies; nothing of it is there in the first place.
#[test]
fn no_file_of_the_console_makes_code_or_markup_of_text() {
    let words = ["eval(", "new Function", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"];
    let attributes = [" onclick=", " onload=", " onerror=", "javascript:", " style=\""];
    let mut files = 0;
    for folder in ["", "lib", "pages"] {
        for entry in Path::new(CONSOLE).join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if !path.is_file() {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for word in words.iter().chain(&attributes) {
                assert!(!text.contains(word), "{word} in {}", path.display());
            }
            files += 1;
        }
    }
    assert!(files > 10, "{files} files");
}
