//! `cargo xtask bench`: brokers side by side in one run, on one machine, with the same load.
//!
//! Rounds alternate between the peers (A B A B …), so that a machine that is slower for a while is slower for
//! both; medians and ranges are printed, and all single numbers written as JSON. The load generator is plain threads
//! and blocking sockets (`leveret_bench`) in a release build; the server's CPU time and memory come from `/proc`.

mod calls;
mod confirmed;
mod disk;
mod goals;
mod guard;
mod jetstream;
mod nats;
mod one_way;
mod pace;
mod paced;
mod page;
mod relay;
mod report;
mod scaling;
mod server;
mod setup;
mod socket;
mod steady;
mod stream;
mod toolkit;
mod waiting;
mod workloads;

use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use leveret_bench::figure::Figure;
use pace::Pace;
use report::Report;
use server::{Peer, Server};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use workloads::{Use, WORKLOADS, Workload};

const ROUNDS: usize = 5;
/// With an address behind it: be the relay, which has to be a process like the other peers.
const RELAY_FLAG: &str = "--be-relay";

/// Runs the comparison and prints it.
///
/// # Errors
/// When an argument is unknown, a server does not start, or one loses, doubles or reorders a message.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let [flag, address] = args
        && flag == RELAY_FLAG
    {
        return relay::serve(address);
    }
    if let [flag, scratch] = args
        && flag == guard::FLAG
    {
        return guard::serve(scratch);
    }
    let options = Options::parse(args)?;
    if cfg!(debug_assertions) {
        return run_release_build(&options, args);
    }
    let target = target_directory()?.join("bench");
    let scratch = target.join(format!("data-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let guard = guard::Guard::start(&scratch)?;
    let mut run = Run { options: &options, scratch: &scratch, report: Report::new(options.peers.clone()) };
    let outcome = run.measure(&target);
    let report = run.report;
    std::fs::remove_dir_all(&scratch)?;
    drop(guard);
    outcome?;
    println!("{}\n{}", report.sections(), report.goals());
    if options.write_docs {
        page::write(&report, options.rounds)?;
    }
    ensure!(report.failures().is_empty(), "rounds without numbers:\n{}", report.failures().join("\n"));
    Ok(())
}

struct Options {
    peers: Vec<Peer>,
    workloads: Vec<&'static Workload>,
    rounds: usize,
    pace: Pace,
    write_docs: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            peers: Peer::ALL.to_vec(),
            workloads: WORKLOADS.iter().collect(),
            rounds: ROUNDS,
            pace: Pace::Full,
            write_docs: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => options.pace = Pace::Quick,
                "--write-docs" => options.write_docs = true,
                "--against" => options.peers = value()?.split(',').map(Peer::parse).collect::<Result<_>>()?,
                "--only" => {
                    options.workloads = value()?.split(',').map(Workload::parse).collect::<Result<_>>()?
                }
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                _ => bail!(
                    "unknown `{arg}`: [--against PEER,…] [--only WORKLOAD,…] [--rounds N] [--quick] [--write-docs]"
                ),
            }
        }
        ensure!(options.rounds > 0, "--rounds is at least 1");
        Ok(options)
    }
}

/// A generator that is not optimised would be what is measured.
fn run_release_build(options: &Options, args: &[String]) -> Result<()> {
    let mut build = Command::new("cargo");
    build.current_dir(workspace_root()).args(["build", "--release", "--package", "xtask"]);
    if options.peers.contains(&Peer::Leveret) {
        build.args(["--package", "leveret-cli"]);
    }
    ensure!(build.status().context("cargo build")?.success(), "the release build failed");
    let binary = target_directory()?.join("release").join("xtask");
    // In the place of this process: whoever ends the comparison by its id shall mean the one that measures.
    let error = Command::new(&binary).arg("bench").args(args).exec();
    Err(error).with_context(|| format!("{}", binary.display()))
}

/// A comparison on its way.
struct Run<'a> {
    options: &'a Options,
    scratch: &'a Path,
    report: Report,
}

impl Run<'_> {
    /// All workloads; the numbers so far are in a file after each.
    fn measure(&mut self, target: &Path) -> Result<()> {
        let mut shared: Vec<Option<Server>> = self.options.peers.iter().map(|_| None).collect();
        for &workload in &self.options.workloads {
            eprintln!("{}: {}", workload.name, workload.about);
            if workload.server == Use::Fresh {
                shared.iter_mut().for_each(|server| *server = None); // nobody else is to take time or memory
            }
            for round in 1..=self.options.rounds.min(workload.rounds_max) {
                for (index, &peer) in self.options.peers.iter().enumerate() {
                    if workload.peers.contains(&peer) {
                        let outcome = self.once(workload, peer, &mut shared[index]);
                        self.note(workload, peer, round, outcome);
                    }
                }
            }
            self.save(target)?;
        }
        Ok(())
    }

    fn once(&self, workload: &Workload, peer: Peer, shared: &mut Option<Server>) -> Result<Vec<Figure>> {
        if workload.server == Use::Fresh {
            return workload.run_on_fresh(peer, self.scratch, self.options.pace);
        }
        // One that failed may be in any state: the next load gets another.
        let mut server = match shared.take() {
            Some(server) => server,
            None => Server::start(peer, self.scratch)?,
        };
        let figures = workload.run(&mut server, self.options.pace)?;
        *shared = Some(server);
        Ok(figures)
    }

    /// A round without numbers is said, and the others go on.
    fn note(&mut self, workload: &Workload, peer: Peer, round: usize, outcome: Result<Vec<Figure>>) {
        match outcome {
            Ok(figures) => {
                let shown: Vec<String> = figures
                    .iter()
                    .map(|figure| format!("{} {:.1} {}", figure.name, figure.value, figure.unit))
                    .collect();
                eprintln!("  {round} {:<15} {}", peer.name(), shown.join(", "));
                self.report.add(peer, workload.name, figures);
            }
            Err(error) => {
                let failure =
                    format!("{} on {}, round {round}: {}", workload.name, peer.title(), error.root_cause());
                eprintln!("  {round} {:<15} failed: {error:#}", peer.name());
                self.report.add_failure(failure);
            }
        }
    }

    fn save(&self, target: &Path) -> Result<()> {
        let page = serde_json::json!({
            "quick": self.options.pace == Pace::Quick,
            "rounds": self.options.rounds,
            "cores": std::thread::available_parallelism()?.get(),
            "cpu": page::cpu_model(),
            "rows": self.report.to_json(),
            "failures": self.report.failures(),
        });
        let file = target.join("report.json");
        std::fs::write(&file, serde_json::to_string_pretty(&page)?)
            .with_context(|| format!("{}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        let parse = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Options::parse(&args)
        };
        let options = parse("--against rabbitmq --only rpc-1,idle --rounds 1 --quick").unwrap();
        assert_eq!((options.peers, options.rounds, options.pace), (vec![Peer::RabbitMq], 1, Pace::Quick));
        let names: Vec<&str> = options.workloads.iter().map(|workload| workload.name).collect();
        assert_eq!(names, ["rpc-1", "idle"]);
        for wrong in ["--against x", "--only x", "--rounds 0", "--rounds", "what"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
