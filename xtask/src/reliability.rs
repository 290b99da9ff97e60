//! `cargo xtask reliability`: the promises of `docs/promises.md` against the real binary, with real kills.
//!
//! ```text
//! campaign  a story with faults in it, one file each        kill, metadata, tx, clean_stop, disk_full, …
//!   site    a folder, a broker process of its own            (site.rs, the testkit's supervisor)
//!   load    publishers and consumers                         (load.rs, client.rs, message.rs)
//!   ledger  what was promised to them and what was kept      (ledger.rs)
//!   verdict counts, facts and faults                         (verdict.rs)
//!
//! row       of the scorecard: what is done, what must hold   (scorecard.rs)
//!   proof   a campaign or a command, how often at each level (proof.rs, options.rs)
//!   result  a line of JSON per row and run                   (results.rs), of all of them docs/reliability.md (page.rs)
//! ```
//!
//! A killed process leaves the page cache intact, so a missing flush is invisible to most campaigns. They test everything around
//! it: that answers wait for the log, that recovery finds what the log has, that a process may die at any instruction. Missing flushes
//! are found by power cuts: those of the store's simulation, and those of a logged disk (`power_blocks.rs`).

mod api_load;
mod backlog;
mod bit_rot;
mod bystander;
mod clean_stop;
mod client;
mod delayed;
mod differential;
mod disk_full;
mod disks;
mod doors;
mod drain;
mod every_call;
mod http;
mod journal;
mod kill;
mod ledger;
mod load;
mod login_attack;
mod lying;
mod message;
mod metadata;
mod migrate;
mod odd_names;
mod options;
mod page;
mod power_blocks;
mod power_machine;
mod proof;
mod results;
mod scarce;
mod scorecard;
mod settings;
mod site;
mod slowloris;
mod small_disk;
mod soak;
mod stalled;
mod strace;
mod sync_failure;
mod tls;
mod toolkit;
mod tx;
mod verdict;
mod witness;

use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, ensure};
use options::{Choice, Options, Plan};
use proof::Outcome;
use results::RowResult;
use site::Site;
use std::path::PathBuf;
use std::process::Command;
use verdict::Verdict;

struct Campaign {
    name: &'static str,
    about: &'static str,
    run: fn(&Site, &Plan, &mut Verdict) -> Result<()>,
}

const CAMPAIGNS: &[Campaign] = &[
    Campaign { name: "kill", about: "kill -9 under load, and during recovery", run: kill::run },
    Campaign { name: "every-call", about: "SIGKILL at every storage call of a script", run: every_call::run },
    Campaign { name: "metadata", about: "kill -9 on receipt of a declare-ok or bind-ok", run: metadata::run },
    Campaign {
        name: "settings",
        about: "kill -9 on receipt of a 204: users, permissions, virtual hosts, policies",
        run: settings::run,
    },
    Campaign { name: "tx", about: "kill -9 on commit-ok, and before it", run: tx::run },
    Campaign { name: "clean-stop", about: "SIGTERM under load", run: clean_stop::run },
    Campaign { name: "disk-full", about: "no room left on the device", run: disk_full::run },
    Campaign { name: "sync-failure", about: "fdatasync returns EIO", run: sync_failure::run },
    Campaign {
        name: toolkit::NAME,
        about: "callers and workers under 500 faults of 18 kinds",
        run: toolkit::run,
    },
    Campaign { name: "delayed", about: "kill -9 with messages that wait for their time", run: delayed::run },
    Campaign { name: "migrate", about: "kill -9 of a migration to RabbitMQ", run: migrate::run },
    Campaign { name: "lying", about: "frames of 4 GiB, a thousand at once", run: lying::run },
    Campaign { name: "login-attack", about: "a hundred guessers of passwords", run: login_attack::run },
    Campaign { name: "odd-names", about: "../, NUL, a million tags, 100,000 queues", run: odd_names::run },
    Campaign { name: "slowloris", about: "2,000 clients, an octet a second each", run: slowloris::run },
    Campaign {
        name: "api-load",
        about: "10,000 queues, 1,000 connections, and who looks at them",
        run: api_load::run,
    },
    Campaign { name: "tls", about: "every version and every cipher that openssl can ask for", run: tls::run },
    Campaign {
        name: power_blocks::NAME,
        about: "the power goes, block by block, on ext4 and XFS",
        run: power_blocks::run,
    },
    Campaign {
        name: power_blocks::COMPARISON,
        about: "the same for RabbitMQ's classic and quorum queues, to compare",
        run: power_blocks::compare,
    },
    Campaign {
        name: power_machine::NAME,
        about: "the power of a virtual machine goes",
        run: power_machine::run,
    },
    Campaign { name: "bit-rot", about: "a bit flipped, a page zeroed, a file cut", run: bit_rot::run },
    Campaign { name: "differential", about: "random programs on RabbitMQ 3.10, too", run: differential::run },
    Campaign { name: "soak", about: "the load for a long time, and clients that vanish", run: soak::run },
    Campaign { name: "little-memory", about: "256 MiB, and nobody consumes", run: scarce::run_memory },
    Campaign { name: "stalled", about: "100 consumers that stop reading", run: stalled::run },
    Campaign {
        name: "few-files",
        about: "256 descriptors, many connections, a slow disk",
        run: scarce::run_files,
    },
    Campaign { name: "backlog", about: "kill -9 with 200,000 messages waiting", run: backlog::run },
];

