//! The binary `leveret`: the broker as a process, and the tools to see what happens.
//!
//! One file per command. A command returns a [`Failure`] or nothing; this file turns it into an exit code.

mod answer_json;
mod bench;
mod call;
mod client;
mod completions;
mod config;
mod ctl;
mod demo;
mod discovery;
mod escape;
mod failure;
mod gateway;
mod get;
mod health;
mod json_table;
mod logging;
mod man;
mod management;
mod migrate;
mod printer;
mod publish;
mod say;
mod serve;
mod services;
mod signals;
mod stdin;
mod table;
mod tail;
mod toolkit;
mod top;
mod work;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use failure::Failure;
use logging::{Log, LogFormat};
use say::say;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What commands log that say on stderr what matters anyway. The demo's client calls each refusal an error.
const QUIET: &str = "error,lapin=off";
/// What commands log that run for long, and whose failures others hear of.
const WARNINGS: &str = "warn";

/// Request/response over AMQP in one binary: a broker that AMQP 0-9-1 clients already speak to, and tools to see
/// what happens.
#[derive(Parser)]
#[command(name = "leveret", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    /// What is logged on stderr: error, warn, info, debug, trace, off, and AREA=LEVEL, with commas [env: LEVERET_LOG]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Arguments),
    Demo(demo::Arguments),
    Publish(publish::Arguments),
    Get(get::Arguments),
    Tail(tail::Arguments),
    Call(call::Arguments),
    Services(services::Arguments),
    Work(work::Arguments),
    Gateway(gateway::Arguments),
    Migrate(migrate::Arguments),
    Ctl(ctl::Arguments),
    Health(health::Arguments),
    Bench(bench::Arguments),
    Top(top::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

fn main() -> ExitCode {
    let CommandLine { command, log } = CommandLine::parse_from(ctl::modernize(std::env::args_os().collect()));
    // The libraries name no cryptography; it is the first and only one, so nothing refuses it.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(leveret_server::vigil::before_sleep)
        .on_thread_unpark(leveret_server::vigil::after_sleep)
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            let ended = runtime.block_on(run(command, log));
            // A thread that still reads stdin must not keep the process.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Nothing) {
                say(&format!("leveret: {failure}"));
            }
            failure.exit_code()
        }
    }
}

async fn run(command: Command, log: Option<String>) -> Result<(), Failure> {
    match command {
        Command::Serve(_) => {}
        Command::Work(_) | Command::Gateway(_) | Command::Migrate(_) => {
            log_to_stderr(log.as_deref(), WARNINGS)?
        }
        _ => log_to_stderr(log.as_deref(), QUIET)?,
    }
    match command {
        Command::Serve(arguments) => serve::run(arguments, log).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Publish(arguments) => publish::run(arguments).await,
        Command::Get(arguments) => get::run(arguments).await,
        Command::Tail(arguments) => tail::run(arguments).await,
        Command::Call(arguments) => call::run(arguments).await,
        Command::Services(arguments) => services::run(arguments).await,
        Command::Work(arguments) => work::run(arguments).await,
        Command::Gateway(arguments) => gateway::run(arguments).await,
        Command::Migrate(arguments) => migrate::run(arguments).await,
        Command::Ctl(arguments) => ctl::run(arguments).await,
        Command::Health(arguments) => health::run(arguments).await,
        Command::Bench(arguments) => bench::run(arguments).await,
        Command::Top(arguments) => top::run(arguments).await,
        Command::Completions(arguments) => completions::run(&arguments, CommandLine::command()),
        Command::Man(arguments) => man::run(&arguments, CommandLine::command()),
    }
}

/// The log of all commands but `serve`, which has a file to read its level from.
fn log_to_stderr(flag: Option<&str>, default: &str) -> Result<(), Failure> {
    let variable = std::env::var("LEVERET_LOG").ok();
    let levels = flag.or(variable.as_deref()).unwrap_or(default).parse();
    let levels = levels.map_err(|error| Failure::Usage(format!("--log: {error}")))?;
    let format = std::env::var("LEVERET_LOG_FORMAT").ok().and_then(|name| LogFormat::named(&name));
    Log::start(levels, format.unwrap_or_default());
    Ok(())
}
