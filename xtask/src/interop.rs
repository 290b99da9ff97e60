//! `cargo xtask interop`: programs and suites in other people's languages, against Leveret or RabbitMQ.
//!
//! ```text
//! plan      what there is to run, as data            (plan.rs)
//! toolchain clients installed once into the cache    (toolchain.rs)
//! broker    a server of this run's own               (broker.rs)
//! execute   one program: time limit, log, its counts (execute.rs)
//! ```
//!
//! Everything is counted: a program that cannot run, hangs or prints no counts is a failure, never a skip. Nothing is
//! installed into the repository; clients, logs and data live below `target/interop`.

mod broker;
mod execute;
mod plan;
mod toolchain;

use crate::workspace_root;
use anyhow::{Context, Result, bail, ensure};
use broker::{Address, Broker, Peer, Server};
use execute::Outcome;
use plan::{Needs, Program};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use toolchain::Toolchains;

/// Most of a run is waiting for clients to wait: two lanes keep two cores busy without disturbing the clocks.
const LANES: usize = 2;

/// Runs the plan and prints a table of it.
///
/// # Errors
/// When an argument is unknown, no broker can be had, or anything failed.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let folders = Folders::create()?;
    let programs = options.selection()?;
    let target = options.target(&folders)?;
    let toolchains = Toolchains::new(&folders);
    toolchains.install_packages(&programs);
    let started = Instant::now();
    let run = |program: &Program| run_one(program, &target, &toolchains, &folders);
    let mut outcomes = run_lanes(&programs, run);
    second_chances(&programs, &mut outcomes, run)?;
    if let Target::Shared { broker, .. } = target {
        broker.stop()?;
    }
    report(&outcomes, started)
}

struct Options {
    only: Vec<String>,
    address: Option<Address>,
    peer: Peer,
    /// A build of Leveret to run instead of making one.
    binary: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options { only: Vec::new(), address: None, peer: Peer::Leveret, binary: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                "--url" => options.address = Some(Address::parse(value()?)?),
                "--against" => options.peer = Peer::parse(value()?)?,
                "--binary" => options.binary = Some(std::path::absolute(value()?)?),
                unknown => bail!(
                    "unknown argument `{unknown}`; there are --only NAME[,NAME…], --url amqp://HOST:PORT, \
                     --against rabbitmq|leveret and --binary PATH"
                ),
            }
        }
        Ok(options)
    }

    fn selection(&self) -> Result<Vec<Program>> {
        let all = plan::programs();
        for name in &self.only {
            let known: Vec<&str> = all.iter().map(|program| program.name).collect();
            ensure!(known.contains(&name.as_str()), "no program `{name}`; there are {}", known.join(", "));
        }
        let foreign = self.address.is_some();
        let wanted =
            |program: &Program| self.only.is_empty() || self.only.iter().any(|name| name == program.name);
        let (possible, left_out): (Vec<Program>, Vec<Program>) =
            all.into_iter().filter(wanted).partition(|program| !foreign || program.needs != Needs::OwnBroker);
        for program in &left_out {
            eprintln!("not in the plan with --url, because it restarts its broker: {}", program.name);
        }
        ensure!(!possible.is_empty(), "nothing to run");
        Ok(possible)
    }

    fn target(&self, folders: &Folders) -> Result<Target> {
        if let Some(address) = &self.address {
            return Ok(Target::Foreign(address.clone()));
        }
        let server = match &self.binary {
            Some(binary) => Server { peer: Peer::Leveret, binary: binary.clone() },
            None => Server::prepare(self.peer, &folders.root)?,
        };
        let broker = Broker::start(&server, "shared", folders)?;
        Ok(Target::Shared { server, broker })
    }
}

/// What the programs talk to.
enum Target {
    /// A broker somebody else runs.
    Foreign(Address),
    /// One of ours for all programs; those that restart theirs get another of the same kind.
    Shared { server: Server, broker: Broker },
}

impl Target {
    fn shared_address(&self) -> &Address {
        match self {
            Target::Foreign(address) => address,
            Target::Shared { broker, .. } => broker.address(),
        }
    }
}

/// Where this run keeps its things.
pub(crate) struct Folders {
    root: PathBuf,
    cache: PathBuf,
    logs: PathBuf,
    brokers: PathBuf,
}