/// Campaigns that wait more than they compute.
const PATIENT: [&str; 7] =
    [toolkit::NAME, "differential", "every-call", "migrate", "odd-names", "slowloris", "tls"];

/// Runs what the command line asks for, one thing after the other.
///
/// # Errors
/// When an argument is unknown, the broker cannot be built, or a promise is broken.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.split_first().map(|(name, rest)| (name.as_str(), rest)) {
        Some((toolkit::WORKER_ARGUMENT, args)) => return toolkit::work(args),
        Some((lying::VICTIM_ARGUMENT, args)) => return lying::suffer(args),
        _ => {}
    }
    let options = Options::parse(args)?;
    if let Choice::WriteDocs(files) = &options.choice {
        return write_docs(files);
    }
    let proofs = options.proofs()?;
    let needs_broker = options.binary.is_none() && proofs.iter().any(|proof| proof.needs_broker());
    if cfg!(debug_assertions) && options.need_release_build()? {
        return run_release_build(needs_broker, args);
    }
    if cfg!(debug_assertions) && needs_broker {
        build(&["--package", "leveret-cli"])?;
    }
    let scratch = std::env::temp_dir().join(format!("leveret-reliability-{}", std::process::id()));
    println!("seed {}", options.plan.seed);
    let outcomes: Vec<Outcome> =
        proofs.iter().map(|proof| proof.run(&options.plan, options.binary.as_deref(), &scratch)).collect();
    let results = results::of_rows(&options.rows(), &outcomes, options.plan.level, options.plan.seed);
    report(&options, &results)?;
    let failed = outcomes.iter().filter(|outcome| !outcome.verdict.passed()).count();
    if failed == 0 && scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    println!("{} passed, {failed} failed", outcomes.len() - failed);
    ensure!(failed == 0, "{failed} failed");
    Ok(())
}

/// One line per row, and the JSON.
fn report(options: &Options, results: &[RowResult]) -> Result<()> {
    for row in options.rows() {
        let outcome = match results.iter().find(|result| result.row == row.number) {
            Some(result) if result.passed => format!("holds  ({:.0} s)", result.seconds),
            Some(_) => "BROKEN".to_owned(),
            None => format!("nothing at --{}", options.plan.level.name()),
        };
        println!("row {:>2}  {outcome:<18} {}", row.number, row.fault);
    }
    println!("JSON: {}", results::append(results)?.display());
    Ok(())
}

fn write_docs(files: &[PathBuf]) -> Result<()> {
    let mut all = results::read(&results::file()?)?;
    for file in files {
        ensure!(file.exists(), "{} does not exist", file.display());
        all.extend(results::read(file)?);
    }
    all.sort_by(|a, b| a.date.cmp(&b.date));
    let path = workspace_root().join("docs/reliability.md");
    std::fs::write(&path, page::write(&all)?)?;
    println!("{}", path.display());
    Ok(())
}

fn run_release_build(needs_broker: bool, args: &[String]) -> Result<()> {
    let mut packages = vec!["--release", "--package", "xtask"];
    if needs_broker {
        packages.extend(["--package", "leveret-cli"]);
    }
    build(&packages)?;
    let binary = target_directory()?.join("release").join("xtask");
    let status = Command::new(&binary).arg("reliability").args(args).status();
    ensure!(status.with_context(|| binary.display().to_string())?.success(), "a promise is broken");
    Ok(())
}

/// Debian packages that a campaign needs, where they are not there.
fn install(packages: &[&str]) -> Result<()> {
    let status = Command::new(workspace_root().join("interop/packages.sh")).args(packages).status()?;
    ensure!(status.success(), "{packages:?} are missing and cannot be installed");
    Ok(())
}

fn build(packages: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace_root()).arg("build").args(packages);
    ensure!(cargo.status().context("cargo build")?.success(), "the build failed");
    Ok(())
}
