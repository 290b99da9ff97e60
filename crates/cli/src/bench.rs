//! `leveret bench`: load on any AMQP 0-9-1 broker, or on several in turn, and what they made of it.
//!
//! ```text
//!   SHAPE and flags ─▶ shape: a plan ─▶ rounds: each broker in turn ─▶ results ─▶ report, json, svg
//!                      broker: URL, name, process                 └▶ progress, on stderr
//! ```
//!
//! The load itself is `leveret_bench`.

mod broker;
mod json;
mod plan_json;
mod progress;
mod report;
mod results;
mod rounds;
mod shape;
mod sparkline;
mod svg;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::failure::Failure;
use crate::say::say;
use crate::signals::Termination;
use crate::toolkit::duration;
use broker::Broker;
use leveret_bench::plan::Span;
use results::Results;
use rounds::Rounds;
use shape::{Asked, Shape};

const ROUNDS_MAX: u64 = 1_000;

/// Put load on any AMQP 0-9-1 broker, or on several in turn, and show what it made of it
///
/// Everything that is declared has a name of its own, leveret-bench- and twelve random digits, and is deleted in the
/// end, also after Ctrl-C. Nothing else is touched.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    shape: Shape,
}

/// What all shapes have.
#[derive(clap::Args)]
struct Flags {
    /// The broker: amqp://USER:PASSWORD@HOST:PORT/VHOST; amqps:// with ?cacertfile=FILE if it has an authority of its own
    #[arg(
        long,
        value_name = "URL",
        env = "LEVERET_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    url: String,
    /// Another broker to compare with the first, round by round in turn; may be repeated
    #[arg(long, value_name = "URL")]
    vs: Vec<String>,
    /// What the broker is called in the report, then what those of --vs are; may be repeated [default: HOST:PORT]
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The broker's process, for its CPU time and memory; of the others NAME=N. On this machine it is found without
    #[arg(long, value_name = "[NAME=]N")]
    pid: Vec<String>,
    /// How long is measured
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long the load runs before anything counts
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    warm_up: Duration,
    /// How often each broker has its turn; the report has medians and ranges
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=ROUNDS_MAX))]
    rounds: u64,
    /// Print one JSON document with every number instead of the report
    #[arg(long)]
    json: bool,
    /// Write a picture of throughput over time and of latencies
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Show on stderr how the load goes, also where that is no terminal
    #[arg(long)]
    progress: bool,
}

/// Runs all rounds and prints what came of them.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let load = arguments.shape.into_asked()?;
    let flags = &load.flags;
    let span = match load.count {
        Some(count) => Span::Count(count),
        None => Span::Time { warm_up: flags.warm_up, observed: flags.duration },
    };
    load.plan.check(span).map_err(Failure::from)?;
    let brokers = broker::all(flags)?;
    let svg = flags.svg.clone();
    let as_json = flags.json;
    let results = measure(load, span, brokers).await?;
    if let Some(file) = svg {
        std::fs::write(&file, svg::picture(&results)).map_err(|error| svg_failed(&file, &error))?;
    }
    match as_json {
        true => println!("{:#}", json::document(&results)),
        false => print!("{}", report::report(&results)),
    }
    results.remarks().iter().for_each(|remark| say(&format!("leveret bench: {remark}")));
    verdict(&results)
}

/// Numbers of a broker that loses messages are no success.
fn verdict(results: &Results) -> Result<(), Failure> {
    let broken = results.broken_promises();
    if !broken.is_empty() {
        let way_out = match broken.iter().any(|text| text.ends_with("lost")) {
            true => "; --allow-loss if a limit of the queue drops them",
            false => "",
        };
        return Err(Failure::Other(anyhow::anyhow!("a promise was broken: {}{way_out}", broken.join("; "))));
    }
    match results.interrupted {
        true => {
            Err(Failure::Other(anyhow::anyhow!("stopped before its end; all that was declared is deleted")))
        }
        false => Ok(()),
    }
}

/// The load has threads of its own; this one waits for it, or for Ctrl-C.
async fn measure(load: Asked, span: Span, brokers: Vec<Broker>) -> Result<Results, Failure> {
    let mut termination = Termination::catch()?;
    let cancel = Arc::new(AtomicBool::new(false));
    let rounds = Rounds {
        plan: load.plan,
        span,
        brokers,
        rounds: load.flags.rounds,
        loss_is_expected: load.loss_is_expected,
        progress: progress::Progress::new(load.flags.progress, std::io::stderr().is_terminal()),
        cancel: cancel.clone(),
    };
    let mut running = tokio::task::spawn_blocking(move || rounds.run());
    let mut stopped = false;
    loop {
        tokio::select! {
            ended = &mut running => return ended.map_err(|error| Failure::Other(error.into()))?,
            _ = termination.next() => {
                if stopped {
                    let left = "stopped at once; queues and exchanges leveret-bench-… may be left behind";
                    return Err(Failure::Other(anyhow::anyhow!(left)));
                }
                stopped = true;
                cancel.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn svg_failed(file: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::Other(anyhow::anyhow!("--svg {}: {error}", file.display()))
}

impl From<leveret_bench::Error> for Failure {
    fn from(error: leveret_bench::Error) -> Self {
        use leveret_bench::Error;
        let text = error.to_string();
        match error {
            Error::Plan(_) => Self::Usage(text),
            Error::Refused(..) => Self::Refused(text),
            Error::Socket(..) | Error::Silence(_) => Self::Connection(text),
            error => Self::Other(error.into()),
        }
    }
}
