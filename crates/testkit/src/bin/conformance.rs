//! Plays the conformance suite against a broker.
//!
//! ```text
//! conformance --addr HOST:PORT [--broker leveret|rabbitmq-3.10|…] [--filter TEXT] [--jobs N] [--show passed]
//! conformance --broker rabbitmq-3.10        starts a private node of the installed RabbitMQ
//! ```
//!
//! With `--addr` nobody can set policies and limits: the scenarios that need it fail.
//!
//! Prints each failing scenario with what was expected and what came, then `N passed, M failed`. Exit code 0
//! when nothing failed, 1 otherwise, 2 when the suite could not run.

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;

use leveret_testkit::conformance::{Report, Suite, Verdict};
use leveret_testkit::rabbitmq::RabbitMq;
use leveret_testkit::scenario::Target;

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("conformance: {problem}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    addr: Option<String>,
    broker: String,
    filter: String,
    jobs: usize,
    shows_passed: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            addr: None,
            broker: "leveret".into(),
            filter: String::new(),
            jobs: 16,
            shows_passed: false,
        };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--addr" => options.addr = Some(value),
                "--broker" => options.broker = value,
                "--filter" => options.filter = value,
                "--show" => options.shows_passed = value == "passed",
                "--jobs" => options.jobs = value.parse().map_err(|_| format!("--jobs {value}: no number"))?,
                _ => return Err(format!("unknown flag {flag}")),
            }
        }
        Ok(options)
    }
}

fn run(options: &Options) -> Result<bool, String> {
    let suite = Suite::load().map_err(|error| error.to_string())?.filtered(&options.filter);
    let is_rabbitmq = options.broker.starts_with("rabbitmq");
    let target = match &options.addr {
        Some(addr) => Target::new(resolve(addr)?, is_rabbitmq),
        None if is_rabbitmq => {
            let node = RabbitMq::start().map_err(|error| format!("RabbitMQ does not start: {error}"))?;
            Target::new(node.addr(), true).operated_by(Arc::new(node))
        }
        None => return Err("--addr HOST:PORT is missing".into()),
    };
    let report = suite.run(&target, &options.broker, options.jobs);
    if options.shows_passed {
        print_passed(&report);
    }
    println!("{report}");
    Ok(report.is_green())
}

/// What was said in the scenarios that passed: to read what a `*` or `refused` stood for.
fn print_passed(report: &Report) {
    for (id, verdict) in &report.verdicts {
        if let Verdict::Passed(transcript) = verdict {
            println!("passed {id}\n      {}", transcript.join("\n      "));
        }
    }
}

fn resolve(addr: &str) -> Result<SocketAddr, String> {
    let mut found = addr.to_socket_addrs().map_err(|error| format!("{addr}: {error}"))?;
    found.next().ok_or_else(|| format!("{addr} is no address"))
}
