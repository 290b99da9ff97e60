//! `serve` as a service: what systemd, containers and operators see of it.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http::{Answer, Http};
use crate::program::{Server, check, leveret, run};

const GUEST: (&str, &str) = ("authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=");

/// A broker and its HTTP API.
fn start(directory: &Path, more: &[&str]) -> (Server, Http) {
    let mut server = Server::start(&directory.join("data"), more);
    let http = std::iter::repeat_with(|| server.line()).find(|line| line.starts_with("http://")).unwrap();
    (server, Http::at(&http))
}

fn serve(directory: &Path) -> Command {
    let data = directory.join("data");
    let data = data.to_str().unwrap();
    leveret(&["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir", data])
}

#[test]
fn systemd_is_told_what_happens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut command = serve(directory.path());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let server = Server::run(command);
    let mut heard_of_life = 0;
    let mut expect = |expected: &str| {
        let mut told = [0; 4096];
        loop {
            let count = socket.recv(&mut told).unwrap();
            let text = std::str::from_utf8(&told[..count]).unwrap();
            match text {
                "WATCHDOG=1" => heard_of_life += 1,
                _ => break assert!(text.starts_with(expected), "{text:?}, expected {expected}"),
            }
        }
    };
    expect("READY=1\nSTATUS=ready: amqp://127.0.0.1:");
    std::thread::sleep(Duration::from_millis(500));
    server.signal("HUP");
    expect("RELOADING=1\nMONOTONIC_USEC=");
    expect("READY=1\n");
    server.signal("TERM");
    expect("STOPPING=1\n");
    assert_eq!(server.wait().0, Some(0));
    assert!(heard_of_life > 0, "no sign of life");
}

/// Starts with a descriptor 3 of that name; in vain or not.
fn with_socket(directory: &Path, socket: OwnedFd, name: &str) -> Command {
    let serve = serve(directory);
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 0</dev/null"]);
    command.arg(serve.get_program()).args(serve.get_args());
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name).stdin(Stdio::from(socket));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn sockets_of_systemd_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut child = with_socket(directory.path(), listener.into(), "amqp").spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), format!("amqp://{address}"), "and not --listen");
    TcpStream::connect(address).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_that_is_none_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let check = |socket: OwnedFd, name: &str, words: &str| {
        let ended = with_socket(directory.path(), socket, name).output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(2) && stderr.contains(words), "{name}: {stderr}");
    };
    check(
        listener(),
        "mqtt",
        "descriptor 3: its name is \"mqtt\"; FileDescriptorName= is one of amqp, amqps",
    );
    check(listener(), "", "descriptor 3: its name is \"\"");
    let file = std::fs::File::create(directory.path().join("file")).unwrap();
    check(file.into(), "amqp", "descriptor 3: it is not an open socket");
    check(UnixDatagram::unbound().unwrap().into(), "amqp", "descriptor 3: it is not a listening socket");
}

#[test]
fn a_container_can_ask_whether_it_is_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::run(serve(directory.path()));
    let line = std::iter::repeat_with(|| server.line()).find(|line| line.starts_with("http://")).unwrap();
    let address = line.replace("http://", "");
    for flags in [&["health", "--http", &address][..], &["health", "--live", "--http", &address]] {
        let ended = run(leveret(flags), b"");
        assert_eq!((ended.code, &ended.stdout[..]), (Some(0), &b"{\"status\":\"ok\"}\n"[..]), "{ended:?}");
    }
    server.signal("TERM");
    server.wait();
    check(&["health", "--http", &address], 1, &address);
    check(&["health", "--http", "nowhere"], 1, "nowhere");
}

fn guest(http: &Http, method: &str, path: &str, body: &str) -> Answer {
    http.ask(method, path, &[GUEST], body.as_bytes())
}

