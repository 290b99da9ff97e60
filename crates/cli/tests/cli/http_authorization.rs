//! Who may use which route of the HTTP API: the written table, played against the binary.
//!
//! A line is a route and, for users with no tag, `management`, `policymaker`, `monitoring` and `administrator`, whether they
//! are let in (`+`) or refused (`-`): first in a virtual host in which they have permissions, then in one in which they have
//! none. A route without a virtual host has twice the same. `open` needs no login. A route without a line fails the test, and
//! so does a line without a route.

use std::collections::{BTreeMap, BTreeSet};

use crate::http::Http;
use crate::program::Server;

const TABLE: &str = include_str!("../http_authorization.txt");
const ROLES: [&str; 5] = ["none", "management", "policymaker", "monitoring", "administrator"];
/// `guest:guest`
const GUEST: (&str, &str) = ("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");
/// No handler takes it, so nothing changes for those who come that far.
const NO_JSON: &[u8] = b"[";

#[test]
fn every_route_has_a_line_and_every_line_a_route() {
    let written: BTreeSet<String> = table().into_keys().collect();
    let there = leveret_admin::routes().map(|route| format!("{} {}", route.method.name(), route.path));
    assert_eq!(written, there.collect());
}

#[test]
fn routes_are_for_those_whom_the_table_names() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &[]);
    server.line();
    let api = Api::prepare(&server.line());
    let mut wrong = Vec::new();
    for (route, expected) in table() {
        if expected == "open" {
            let status = api.ask(&route, "own", &[]);
            assert_ne!(status, 401, "{route} without a login");
            continue;
        }
        assert_eq!(api.ask(&route, "own", &[]), 401, "{route} without a login");
        let pair = |role: &str| ["own", "foreign"].map(|vhost| api.is_let_in(&route, vhost, role)).concat();
        let got = ROLES.map(pair).join(" ");
        if got != expected {
            wrong.push(format!("{route}: got {got}, want {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn table() -> BTreeMap<String, String> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let mut words = line.split_whitespace();
        let route = format!("{} {}", words.next().unwrap(), words.next().unwrap());
        (route, words.collect::<Vec<_>>().join(" "))
    };
    lines.map(split).collect()
}

/// The API of a broker with a user for each role, with permissions in the virtual host `own`.
struct Api(Http);

impl Api {
    fn prepare(line: &str) -> Api {
        let http = Http::at(line);
        let put = |path: &str, body: &str| {
            let answer = http.ask("PUT", path, &[GUEST], body.as_bytes());
            assert!(answer.status < 300, "{path}: {}", String::from_utf8_lossy(&answer.body));
        };
        for vhost in ["own", "foreign"] {
            put(&format!("/api/vhosts/{vhost}"), "");
            // What an administrator deletes on the way would be missing for those who come later.
            http.post(&format!("/api/vhosts/{vhost}/deletion/protection"), &[GUEST], b"");
        }
        for role in ROLES {
            let tags = if role == "none" { "" } else { role };
            put(&format!("/api/users/{role}"), &format!(r#"{{"password":"p","tags":"{tags}"}}"#));
            put(&format!("/api/permissions/own/{role}"), r#"{"configure":".*","write":".*","read":".*"}"#);
        }
        Api(http)
    }

    fn is_let_in(&self, route: &str, vhost: &str, role: &str) -> &'static str {
        let login = match role {
            "none" => "bm9uZTpw",
            "management" => "bWFuYWdlbWVudDpw",
            "policymaker" => "cG9saWN5bWFrZXI6cA==",
            "monitoring" => "bW9uaXRvcmluZzpw",
            _ => "YWRtaW5pc3RyYXRvcjpw",
        };
        let login = format!("Basic {login}");
        match self.ask(route, vhost, &[("Authorization", &login)]) {
            401 | 403 => "-",
            status if status < 500 || status == 503 => "+",
            status => panic!("{route} as {role}: {status}"),
        }
    }

    /// Whatever else the path names does not exist.
    fn ask(&self, route: &str, vhost: &str, headers: &[(&str, &str)]) -> u16 {
        let (method, path) = route.split_once(' ').unwrap();
        let segment = |part: &str| match part {
            "{vhost}" => vhost.to_owned(),
            part if part.starts_with('{') => "missing".to_owned(),
            part => part.to_owned(),
        };
        let path: Vec<_> = path.split('/').map(segment).collect();
        let body = if matches!(method, "PUT" | "POST") { NO_JSON } else { b"" };
        self.0.ask(method, &path.join("/"), headers, body).status
    }
}
