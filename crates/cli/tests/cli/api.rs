//! The HTTP API of `leveret serve`: who is let in, and what is said to those who are not.

use crate::http::Http;
use crate::program::Server;

/// `guest:guest`
const GUEST: &str = "Basic Z3Vlc3Q6Z3Vlc3Q=";

#[test]
fn the_api_wants_a_known_user() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &[]);
    server.line();
    let http = Http::at(&server.line());
    let check = |method: &str, path: &str, headers: &[(&str, &str)], expected: u16, words: &str| {
        let answer = http.ask(method, path, headers, b"");
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!((answer.status, text.contains(words)), (expected, true), "{method} {path}: {text}");
    };
    let guest = ("Authorization", GUEST);
    check("GET", "/api/whoami", &[guest], 200, "administrator");
    check("GET", "/api/whoami", &[], 401, "Login failed");
    check("GET", "/api/whoami", &[("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q")], 401, "Login failed");
    check("GET", "/api/whoami", &[("Authorization", "Basic Z3Vlc3Q6")], 401, "Login failed");
    check("GET", "/api/whoami", &[("Authorization", "Bearer x")], 401, "Login failed");
    check("GET", "/api/vhosts/%2F", &[guest], 200, "\"name\":\"/\"");
    check("GET", "/api/vhosts/missing", &[guest], 404, "Not Found");
    check("GET", "/api/nothing", &[guest], 404, "Not Found");
    check("PUT", "/api/whoami", &[guest], 405, "Method Not Allowed");
    check("OPTIONS", "/api/whoami", &[], 204, "");
}

#[test]
fn logins_are_counted_by_protocol_and_by_source() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &[]);
    server.line();
    let http = Http::at(&server.line());
    let guest = ("Authorization", GUEST);
    let ask = |method: &str, path: &str| {
        let answer = http.ask(method, path, &[guest], b"");
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or(serde_json::Value::Null))
    };
    let wrong = http.ask("GET", "/api/whoami", &[("Authorization", "Basic Z3Vlc3Q6d3Jvbmc=")], b"");
    assert_eq!(wrong.status, 401);
    let (_, overview) = ask("GET", "/api/overview");
    let attempts = format!("/api/auth/attempts/{}", overview["node"].as_str().unwrap());
    let (status, by_protocol) = ask("GET", &attempts);
    assert_eq!((status, &by_protocol[0]["protocol"]), (200, &"http".into()));
    assert_eq!(
        (&by_protocol[0]["auth_attempts"], &by_protocol[0]["auth_attempts_failed"]),
        (&3.into(), &1.into())
    );
    let (_, by_source) = ask("GET", &format!("{attempts}/source"));
    assert_eq!(
        (&by_source[0]["remote_address"], &by_source[0]["username"]),
        (&"127.0.0.1".into(), &"guest".into())
    );
    assert_eq!(ask("DELETE", &attempts).0, 204);
    assert_eq!(ask("GET", &attempts).1[0]["auth_attempts_failed"], 0);
    assert_eq!(ask("GET", "/api/auth/attempts/elsewhere").0, 404);
}