impl Folders {
    fn create() -> Result<Folders> {
        let root = workspace_root();
        let base = target_directory(&root).join("interop");
        let folders = Folders {
            cache: base.join("cache"),
            logs: base.join("logs"),
            brokers: base.join("brokers"),
            root,
        };
        for old in [&folders.logs, &folders.brokers] {
            if old.exists() {
                std::fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
            }
        }
        for folder in [&folders.cache, &folders.logs, &folders.brokers] {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        Ok(folders)
    }

    fn programs(&self) -> PathBuf {
        self.root.join("interop")
    }
}

fn target_directory(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root.join(directory),
        None => root.join("target"),
    }
}

fn run_one(program: &Program, target: &Target, toolchains: &Toolchains, folders: &Folders) -> Outcome {
    let started = Instant::now();
    let attempt = || -> Result<Outcome> {
        let mut command = toolchains.command(program)?;
        match (program.needs, target) {
            (Needs::OwnBroker, Target::Shared { server, .. }) => {
                let broker = Broker::start(server, program.name, folders)?;
                broker.address().export(&mut command);
                broker.export_control(&mut command);
                let outcome = execute::run(program, command, &folders.logs);
                broker.stop()?;
                outcome
            }
            _ => {
                target.shared_address().export(&mut command);
                execute::run(program, command, &folders.logs)
            }
        }
    };
    attempt()
        .unwrap_or_else(|error| Outcome::could_not_run(program.name, format!("{error:#}"), started.elapsed()))
}

/// Runs the programs in order on `LANES` threads; the outcomes come in the order of the plan.
fn run_lanes(programs: &[Program], work: impl Fn(&Program) -> Outcome + Sync) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((index, program)) = take(&next, programs) {
                    eprintln!("start  {}", program.name);
                    let outcome = work(program);
                    eprintln!("{}", outcome.line());
                    outcomes.lock().expect("no lane panics while it holds the list").push((index, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("every lane has ended well");
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Runs those once more that failed against a broker which is not ours, now with nothing beside them: nodes that our own
/// load starved are not our failure. Both logs stay, and the report says so.
fn second_chances(
    programs: &[Program],
    outcomes: &mut [Outcome],
    run: impl Fn(&Program) -> Outcome,
) -> Result<()> {
    if programs.len() == 1 {
        return Ok(());
    }
    for (program, outcome) in programs.iter().zip(outcomes) {
        if outcome.failed > 0 && program.needs == Needs::RabbitMqNodes {
            eprintln!("again  {}, alone", program.name);
            outcome.keep_log()?;
            outcome.run_alone(run(program));
            eprintln!("{}", outcome.line());
        }
    }
    Ok(())
}

fn take<'a>(next: &AtomicUsize, programs: &'a [Program]) -> Option<(usize, &'a Program)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    programs.get(index).map(|program| (index, program))
}

fn report(outcomes: &[Outcome], started: Instant) -> Result<()> {
    println!("{:<28} {:>6} {:>6} {:>8}", "program", "passed", "failed", "seconds");
    for outcome in outcomes {
        println!("{}", outcome.row());
    }
    for warning in outcomes.iter().filter_map(Outcome::warning) {
        println!("\n{warning}");
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.failed > 0) {
        println!("\n{}", outcome.details());
    }
    let passed: u64 = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: u64 = outcomes.iter().map(|outcome| outcome.failed).sum();
    println!("\nin {:.0} s", started.elapsed().as_secs_f64());
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "{failed} failed");
    Ok(())
}

/// Runs a command of the preparation; its output is shown only if it fails.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let output =
        command.stdin(std::process::Stdio::null()).output().with_context(|| format!("start {shown}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = errors.lines().rev().take(15).collect();
    ensure!(
        output.status.success(),
        "{shown}: {}\n{}",
        output.status,
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_select_programs() {
        let selected = |line: &str| -> Vec<&'static str> {
            let options = Options::parse(&args(line)).unwrap();
            options.selection().unwrap().iter().map(|program| program.name).collect()
        };
        assert_eq!(selected("--only pika_rpc,pika_basic"), ["pika_basic", "pika_rpc"]);
        assert_eq!(selected("").len(), plan::programs().len());
        assert!(selected("--url amqp://localhost:5673").len() < plan::programs().len());
    }

    #[test]
    fn unknown_options_and_programs_are_named() {
        let problem = |line: &str| match Options::parse(&args(line)) {
            Err(error) => format!("{error:#}"),
            Ok(options) => options.selection().map(|_| String::new()).unwrap_err().to_string(),
        };
        assert!(problem("--fast").contains("`--fast`"));
        assert!(problem("--only nothing").contains("`nothing`"));
        assert!(problem("--against kafka").contains("`kafka`"));
        assert!(problem("--url").contains("--url needs a value"));
    }
}
