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

#[test]
fn certificates_that_expire_soon_fail_their_check() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2500, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(path("chain.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let (chain, private) = (path("chain.pem"), path("key.pem"));
    let tls = ["--listen-tls", "127.0.0.1:0", "--tls-cert", &chain, "--tls-key", &private];
    let mut server = Server::start(&directory.path().join("data"), &tls);
    server.line();
    server.line();
    let http = Http::at(&server.line());
    let check = |within: &str, status: u16, words: &str| {
        let path = format!("/api/health/checks/certificate-expiration/{within}");
        let answer = http.ask("GET", &path, &[("Authorization", GUEST)], b"");
        let text = answer.text();
        assert_eq!((answer.status, text.contains(words)), (status, true), "{within}: {text}");
    };
    check("1/weeks", 200, "\"ok\"");
    check("400/years", 200, "\"ok\"");
    check("500/years", 503, "2500-01-01 00:00:00");
    check("9223372036854775807/years", 503, "amqp/ssl");
    check("-1/days", 200, "\"ok\"");
    check("x/days", 400, "Invalid expiration value.");
    check("1/eons", 400, "Time unit not recognised.");
}
