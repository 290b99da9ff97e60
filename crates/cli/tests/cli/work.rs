use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Ended, Server, leveret, run};

/// Does what the method says.
const PROGRAM: &str = r#"
    case $RPC_METHOD in
        greet) read -r body; echo "hello $body, $RPC_HEADER_USER_ID" ;;
        refuse) echo "no such city" >&2; exit 65 ;;
        later) exit 75 ;;
        hang) sleep 60 ;;
        nap) sleep 1; echo rested ;;
        *) exec cat ;;
    esac"#;

/// A broker with one `leveret work`; both are killed when it is dropped.
struct Service {
    worker: Child,
    url: String,
    _server: Server,
    _directory: tempfile::TempDir,
}

impl Service {
    fn start(arguments: &[&str], script: &str) -> Service {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start(&directory.path().join("data"), &[]);
        let url = server.url();
        let mut command = leveret(&["work", "weather", "--grace", "200ms"]);
        command.args(arguments).args(["--", "sh", "-c", script]).env("LEVERET_URL", &url);
        let mut worker = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(worker.stderr.take().unwrap()).read_line(&mut ready).unwrap();
        assert!(ready.starts_with("weather is served, "), "{ready}");
        Service { worker, url, _server: server, _directory: directory }
    }

    fn call(&self, arguments: &[&str]) -> Ended {
        let mut command = leveret(&["call"]);
        command.args(arguments).env("LEVERET_URL", &self.url);
        run(command, b"")
    }

    fn check(&self, arguments: &[&str], code: i32, said: &str) {
        let ended = self.call(arguments);
        let whole = format!("{}{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
        assert_eq!(ended.code, Some(code), "{arguments:?}: {whole}");
        assert!(whole.contains(said), "{arguments:?}: {whole}");
    }

    fn signal(&self, name: &str) {
        let pid = self.worker.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.worker.kill());
        drop(self.worker.wait());
    }
}

#[test]
fn a_script_is_a_service() {
    let service = Service::start(&["--bind", "#.ohio"], PROGRAM);
    service.check(&["weather", "$(reboot)"], 0, "$(reboot)");
    service.check(&["weather", "--type", "greet", "--header", "user.id=7", "Ohio"], 0, "hello Ohio, 7");
    service.check(&["--exchange", "amq.topic", "news.ohio", "bound"], 0, "bound");
    service.check(&["weather", "--type", "refuse", "x"], 1, "INVALID_ARGUMENT: no such city");
    service.check(&["weather", "--type", "later", "x"], 1, "UNAVAILABLE: `sh` asks to try again later");
    let begun = Instant::now();
    service.check(&["weather", "--type", "hang", "--timeout", "500ms", "x"], 4, "deadline");
    // One request at once: the next one waits until the one before is gone.
    service.check(&["weather", "after"], 0, "after");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_pool_answers_lines() {
    let script = r#"while read -r line; do id=${line#*:}; echo "{\"id\":${id%%,*},\"result\":$$}"; done"#;
    let service = Service::start(&["--pool", "1", "--line-json"], script);
    let first = service.call(&["weather", "1"]).stdout;
    assert!(String::from_utf8(first.clone()).unwrap().trim().parse::<u32>().is_ok(), "{first:?}");
    assert_eq!(service.call(&["weather", "2"]).stdout, first);
}

#[test]
fn a_worker_that_is_asked_to_end_finishes_what_it_has_begun() {
    let mut service = Service::start(&[], PROGRAM);
    let mut call = leveret(&["call", "weather", "--type", "nap", "x"]);
    let call = call.env("LEVERET_URL", &service.url).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    service.signal("TERM");
    assert!(service.worker.wait().unwrap().success());
    assert_eq!(call.wait_with_output().unwrap().stdout, b"rested\n");
}

#[test]
fn a_mistake_of_the_command_line_is_told_as_one() {
    crate::program::check(
        &["work", "--url", "embedded:", "w", "--", "./no-such"],
        2,
        "cannot start `./no-such`",
    );
    crate::program::check(&["work", "w"], 2, "required");
}
