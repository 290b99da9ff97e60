//! `leveret work`: any program is a service.
//!
//! The program knows nothing of AMQP: the request's body comes by stdin, what it says about itself in `RPC_…`
//! variables, and what the program writes to stdout is the answer. [`verdict`] has what its exit codes mean,
//! [`line`] what long-lived programs read and write instead.

mod environment;
mod group;
mod job;
mod line;
mod per_request;
mod pool;
mod runner;
mod verdict;

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use leveret::content::DECOMPRESSED_MAX_BYTES;
use leveret::{Answer, Client, Code, Description, Handler, Payload, Request, Worker};

use crate::failure::Failure;
use crate::say::say;
use crate::signals::Termination;
use crate::toolkit::{BrokerUrl, duration};
use group::Census;
use job::{Job, Limits, Program};
use per_request::PerRequest;
use pool::Pool;
use runner::Runner;

/// Serve with a program: a request on its stdin, the answer from its stdout
///
/// Exit code 0 is an answer, 64 and 65 refuse the request, 75 asks to try again later, any other is a failure whose
/// message is the last line of stderr. RPC_METHOD, RPC_TIMEOUT_MS, RPC_HEADER_… and others tell the rest about the
/// request. Past the deadline the program and all it started get SIGTERM, then SIGKILL.
#[derive(clap::Args)]
#[command(override_usage = "leveret work [OPTIONS] SERVICE -- CMD [ARG]...")]
pub(crate) struct Arguments {
    #[command(flatten)]
    url: BrokerUrl,
    /// The service: the durable queue it takes requests from
    #[arg(value_name = "SERVICE")]
    service: String,
    /// How many requests at once
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "pool")]
    concurrency: NonZeroU16,
    /// Also take what is published to the exchange with this key, e.g. #.ohio; may be repeated
    #[arg(long, value_name = "KEY")]
    bind: Vec<String>,
    /// The exchange of --bind
    #[arg(long, value_name = "NAME", default_value = "amq.topic", requires = "bind")]
    exchange: String,
    /// Keep N processes, which answer lines of JSON
    #[arg(long, value_name = "N", requires = "line_json")]
    pool: Option<NonZeroU16>,
    /// The program answers {"id":…,"method":…,"body":…} with {"id":…,"result":…} or
    /// {"id":…,"error":{"code":…,"message":…}}, a line each, for as long as it lives
    #[arg(long)]
    line_json: bool,
    /// The type of the answers, e.g. application/json
    #[arg(long, value_name = "TYPE", conflicts_with = "line_json")]
    content_type: Option<String>,
    /// From SIGTERM to SIGKILL
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    grace: Duration,
    /// The program and its arguments; no shell comes between
    #[arg(value_name = "CMD", last = true, required = true)]
    command: Vec<OsString>,
}

/// Serves until SIGTERM or SIGINT, then finishes what it has begun. A second signal does not wait for that.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut termination = Termination::catch()?;
    let runner = Arc::new(runner(&arguments)?);
    let client = arguments.url.connect("leveret work").await?;
    let worker = start(&client, &arguments, Arc::clone(&runner)).await?;
    say(&format!("{} is served, {} at once", arguments.service, concurrency(&arguments)));
    let signal = termination.next().await;
    say(&format!("{signal}: finishing what has begun"));
    tokio::select! {
        () = worker.drain() => {}
        signal = termination.next() => say(&format!("{signal}: what has begun goes back to the queue")),
    }
    runner.close().await;
    client.close().await;
    Ok(())
}

fn runner(arguments: &Arguments) -> Result<Runner, Failure> {
    let limits = Limits { grace: arguments.grace, ..Limits::default() };
    let program = program(&arguments.command)?;
    let name = program.name();
    let cannot_start = |error| Failure::Usage(format!("cannot start `{name}`: {error}"));
    if arguments.line_json {
        let size = usize::from(concurrency(arguments).get());
        let pool = Pool::start(&program, &arguments.service, size, limits);
        return Ok(Runner::Pool(pool.map_err(cannot_start)?));
    }
    program.check().map_err(cannot_start)?;
    let content_type = arguments.content_type.clone();
    Ok(Runner::PerRequest(PerRequest { program, limits, content_type, census: Census::default() }))
}

fn program(command: &[OsString]) -> Result<Program, Failure> {
    match command {
        [path, arguments @ ..] => Ok(Program::new(path.clone(), arguments.to_vec())),
        [] => Err(Failure::Usage("which program? Put it behind --".to_owned())),
    }
}

