//! Names that programs trip over, and many of them: paths, NUL, 255 octets, UTF-8; a million tags; patterns that explode;
//! a hundred thousand queues. `strace` watches which files the broker touches.
//!
//! Passes if each name is kept or refused, and is still there after a restart; if lists are answered within a second; and
//! if no file outside the data directory was touched, nor any in it whose name somebody else has chosen.

mod trace;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use leveret_wire::Properties;
use leveret_wire::method::{BasicPublish, ExchangeDeclare, QueueDeclare};

use super::Plan;
use super::client::{Client, Ended, Event};
use super::doors::Doors;
use super::http;
use super::site::Site;
use super::verdict::Verdict;

const LIST_MAX: Duration = Duration::from_secs(1);
const NAME_MAX_BYTES: usize = 255;
const TAGS: usize = 1_000_000;
const PERSISTENT: u8 = 2;
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// Declarations between two answers that are waited for.
const RUN: u64 = 1000;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    super::install(&["strace"])?;
    let traced = site.with_binary(trace::wrapper(&site.launcher().binary, site.folder())?);
    let doors = Doors::open(&traced)?;
    let kept = keep_queues(&doors, verdict)?;
    name_the_rest(&doors, verdict)?;
    exaggerate(&doors, verdict)?;
    doors.close()?;
    let doors = Doors::open(&traced)?;
    find_again(&doors, &kept, verdict)?;
    doors.close()?;
    let (calls, strange) = trace::strangers(site.folder(), &site.launcher().data_dir)?;
    verdict.fact(format!("{} names kept over a restart; {calls} calls with a path", kept.len()));
    strange.iter().for_each(|call| verdict.fault("a stranger's file", call));
    // Tracing would be what is measured.
    let doors = Doors::open(&site.with_data_in(site.folder().join("many")))?;
    list_many(&doors, plan.rounds(5_000, 100_000), verdict)?;
    doors.close()
}

fn odd_names() -> Vec<String> {
    let plain = [
        "../../../../../../tmp/leveret-was-here",
        "..",
        ".",
        "/",
        "//etc/passwd",
        "a/b/../c",
        "with\0nul",
        // No line breaks: RabbitMQ and we take them out of the names of queues.
        "tab\tbell\u{7}",
        "%2e%2e%2f",
        "%00",
        "$(touch leveret-was-here)",
        "'; drop table queues; --",
        "log",
        "checkpoint",
        "\u{202e}txt.exe",
        "\u{feff}bom",
        " ",
        "ÄÖÜ ß 漢字 🐇",
        "*.#",
        "C:\\windows",
    ];
    let mut names: Vec<String> = plain.into_iter().map(str::to_owned).collect();
    names.push("q".repeat(NAME_MAX_BYTES));
    names.push("/".repeat(NAME_MAX_BYTES));
    names.push("漢".repeat(NAME_MAX_BYTES / 3));
    names
}

fn encoded(name: &str) -> String {
    name.bytes().map(|octet| format!("%{octet:02X}")).collect()
}

/// Durable queues with a message each; which of them the broker took.
fn keep_queues(doors: &Doors, verdict: &mut Verdict) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for name in odd_names() {
        match keep(doors, &name) {
            Ok(()) => kept.push(name),
            Err(Ended::Closed { .. }) => {}
            Err(ended) => verdict.fault("neither kept nor refused", format!("{name:?}: {ended}")),
        }
    }
    ensure!(!kept.is_empty(), "no queue was taken");
    Ok(kept)
}

fn keep(doors: &Doors, name: &str) -> Result<(), Ended> {
    let mut client = Client::open(doors.amqp)?;
    client.call(QueueDeclare { queue: name, durable: true, ..Default::default() })?;
    client.call(ExchangeDeclare { exchange: name, kind: "topic", durable: true, ..Default::default() })?;
    client.select_confirms()?;
    let publish = BasicPublish { routing_key: name, ..Default::default() };
    let properties = Properties { delivery_mode: Some(PERSISTENT), ..Properties::default() };
    client.publish(publish, &properties, name.as_bytes())?;
    client.flush()?;
    match client.next(CONFIRM_TIMEOUT)? {
        Some(Event::Confirm { kept: true, .. }) => Ok(()),
        _ => Err(Ended::Silent),
    }
}

