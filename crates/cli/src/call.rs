//! `leveret call`: ask a service. The exit code says why there is no answer.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use leveret::{CallError, Client, Gathered, Payload, Reply};
use serde_json::Value;

use crate::answer_json::{error_as_json, reply_as_json};
use crate::failure::Failure;
use crate::say::say;
use crate::stdin::read_stdin;
use crate::toolkit::{BrokerUrl, duration, pair};

/// Ask a service and print its answer
///
/// Exit codes: 0 answered, 1 the service reported an error, 2 usage, 3 no route or no worker, 4 expired, 5 refused
/// or overloaded, 6 connection.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    url: BrokerUrl,
    /// The service: the queue it consumes. With --exchange, a routing key
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The request's body; `-` or nothing reads stdin
    #[arg(value_name = "BODY")]
    body: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    /// A header; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,
    /// Which of the service's methods
    #[arg(long = "type", value_name = "METHOD")]
    method: Option<String>,
    /// The type of the body. Default: application/json if it is JSON, else text/plain
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Ask through this exchange instead of the default one
    #[arg(long, value_name = "NAME")]
    exchange: Option<String>,
    /// Print many answers: so many, or until nobody answered for this long (500ms)
    #[arg(long, value_name = "N|TIME", value_parser = gather)]
    gather: Option<Gather>,
    /// Print the answers of a stream as they come
    #[arg(long, conflicts_with = "gather")]
    stream: bool,
    /// Do not wait for a busy worker
    #[arg(long)]
    fail_fast: bool,
    /// Ask again this often if that may help
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Print a JSON object per answer, with its properties; errors too
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Gather {
    Count(usize),
    Silence(Duration),
}

fn gather(text: &str) -> Result<Gather, String> {
    match text.parse() {
        Ok(0) => Err("at least one".to_owned()),
        Ok(count) => Ok(Gather::Count(count)),
        Err(_) => duration(text).map(Gather::Silence),
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let payload = payload(&arguments).await?;
    let client = arguments.url.connect("leveret call").await?;
    let asked = Instant::now();
    let ended = match (arguments.gather, arguments.stream) {
        (Some(gather), _) => gather_answers(&client, &arguments, payload, gather).await,
        (None, true) => stream_answers(&client, &arguments, payload).await,
        (None, false) => one_answer(&client, &arguments, payload).await,
    };
    client.close().await;
    match ended {
        Err(Ended::Call(error)) if arguments.json => {
            print_json(&error_as_json(&error, asked.elapsed()))?;
            Err(error.into())
        }
        Err(Ended::Call(error)) => Err(error.into()),
        Err(Ended::Failure(failure)) => Err(failure),
        Ok(()) => Ok(()),
    }
}

enum Ended {
    Call(CallError),
    Failure(Failure),
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Failure(error.into())
    }
}

async fn payload(arguments: &Arguments) -> Result<Payload, Failure> {
    let body = match arguments.body.as_deref() {
        Some("-") | None => read_stdin().await?,
        Some(body) => body.as_bytes().to_vec(),
    };
    let content_type = match &arguments.content_type {
        Some(content_type) => content_type.clone(),
        None if body.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() => {
            "application/json".to_owned()
        }
        None if std::str::from_utf8(&body).is_ok() => "text/plain".to_owned(),
        None => "application/octet-stream".to_owned(),
    };
    Ok(Payload::new(content_type, body))
}

async fn one_answer(client: &Client, arguments: &Arguments, payload: Payload) -> Result<(), Ended> {
    let mut call =
        client.request(&arguments.service, payload).timeout(arguments.timeout).retries(arguments.retries);
    if let Some(exchange) = &arguments.exchange {
        call = call.exchange(exchange, &arguments.service);
    }
    if let Some(method) = &arguments.method {
        call = call.method(method);
    }
    if arguments.fail_fast {
        call = call.fail_fast();
    }
    for (name, value) in &arguments.header {
        call = call.header(name, value.as_str());
    }
    let asked = Instant::now();
    let reply = call.await?;
    Ok(print_reply(&reply, arguments.json, asked.elapsed(), true)?)
}

async fn stream_answers(client: &Client, arguments: &Arguments, payload: Payload) -> Result<(), Ended> {
    let mut call = client.stream_raw::<Reply>(&arguments.service, payload).timeout(arguments.timeout);
    if let Some(method) = &arguments.method {
        call = call.method(method);
    }
    for (name, value) in &arguments.header {
        call = call.header(name, value.as_str());
    }
    let asked = Instant::now();
    let mut replies = call.on_progress(say).await?;
    while let Some(reply) = replies.next().await {
        print_reply(&reply?, arguments.json, asked.elapsed(), false)?;
    }
    Ok(())
}

async fn gather_answers(
    client: &Client,
    arguments: &Arguments,
    payload: Payload,
    until: Gather,
) -> Result<(), Ended> {
    let exchange = arguments.exchange.as_deref().unwrap_or_default();
    let mut call =
        client.gather_raw::<Reply>(exchange, &arguments.service, payload).timeout(arguments.timeout);
    call = match until {
        Gather::Count(count) => call.count(count),
        Gather::Silence(silence) => call.silence(silence),
    };
    if let Some(method) = &arguments.method {
        call = call.method(method);
    }
    for (name, value) in &arguments.header {
        call = call.header(name, value.as_str());
    }
    let gathered = call.await?;
    if gathered.is_empty() {
        let service = arguments.service.clone();
        return Err(CallError::Expired { service, ran: leveret::Ran::Maybe }.into());
    }
    for Gathered { from, answer, after } in gathered {
        match answer {
            Ok(reply) => print_reply(&reply, arguments.json, after, false)?,
            Err(error) if arguments.json => print_json(&error_as_json(&error, after))?,
            Err(error) => say(&format!("{}: {error}", from.as_deref().unwrap_or("somebody"))),
        }
    }
    Ok(())
}

/// A single body goes out octet by octet as it came, a line feed only on a terminal.
fn print_reply(reply: &Reply, as_json: bool, after: Duration, alone: bool) -> io::Result<()> {
    if as_json {
        return print_json(&reply_as_json(reply, after));
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&reply.payload.body)?;
    if !alone || io::IsTerminal::is_terminal(&stdout) {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

fn print_json(value: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{value}")?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_gathered_by_number_or_by_silence() {
        let check = |text, expected| assert_eq!(gather(text).ok(), expected, "{text}");
        check("3", Some(Gather::Count(3)));
        check("500ms", Some(Gather::Silence(Duration::from_millis(500))));
        check("0", None);
        check("many", None);
    }
}