#[test]
fn the_log_can_be_read_and_changed_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (server, http) = start(directory.path(), &["--log", "info,http=off"]);
    assert_eq!(http.get("/api/logs").status, 401);
    let lines = guest(&http, "GET", "/api/logs", "").json();
    let lines = lines.as_array().unwrap();
    let ready = lines.iter().find(|line| line["message"] == "ready").unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!((&ready["level"], &ready["area"]), (&"info".into(), &"serve".into()));
    let path = format!("/api/logs?after={}", lines.last().unwrap()["number"]);
    assert_eq!(guest(&http, "GET", &path, "").text(), "[]");

    let level_of = |area: &str| {
        let levels = guest(&http, "GET", "/api/log-levels", "").json();
        let areas = levels["areas"].as_array().unwrap();
        areas.iter().find(|one| one["name"] == area).unwrap()["level"].clone()
    };
    assert_eq!((level_of("queue"), level_of("http")), ("info".into(), "off".into()));
    assert_eq!(guest(&http, "PUT", "/api/log-levels", "{\"http\":\"debug\"}").status, 204);
    assert_eq!((level_of("queue"), level_of("http")), ("info".into(), "debug".into()));
    let new = guest(&http, "GET", &format!("{path}&level=debug"), "").json();
    let messages: Vec<&Value> = new.as_array().unwrap().iter().map(|line| &line["message"]).collect();
    assert!(messages.contains(&&"levels of the log changed".into()), "{new}");
    assert!(new.as_array().unwrap().iter().any(|line| line["area"] == "http"), "{new}");

    let refused = |body: &str, words: &str| {
        let answer = guest(&http, "PUT", "/api/log-levels", body);
        assert!(answer.status == 400 && answer.text().contains(words), "{body}: {answer:?}");
    };
    refused("{\"queue\":\"debug\",\"que\":\"debug\"}", "que");
    refused("{\"queue\":\"loud\"}", "loud");
    refused("{\"queue\":1}", "expected a string");
    refused("nothing", "not_json");
    assert_eq!(level_of("queue"), "info");
    assert_eq!(guest(&http, "GET", "/api/logs?level=loud", "").status, 400);
    assert_eq!(guest(&http, "GET", "/api/logs?after=x", "").status, 400);
    server.signal("TERM");
    server.wait();
}

#[test]
fn a_container_gets_its_first_user_once() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    let start = |password: &str| {
        std::fs::write(&secret, password).unwrap();
        let mut command = serve(directory.path());
        command.env("LEVERET_DEFAULT_USER", "ann").env("LEVERET_DEFAULT_PASS_FILE", &secret);
        let mut server = Server::run(command);
        let line = std::iter::repeat_with(|| server.line()).find(|line| line.starts_with("http://"));
        (server, Http::at(&line.unwrap()))
    };
    let ann = ("authorization", "Basic YW5uOnJpZ2h0IGhvcnNl");
    for password in ["right horse\n", "another one\n"] {
        let (server, http) = start(password);
        let answer = http.ask("GET", "/api/whoami", &[ann], b"");
        assert!(answer.status == 200 && answer.text().contains("administrator"), "{answer:?}");
        assert_eq!(guest(&http, "GET", "/api/whoami", "").status, 401);
        server.signal("TERM");
        assert_eq!(server.wait().0, Some(0));
    }
    let flags = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", "default_user=ann"];
    let data = directory.path().join("other");
    let more = ["--data-dir", data.to_str().unwrap(), "--set", "default_pass_file=/nowhere"];
    check(&[&flags[..], &more].concat(), 1, "/nowhere");
}

#[test]
fn definitions_are_loaded_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("definitions.json");
    let flags = |file: &Path| format!("load_definitions={}", file.display());
    std::fs::write(&file, "{\"vhosts\":[{\"name\":\"warren\"}]}").unwrap();
    for _ in 0..2 {
        let (server, http) = start(directory.path(), &["--set", &flags(&file)]);
        let answer = guest(&http, "GET", "/api/vhosts/warren", "");
        assert_eq!(answer.status, 200, "{answer:?}");
        server.signal("TERM");
        assert_eq!(server.wait().0, Some(0));
    }
    std::fs::write(&file, "{\"vhosts\":7}").unwrap();
    let data = directory.path().join("other");
    let more = ["--data-dir", data.to_str().unwrap(), "--set", &flags(&file)];
    let serve = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    check(&[&serve[..], &more].concat(), 1, "load_definitions: ");
}
