//! Definitions over HTTP: a file with one wrong item, in any of its lists, changes nothing.

use serde_json::{Value, json};

use crate::http::Http;
use crate::program::Server;

/// `guest:guest`
const GUEST: (&str, &str) = ("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");

/// Something of everything, in a virtual host and of a user that are not there yet.
fn file() -> Value {
    json!({
        "vhosts": [{ "name": "new", "description": "d" }],
        "users": [{ "name": "u", "password": "p", "tags": ["administrator"] }],
        "permissions": [{ "user": "u", "vhost": "new", "configure": ".*", "write": ".*", "read": ".*" }],
        "topic_permissions": [{ "user": "u", "vhost": "new", "exchange": "x", "write": "a", "read": "b" }],
        "global_parameters": [{ "name": "g", "value": 1 }],
        "parameters": [
            { "component": "vhost-limits", "vhost": "new", "name": "limits", "value": { "max-queues": 9 } },
            { "component": "shovel", "vhost": "new", "name": "s", "value": {
                "src-uri": "amqp:///new", "src-queue": "q", "dest-uri": "amqp:///new", "dest-queue": "other",
            } },
        ],
        "policies": [{ "vhost": "new", "name": "p", "pattern": "^q", "definition": { "max-length": 5 } }],
        "queues": [{ "vhost": "new", "name": "q", "durable": true, "auto_delete": false, "arguments": {} }],
        "exchanges": [{
            "vhost": "new", "name": "x", "type": "topic", "durable": true, "auto_delete": false, "internal": false,
            "arguments": {},
        }],
        "bindings": [{
            "vhost": "new", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "k",
            "arguments": {},
        }],
    })
}

/// An item that is refused, for each list.
fn wrong() -> Vec<(&'static str, Value)> {
    let shovel =
        |value: Value| json!({ "component": "shovel", "vhost": "new", "name": "bad", "value": value });
    vec![
        ("vhosts", json!({ "name": "" })),
        ("users", json!({ "name": "bad", "tags": "", "password_hash": "x" })),
        (
            "permissions",
            json!({ "user": "nobody", "vhost": "new", "configure": "", "write": "", "read": "" }),
        ),
        (
            "topic_permissions",
            json!({ "user": "u", "vhost": "new", "exchange": "x", "write": "(", "read": "" }),
        ),
        ("global_parameters", json!({ "name": "", "value": 1 })),
        ("parameters", shovel(json!({ "src-uri": "amqp:///new" }))),
        (
            "parameters",
            shovel(json!({
                "src-uri": "amqp:///nowhere", "src-queue": "q", "dest-uri": "amqp:///new", "dest-queue": "q",
            })),
        ),
        (
            "policies",
            json!({ "vhost": "new", "name": "bad", "pattern": "(", "definition": { "max-length": 5 } }),
        ),
        (
            "queues",
            json!({ "vhost": "new", "name": "bad", "durable": true, "arguments": { "x-max-length": "x" } }),
        ),
        ("exchanges", json!({ "vhost": "new", "name": "bad", "type": "nope", "durable": true })),
        (
            "bindings",
            json!({ "vhost": "new", "source": "x", "destination": "q", "destination_type": "nothing" }),
        ),
    ]
}

#[test]
fn a_wrong_last_item_changes_nothing_whatever_the_list() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(&directory.path().join("data"), &[]);
    server.line();
    let http = Http::at(&server.line());
    let shown = || http.ask("GET", "/api/definitions", &[GUEST], b"").text().to_owned();
    let set = |file: &Value| http.ask("POST", "/api/definitions", &[GUEST], file.to_string().as_bytes());
    let before = shown();
    let mut lists: Vec<_> = wrong().into_iter().map(|(list, _)| list).collect();
    lists.dedup();
    assert_eq!(lists.len(), file().as_object().unwrap().len(), "every list has its wrong item");
    for (list, item) in wrong() {
        let mut file = file();
        file[list].as_array_mut().unwrap().push(item.clone());
        let answer = set(&file);
        assert_eq!(answer.status, 400, "{list} {item}: {}", answer.text());
        assert_eq!(shown(), before, "{list} {item}");
    }
    let answer = set(&file());
    assert_eq!(answer.status, 204, "{}", answer.text());
    let after: Value = serde_json::from_str(&shown()).unwrap();
    let shovel = after["parameters"].as_array().unwrap().iter().find(|one| one["component"] == "shovel");
    assert_eq!(shovel.map(|one| one["vhost"].clone()), Some(json!("new")));
}

#[test]
fn a_file_of_the_start_may_have_shovels() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("definitions.json");
    std::fs::write(&path, file().to_string()).unwrap();
    let load = format!("load_definitions={}", path.display());
    let mut server = Server::start(&directory.path().join("data"), &["--set", &load]);
    server.line();
    let http = Http::at(&server.line());
    let shovels = http.ask("GET", "/api/parameters/shovel/new", &[GUEST], b"").json();
    assert_eq!(shovels[0]["name"], "s", "{shovels}");
}