fn concurrency(arguments: &Arguments) -> NonZeroU16 {
    arguments.pool.unwrap_or(arguments.concurrency)
}

async fn start(client: &Client, arguments: &Arguments, runner: Arc<Runner>) -> Result<Worker, Failure> {
    let handler = handler(arguments.service.clone(), runner);
    let mut serve = client.serve(&arguments.service, handler);
    for key in &arguments.bind {
        serve = serve.bind(&arguments.exchange, key);
    }
    let program = arguments.command.first().map(|path| path.to_string_lossy());
    let description = Description {
        description: format!("leveret work: {}", program.unwrap_or_default()),
        ..Description::default()
    };
    let serve = serve.concurrency(concurrency(arguments).get()).describe(description);
    serve.start().await.map_err(|error| Failure::Refused(error.to_string()))
}

fn handler(service: String, runner: Arc<Runner>) -> impl Handler {
    leveret::raw(move |request| {
        let (job, runner) = (job(&service, request), Arc::clone(&runner));
        async move {
            let output = runner.run(job?).await.inspect_err(log)?;
            let content_type = output.content_type;
            Ok(Answer::One(Payload { content_type, content_encoding: None, body: output.body.into() }))
        }
    })
}

/// What a caller did wrong is the caller's to see.
fn log(failure: &leveret::Failure) {
    match failure.code {
        Code::Internal | Code::Unimplemented | Code::ResourceExhausted | Code::DeadlineExceeded => {
            tracing::warn!("{failure}");
        }
        _ => tracing::debug!("{failure}"),
    }
}

/// What the program is told of a request: nothing that is not text but the body, which is not compressed any more.
fn job(service: &str, request: Request) -> Result<Job, leveret::Failure> {
    let Request { cx, method, payload } = request;
    let payload = payload.decompress(DECOMPRESSED_MAX_BYTES);
    let payload = payload.map_err(|error| leveret::Failure::invalid_argument(error.to_string()))?;
    let text = |octets: Option<&[u8]>| octets.and_then(|octets| String::from_utf8(octets.to_vec()).ok());
    let headers = cx.headers().into_iter().flat_map(|table| table.iter());
    let headers = headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Ok(Job {
        service: service.to_owned(),
        method,
        body: payload.body.to_vec(),
        content_type: payload.content_type,
        message_id: cx.message_id().map(str::to_owned),
        correlation_id: text(cx.correlation_id()),
        reply_to: text(cx.properties().reply_to.as_deref()),
        deadline: cx.deadline(),
        attempt: cx.attempt(),
        redelivered: cx.redelivered(),
        traceparent: cx.trace().map(|trace| trace.traceparent()),
        headers: headers.collect(),
    })
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

    fn check(line: &str, expected: &str) {
        let words = std::iter::once("work").chain(line.split_whitespace());
        let said = match Line::try_parse_from(words) {
            Ok(Line { arguments }) => {
                let Arguments { service, bind, exchange, command, .. } = &arguments;
                format!("{service} {} {exchange}{bind:?} {command:?}", concurrency(&arguments))
            }
            Err(error) => error.to_string(),
        };
        assert!(said.contains(expected), "{line}: {said}");
    }

    #[test]
    fn the_command_line_is_understood() {
        check("weather -- ./w --x -", r#"weather 1 amq.topic[] ["./w", "--x", "-"]"#);
        check("weather --concurrency 8 -- w", r#"weather 8 amq.topic[] ["w"]"#);
        check("weather --pool 4 --line-json -- w", r#"weather 4 amq.topic[] ["w"]"#);
        check("--bind a --bind b --exchange x w -- w", r#"w 1 x["a", "b"] ["w"]"#);
        check("weather", "required");
        check("weather ./w", "unexpected argument");
        check("weather --pool 4 -- w", "--line-json");
        check("weather --pool 4 --line-json --concurrency 2 -- w", "cannot be used with");
        check("weather --concurrency 0 -- w", "invalid value '0'");
        check("weather --grace soon -- w", "a time like");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_mistake_of_the_command_line() {
        for line in ["w -- no-such-program", "w -- ./no-such", "w --line-json -- ./no-such"] {
            let words = std::iter::once("work").chain(line.split_whitespace());
            let Line { arguments } = Line::try_parse_from(words).unwrap();
            let failure = runner(&arguments).err().unwrap();
            assert!(matches!(failure, Failure::Usage(_)), "{line}: {failure:?}");
        }
    }
}
