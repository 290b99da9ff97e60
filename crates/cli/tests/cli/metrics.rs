//! Metrics: with a login where the API is, without one where the configuration says so.

use crate::http::Http;
use crate::program::Server;

/// `guest:guest`
const GUEST: (&str, &str) = ("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
const PATHS: [&str; 4] = [
    "/metrics",
    "/metrics/per-object",
    "/metrics/detailed?family=queue_metrics&vhost=%2F",
    "/metrics/memory-breakdown",
];

#[test]
fn a_listener_of_metrics_has_them_for_everybody_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &["--set", "metrics=127.0.0.1:0"]);
    server.line();
    let (api, line) = (Http::at(&server.line()), server.line());
    let metrics = Http::at(line.strip_suffix("/metrics").unwrap());
    for path in PATHS {
        assert_eq!(metrics.get(path).status, 200, "{path}");
        assert_eq!(api.get(path).status, 401, "{path}");
    }
    for path in ["/", "/api/whoami", "/api/overview", "/health/live", "/metrics/", "/metrics/x"] {
        let found = metrics.ask("GET", path, &[GUEST], b"").status;
        assert_eq!(found, if path == "/metrics/" { 200 } else { 404 }, "{path}");
    }
    assert_eq!(metrics.ask("PUT", "/api/vhosts/x", &[GUEST], b"").status, 404);
    assert_eq!(metrics.post("/metrics", &[], b"").status, 405);
    let overview = api.ask("GET", "/api/overview", &[GUEST], b"").json();
    let listeners = overview["listeners"].as_array().unwrap();
    assert!(listeners.iter().any(|one| one["protocol"] == "http/prometheus"), "{listeners:?}");
}

#[test]
fn the_api_hands_out_metrics_without_a_login_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &["--set", "metrics_anonymous=true"]);
    server.line();
    let api = Http::at(&server.line());
    for path in PATHS {
        assert_eq!(api.get(path).status, 200, "{path}");
    }
    assert_eq!(api.get("/api/overview").status, 401);
}

#[test]
fn scrapers_that_accept_openmetrics_get_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &["--set", "metrics=127.0.0.1:0"]);
    server.line();
    server.line();
    let metrics = Http::at(server.line().strip_suffix("/metrics").unwrap());
    let accept = ("Accept", "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1");
    let answer = metrics.ask("GET", "/metrics/per-object", &[accept], b"");
    assert!(
        answer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0")
    );
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, _) in kinds.filter(|(_, kind)| *kind == "counter") {
        assert!(!name.ends_with("_total"), "{name}");
        let other = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert_eq!(other, None, "every sample of a counter ends with _total");
    }
    assert!(metrics.get("/metrics").header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
}
