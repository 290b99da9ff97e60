//! `cargo xtask bench`: brokers side by side in one run, on one machine, with the same load.
//!
//! Rounds alternate between the peers (A B A B …), so that a machine that is slower for a while is slower for
//! both; medians and ranges are printed, and all single numbers written as JSON. The load generator is plain threads
//! and blocking sockets (`leveret_bench`) in a release build; the server's CPU time and memory come from `/proc`.

mod relay;
mod report;
mod server;
mod stream;
mod toolkit;
mod workloads;

use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use report::Report;
use server::{Peer, Server};
use std::process::Command;
use workloads::{Metric, Pace, Workload};

const ROUNDS: usize = 3;
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
    let options = Options::parse(args)?;
    if cfg!(debug_assertions) {
        return run_release_build(&options, args);
    }
    let target = target_directory()?;
    let scratch = target.join("bench").join(format!("data-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let outcome = measure(&options, &scratch);
    std::fs::remove_dir_all(&scratch)?;
    let report = outcome?;
    println!("\n{}", report.table());
    let page = serde_json::json!({
        "quick": options.pace == Pace::Quick,
        "rounds": options.rounds,
        "cores": std::thread::available_parallelism()?.get(),
        "cpu": cpu_model(),
        "rows": report.to_json(),
    });
    let file = target.join("bench").join("report.json");
    std::fs::write(&file, serde_json::to_string_pretty(&page)?)?;
    eprintln!("\nall numbers: {}", file.display());
    Ok(())
}

struct Options {
    peers: Vec<Peer>,
    workloads: Vec<Workload>,
    rounds: usize,
    pace: Pace,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            peers: vec![Peer::RabbitMq, Peer::Leveret],
            workloads: Workload::ALL.to_vec(),
            rounds: ROUNDS,
            pace: Pace::Full,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => options.pace = Pace::Quick,
                "--against" => options.peers = value()?.split(',').map(Peer::parse).collect::<Result<_>>()?,
                "--only" => {
                    options.workloads = value()?.split(',').map(Workload::parse).collect::<Result<_>>()?
                }
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                _ => bail!(
                    "unknown `{arg}`: [--against rabbitmq,leveret,relay] [--only WORKLOAD,…] [--rounds N] [--quick]"
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
    let status = Command::new(&binary).arg("bench").args(args).status();
    ensure!(status.with_context(|| format!("{}", binary.display()))?.success(), "no result");
    Ok(())
}

fn measure(options: &Options, scratch: &std::path::Path) -> Result<Report> {
    let mut report = Report::new(options.peers.clone());
    let (fresh, shared): (Vec<Workload>, Vec<Workload>) =
        options.workloads.iter().partition(|workload| workload.needs_fresh_server());
    if !shared.is_empty() {
        let start = |peer: &Peer| Server::start(*peer, scratch).with_context(|| peer.name());
        let servers = options.peers.iter().map(start).collect::<Result<Vec<Server>>>()?;
        rounds(options, &shared, &mut report, |index, workload| workload.run(&servers[index], options.pace))?;
    }
    rounds(options, &fresh, &mut report, |index, workload| {
        workload.run_on_fresh(options.peers[index], scratch, options.pace)
    })?;
    Ok(report)
}

/// Calls `run` with the index of each peer in turn.
fn rounds(
    options: &Options,
    workloads: &[Workload],
    report: &mut Report,
    run: impl Fn(usize, Workload) -> Result<Vec<Metric>>,
) -> Result<()> {
    for &workload in workloads {
        eprintln!("{}: {}", workload.name(), workload.about());
        for round in 1..=options.rounds {
            for (index, &peer) in
                options.peers.iter().enumerate().filter(|(_, peer)| workload.runs_on(**peer))
            {
                let metrics = run(index, workload)
                    .with_context(|| format!("{} on {}", workload.name(), peer.name()))?;
                let shown: Vec<String> = metrics
                    .iter()
                    .map(|metric| format!("{} {:.1} {}", metric.name, metric.value, metric.unit))
                    .collect();
                eprintln!("  {round} {:<10} {}", peer.name(), shown.join(", "));
                report.add(peer, workload, metrics);
            }
        }
    }
    Ok(())
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown", |(_, name)| name).to_owned()
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
        assert_eq!(options.workloads, [Workload::Rpc1, Workload::Idle]);
        for wrong in ["--against x", "--only x", "--rounds 0", "--rounds", "what"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