/// Virtual hosts, users, policies and more, over HTTP.
fn name_the_rest(doors: &Doors, verdict: &mut Verdict) -> Result<()> {
    let mut names = odd_names();
    names.push("q".repeat(NAME_MAX_BYTES + 1));
    for name in names {
        let path = encoded(&name);
        let asked = [
            (format!("/api/vhosts/{path}"), "{}"),
            (format!("/api/users/{path}"), "{\"password_hash\":\"\",\"tags\":\"\"}"),
            (
                format!("/api/policies/%2F/{path}"),
                "{\"pattern\":\"^none$\",\"definition\":{\"expires\":1000}}",
            ),
            (format!("/api/exchanges/%2F/{path}"), "{\"type\":\"direct\"}"),
            (format!("/api/queues/%2F/http-{path}"), "{}"),
        ];
        for (path, body) in asked {
            let status = http::ask(doors.http, "PUT", &path, body.as_bytes())?.status;
            let is_long = name.len() > NAME_MAX_BYTES;
            let answered = if is_long { (400..500).contains(&status) } else { status < 500 };
            verdict.demand(answered, "a name is our fault", format!("{path}: {status}"));
        }
    }
    Ok(())
}

/// More than anybody should have.
fn exaggerate(doors: &Doors, verdict: &mut Verdict) -> Result<()> {
    let tags = "tag,".repeat(TAGS);
    let body = format!("{{\"password_hash\":\"\",\"tags\":\"{tags}\"}}");
    let status = http::ask(doors.http, "PUT", "/api/users/tagged", body.as_bytes())?.status;
    verdict.demand(status == 400, "a million tags", status);
    let patterns = ["(a+)+$", "(((a{100}){100}){100}){100}", "(?:.*a){40}b", "^(q*)*(q*)*(q*)*$"];
    for pattern in patterns {
        let began = Instant::now();
        let path = format!("/api/queues?use_regex=true&name={}", encoded(pattern));
        let status = http::ask(doors.http, "GET", &path, b"")?.status;
        let took = began.elapsed();
        verdict.demand(
            status < 500 && took <= LIST_MAX,
            "a pattern",
            format!("{pattern}: {status}, {took:?}"),
        );
    }
    Ok(())
}

/// Each queue has its one message.
fn find_again(doors: &Doors, kept: &[String], verdict: &mut Verdict) -> Result<()> {
    for name in kept {
        let mut client = Client::open(doors.amqp)?;
        let found = client.call(QueueDeclare { queue: name, passive: true, ..Default::default() });
        verdict.demand(found == Ok(1), "not found again", format!("{name:?}: {found:?}"));
    }
    let listed = http::demand(doors.http, "GET", "/api/queues", "")?;
    serde_json::from_slice::<serde_json::Value>(&listed.body).context("the list is no JSON")?;
    Ok(())
}

/// So many queues, and what a page of them takes.
fn list_many(doors: &Doors, count: u64, verdict: &mut Verdict) -> Result<()> {
    let mut client = Client::open(doors.amqp)?;
    let began = Instant::now();
    for number in 1..=count {
        let queue = format!("many-{number}");
        let nowait = number % RUN != 0 && number != count;
        let declare = QueueDeclare { queue: &queue, nowait, ..Default::default() };
        if nowait {
            client.send(declare)?;
        } else {
            client.call(declare)?;
        }
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let pages = [
        "/api/queues?page=1&page_size=100",
        "/api/queues?page=1&page_size=100&sort=messages&sort_reverse=true",
        "/api/queues?page=1&page_size=100&use_regex=true&name=7%24",
        "/api/overview",
    ];
    for page in pages {
        let began = Instant::now();
        http::demand(doors.http, "GET", page, "")?;
        let took = began.elapsed();
        verdict.fact(format!("{count} queues, declared at {rate:.0}/s: {page} in {} ms", took.as_millis()));
        verdict.demand(took <= LIST_MAX, "a list is slow", format!("{page}: {took:?}"));
    }
    Ok(())
}
