//! `leveret publish`: messages in. Exit code 0 means that the broker has confirmed them all (P1).

mod property;

use std::collections::VecDeque;
use std::io::{self, BufRead};

use leveret_client::{Confirm, ConfirmChannel, Flush, Publish};
use leveret_wire::{FieldTable, Properties};
use tokio::sync::mpsc;

use crate::client::short;
use crate::failure::Failure;
use crate::stdin::read_stdin;
use crate::toolkit::BrokerUrl;
use property::set_property;

/// How many messages may wait for their confirms with `--lines`.
const UNCONFIRMED_MAX: usize = 1024;
/// How many lines are read ahead of the network.
const LINES_AHEAD_MAX: usize = 1024;
const PERSISTENT: u8 = 2;

/// Publish a message, or every line of stdin as one; exit 0 when the broker has confirmed
#[derive(clap::Args)]
#[command(override_usage = "leveret publish [OPTIONS] QUEUE [BODY | -]
       leveret publish [OPTIONS] --exchange NAME [--key KEY] [BODY | -]")]
pub(crate) struct Arguments {
    #[command(flatten)]
    url: BrokerUrl,
    /// The exchange; without it, the default exchange, where a queue's name is its routing key
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// The routing key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Let the message survive a restart of the broker, in queues that do
    #[arg(long)]
    persistent: bool,
    /// A header; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// The type of the body, e.g. application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Another property: content-encoding, delivery-mode, priority, correlation-id, reply-to, expiration (ms),
    /// message-id, timestamp (s), type, user-id, app-id; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    property: Vec<String>,
    /// Publish every line of stdin as a message of its own
    #[arg(long)]
    lines: bool,
    /// The queue (not with --key or --exchange), then the body; `-` or nothing reads stdin
    #[arg(value_name = "QUEUE BODY", num_args = 0..=2)]
    operands: Vec<String>,
}

/// What is published, and where to.
struct Task {
    exchange: String,
    key: String,
    properties: Properties,
    bodies: Bodies,
}

#[derive(Debug, PartialEq)]
enum Bodies {
    Given(String),
    Stdin,
    Lines,
}

/// Publishes, and waits for the confirms.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let task = task(&arguments)?;
    let client = arguments.url.connect_plainly("leveret publish").await?;
    let channel = client.connection.confirm_channel().await?;
    let published = match &task.bodies {
        Bodies::Given(body) => publish_one(&channel, &task, body.as_bytes()).await,
        Bodies::Stdin => publish_one(&channel, &task, &read_stdin().await?).await,
        Bodies::Lines => publish_lines(&channel, &task).await,
    };
    let closed = client.close().await;
    published.and(closed)
}

fn task(arguments: &Arguments) -> Result<Task, Failure> {
    let (key, body) = operands(arguments)?;
    let bodies = match (arguments.lines, body) {
        (true, None | Some("-")) => Bodies::Lines,
        (true, Some(_)) => return Err(Failure::Usage("--lines reads stdin: leave the body out".to_owned())),
        (false, None | Some("-")) => Bodies::Stdin,
        (false, Some(body)) => Bodies::Given(body.to_owned()),
    };
    let exchange = short("the exchange", arguments.exchange.as_deref().unwrap_or_default())?;
    Ok(Task { exchange, key: short("the routing key", key)?, properties: properties(arguments)?, bodies })
}

/// The routing key and the body.
fn operands(arguments: &Arguments) -> Result<(&str, Option<&str>), Failure> {
    let Arguments { exchange, key, operands, .. } = arguments;
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    match (exchange, key, &operands[..]) {
        (None, None, []) => Err(Failure::Usage("where to? Name a QUEUE, or use --exchange or --key".into())),
        (None, None, [queue]) => Ok((queue, None)),
        (None, None, [queue, body]) => Ok((queue, Some(body))),
        (_, key, []) => Ok((key.as_deref().unwrap_or_default(), None)),
        (_, key, [body]) => Ok((key.as_deref().unwrap_or_default(), Some(body))),
        _ => Err(Failure::Usage("with --exchange or --key there is no QUEUE, only a body".to_owned())),
    }
}

fn properties(arguments: &Arguments) -> Result<Properties, Failure> {
    let mut properties = Properties::default();
    for text in &arguments.property {
        set_property(&mut properties, text)?;
    }
    if let Some(content_type) = &arguments.content_type {
        properties.content_type = Some(short("the content type", content_type)?.into_bytes());
    }
    if arguments.persistent {
        properties.delivery_mode = Some(PERSISTENT);
    }
    for text in &arguments.header {
        let (name, value) = name_and_value("--header", text)?;
        let headers = properties.headers.get_or_insert_with(FieldTable::new);
        headers.insert(short("a header's name", name)?, value);
    }
    Ok(properties)
}

fn name_and_value<'a>(flag: &str, text: &'a str) -> Result<(&'a str, &'a str), Failure> {
    text.split_once('=').ok_or_else(|| Failure::Usage(format!("{flag} {text}: expected NAME=VALUE")))
}

async fn publish_one(channel: &ConfirmChannel, task: &Task, body: &[u8]) -> Result<(), Failure> {
    Ok(send(channel, task, body, Flush::Now).await?.await?)
}

/// Publishes on while confirms are on their way. A message that no queue took does not stop the rest.
async fn publish_lines(channel: &ConfirmChannel, task: &Task) -> Result<(), Failure> {
    let mut lines = stdin_lines();
    let mut unconfirmed: VecDeque<Confirm> = VecDeque::new();
    let mut tally = Tally::default();
    while let Some(line) = lines.recv().await {
        if unconfirmed.len() == UNCONFIRMED_MAX
            && let Some(confirm) = unconfirmed.pop_front()
        {
            tally.count(confirm.await.map_err(Failure::from))?;
        }
        unconfirmed.push_back(send(channel, task, &line?, Flush::Soon).await?);
    }
    for confirm in unconfirmed {
        tally.count(confirm.await.map_err(Failure::from))?;
    }
    tally.finish()
}

/// How many lines arrived, and the first that did not.
#[derive(Default)]
struct Tally {
    confirmed: u64,
    unwanted: u64,
    first: Option<String>,
}

impl Tally {
    fn count(&mut self, outcome: Result<(), Failure>) -> Result<(), Failure> {
        match outcome {
            Ok(()) => self.confirmed += 1,
            Err(Failure::NoRoute(why)) => {
                self.unwanted += 1;
                self.first.get_or_insert(why);
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Failure> {
        let Self { confirmed, unwanted, first } = self;
        match first {
            None => Ok(()),
            Some(why) => {
                let all = confirmed + unwanted;
                Err(Failure::NoRoute(format!("{unwanted} of {all} messages reached no queue: {why}")))
            }
        }
    }
}

async fn send(channel: &ConfirmChannel, task: &Task, body: &[u8], flush: Flush) -> Result<Confirm, Failure> {
    let Task { exchange, key, properties, .. } = task;
    let publish = Publish { exchange, routing_key: key, mandatory: true, properties, body, flush };
    Ok(channel.publish(&publish).await?)
}

/// The lines of stdin without their ends, read on a thread of their own: a pipe may be silent for hours.
fn stdin_lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    tokio::task::spawn_blocking(move || {
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map(|mut line| {
                line.pop_if(|last| *last == b'\r');
                line
            });
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Task, Failure> {
        let words = std::iter::once("publish").chain(line.split_whitespace());
        task(&Line::try_parse_from(words).map_err(|error| Failure::Usage(error.to_string()))?.arguments)
    }

    fn check(line: &str, exchange: &str, key: &str, bodies: Bodies) {
        let task = parse(line).unwrap_or_else(|failure| panic!("{line}: {failure}"));
        assert_eq!((task.exchange.as_str(), task.key.as_str()), (exchange, key), "{line}");
        assert_eq!(task.bodies, bodies, "{line}");
    }

    fn refused(line: &str, expected: &str) {
        let failure = parse(line).err().map(|failure| failure.to_string()).unwrap_or_default();
        assert!(failure.contains(expected), "{line}: {failure:?}");
    }

    #[test]
    fn a_queue_is_named_only_where_no_key_is() {
        let given = |body: &str| Bodies::Given(body.to_owned());
        check("q", "", "q", Bodies::Stdin);
        check("q -", "", "q", Bodies::Stdin);
        check("q hello", "", "q", given("hello"));
        check("--key q hello", "", "q", given("hello"));
        check("--exchange x hello", "x", "", given("hello"));
        check("--exchange x --key k", "x", "k", Bodies::Stdin);
        check("--lines q", "", "q", Bodies::Lines);
        check("--lines --exchange x -", "x", "", Bodies::Lines);
        refused("", "where to?");
        refused("--key k q hello", "there is no QUEUE");
        refused("--lines q hello", "leave the body out");
        refused(&"q".repeat(256), "more than 255 octets");
    }

    #[test]
    fn properties_and_headers_are_set() {
        let line = "q x --persistent --content-type text/plain --header a=b=c --property app-id=me";
        let properties = parse(line).unwrap().properties;
        assert_eq!(properties.delivery_mode, Some(2));
        assert_eq!(properties.content_type.as_deref(), Some(&b"text/plain"[..]));
        assert_eq!(properties.app_id.as_deref(), Some(&b"me"[..]));
        let headers = properties.headers.unwrap();
        assert_eq!(headers.get("a").and_then(|value| value.as_str()), Some("b=c"));
        refused("q x --header a", "--header a: expected NAME=VALUE");
        refused("q x --property a=b", "allowed: content-encoding");
    }
}
