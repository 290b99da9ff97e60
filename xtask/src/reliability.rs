//! `cargo xtask reliability`: the promises of `docs/promises.md` against the real binary, with real kills.
//!
//! ```text
//! campaign  a story with faults in it, one file each        kill, metadata, tx, clean_stop, disk_full, …
//!   site    a folder, a broker process of its own            (site.rs, the testkit's supervisor)
//!   load    publishers and consumers                         (load.rs, client.rs, message.rs)
//!   ledger  what was promised to them and what was kept      (ledger.rs)
//!   verdict facts and faults                                 (verdict.rs)
//! ```
//!
//! A killed process leaves the page cache intact, so a missing flush is invisible here: power cuts are the business of
//! the store's simulation (`cargo xtask mutants`). What is tested here is everything around it: that answers
//! wait for the log, that recovery finds what the log has, that a process may die at any instruction.

mod backlog;
mod clean_stop;
mod client;
mod delayed;
mod disk_full;
mod doors;
mod drain;
mod kill;
mod ledger;
mod load;
mod message;
mod metadata;
mod migrate;
mod site;
mod slowloris;
mod small_disk;
mod sync_failure;
mod tls;
mod toolkit;
mod tx;
mod verdict;

use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use site::Site;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use verdict::Verdict;

struct Campaign {
    name: &'static str,
    about: &'static str,
    run: fn(&Site, &Plan, &mut Verdict) -> Result<()>,
}

const CAMPAIGNS: &[Campaign] = &[
    Campaign { name: "kill", about: "kill -9 under load, and during recovery", run: kill::run },
    Campaign { name: "metadata", about: "kill -9 on receipt of a declare-ok or bind-ok", run: metadata::run },
    Campaign { name: "tx", about: "kill -9 on commit-ok, and before it", run: tx::run },
    Campaign { name: "clean-stop", about: "SIGTERM under load", run: clean_stop::run },
    Campaign { name: "disk-full", about: "no room left on the device", run: disk_full::run },
    Campaign { name: "sync-failure", about: "fdatasync returns EIO", run: sync_failure::run },
    Campaign { name: TOOLKIT, about: "callers and workers under 500 faults of 18 kinds", run: toolkit::run },
    Campaign { name: "delayed", about: "kill -9 with messages that wait for their time", run: delayed::run },
    Campaign { name: MIGRATE, about: "kill -9 of a migration to RabbitMQ", run: migrate::run },
    Campaign { name: "slowloris", about: "2,000 clients, an octet a second each", run: slowloris::run },
    Campaign { name: "tls", about: "what testssl.sh finds", run: tls::run },
    Campaign { name: "backlog", about: "kill -9 with 200,000 messages waiting", run: backlog::run },
];

const TOOLKIT: &str = "toolkit";
const MIGRATE: &str = "migrate";
/// Campaigns that wait more than they compute.
const PATIENT: [&str; 4] = [TOOLKIT, MIGRATE, "slowloris", "tls"];
const KILLS: u64 = 200;
const KILLS_QUICK: u64 = 20;

/// What a campaign has to know of the command line.
struct Plan {
    /// All random decisions follow from it; how they meet the broker is up to the machine.
    seed: u64,
    quick: bool,
    kills: u64,
    /// Of the toolkit's campaign: how many, and the number of the first one.
    faults: Option<u64>,
    first_fault: u64,
    against: Against,
}

/// Whose promises are tested. Only the toolkit makes any about a broker that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Against {
    Leveret,
    RabbitMq,
}

impl Against {
    fn parse(name: &str) -> Result<Against> {
        let all = [Against::Leveret, Against::RabbitMq];
        let found = all.into_iter().find(|against| against.name() == name);
        found.with_context(|| format!("--against leveret or rabbitmq, not `{name}`"))
    }

    fn name(self) -> &'static str {
        match self {
            Against::Leveret => "leveret",
            Against::RabbitMq => "rabbitmq",
        }
    }
}

impl Plan {
    fn rounds(&self, quick: u64, full: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}

/// Runs the campaigns one after the other.
///
/// # Errors
/// When an argument is unknown, the broker cannot be built, or a promise is broken.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some((toolkit::WORKER_ARGUMENT, args)) =
        args.split_first().map(|(name, rest)| (name.as_str(), rest))
    {
        return toolkit::work(args);
    }
    let options = Options::parse(args)?;
    if cfg!(debug_assertions) && options.need_release_build() {
        return run_release_build(&options, args);
    }
    if cfg!(debug_assertions) && options.binary.is_none() {
        build(&["--package", "leveret-cli"])?;
    }
    let scratch = std::env::temp_dir().join(format!("leveret-reliability-{}", std::process::id()));
    println!("seed {}", options.plan.seed);
    let (mut passed, mut failed) = (0, 0);
    for campaign in &options.campaigns {
        if options.run_one(campaign, &scratch)? {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    if failed == 0 {
        std::fs::remove_dir_all(&scratch)?;
    }
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "{failed} failed");
    Ok(())
}

struct Options {
    campaigns: Vec<&'static Campaign>,
    plan: Plan,
    /// Another broker than the one of this workspace, with the same command line.
    binary: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let plan = Plan {
            seed: seed_of_now(),
            quick: false,
            kills: 0,
            faults: None,
            first_fault: 0,
            against: Against::Leveret,
        };
        let mut options = Options { campaigns: CAMPAIGNS.iter().collect(), plan, binary: None };
        let mut kills = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => options.plan.quick = true,
                "--kills" => kills = Some(value()?.parse().context("--kills")?),
                "--faults" => options.plan.faults = Some(value()?.parse().context("--faults")?),
                "--first-fault" => options.plan.first_fault = value()?.parse().context("--first-fault")?,
                "--against" => options.plan.against = Against::parse(value()?)?,
                "--seed" => options.plan.seed = value()?.parse().context("--seed")?,
                "--only" => options.campaigns = value()?.split(',').map(find).collect::<Result<_>>()?,
                "--binary" => options.binary = Some(value()?.into()),
                _ => bail!(
                    "unknown `{arg}`: [--quick] [--kills N] [--only NAME,…] [--seed N] [--binary PATH]; for toolkit \
                     [--faults N] [--first-fault N] [--against leveret|rabbitmq]; names: {}",
                    names()
                ),
            }
        }
        options.plan.kills = kills.unwrap_or(options.plan.rounds(KILLS_QUICK, KILLS));
        ensure!(options.plan.kills > 0, "--kills is at least 1");
        let only_toolkit = options.campaigns.iter().all(|campaign| campaign.name == TOOLKIT);
        ensure!(
            only_toolkit || options.plan.against == Against::Leveret,
            "--against another broker needs --only {TOOLKIT}"
        );
        Ok(options)
    }

    /// Bodies are made and compared octet by octet: unoptimised, the load would be no load. The toolkit's campaign mostly
    /// waits, and that of migrations is to be killed on the way.
    fn need_release_build(&self) -> bool {
        self.campaigns.iter().any(|campaign| !PATIENT.contains(&campaign.name))
    }

    /// Whether a campaign passed; its folder is kept otherwise.
    fn run_one(&self, campaign: &Campaign, scratch: &Path) -> Result<bool> {
        println!("{}: {}", campaign.name, campaign.about);
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => {
                let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
                target_directory()?.join(profile).join("leveret")
            }
        };
        let site = Site::create(&binary, scratch, campaign.name)?;
        let mut verdict = Verdict::default();
        let begin = Instant::now();
        if let Err(error) = (campaign.run)(&site, &self.plan, &mut verdict) {
            verdict.fault("not finished", format!("{error:#}"));
        }
        site.look_for_panics(&mut verdict);
        print!("{verdict}");
        let seconds = begin.elapsed().as_secs_f64();
        if verdict.passed() {
            println!("{}: ok in {seconds:.1} s", campaign.name);
            site.remove()?;
            return Ok(true);
        }
        println!("{}: FAILED in {seconds:.1} s", campaign.name);
        println!("  data and log: {}", site.folder().display());
        println!("  again: cargo xtask reliability {}", self.again(campaign));
        Ok(false)
    }

    fn again(&self, campaign: &Campaign) -> String {
        let Plan { seed, quick, kills, against, .. } = &self.plan;
        let quick = if *quick { " --quick" } else { "" };
        let rest = match campaign.name {
            TOOLKIT => format!("--against {} (one fault of it: --faults 1 --first-fault N)", against.name()),
            _ => format!("--kills {kills}"),
        };
        format!("--only {} --seed {seed}{quick} {rest}", campaign.name)
    }
}

fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn find(name: &str) -> Result<&'static Campaign> {
    let found = CAMPAIGNS.iter().find(|campaign| campaign.name == name);
    found.with_context(|| format!("no campaign `{name}`; there are {}", names()))
}

fn names() -> String {
    CAMPAIGNS.iter().map(|campaign| campaign.name).collect::<Vec<_>>().join(", ")
}

fn run_release_build(options: &Options, args: &[String]) -> Result<()> {
    let mut packages = vec!["--release", "--package", "xtask"];
    if options.binary.is_none() {
        packages.extend(["--package", "leveret-cli"]);
    }
    build(&packages)?;
    let binary = target_directory()?.join("release").join("xtask");
    let status = Command::new(&binary).arg("reliability").args(args).status();
    ensure!(status.with_context(|| binary.display().to_string())?.success(), "a promise is broken");
    Ok(())
}

fn build(packages: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace_root()).arg("build").args(packages);
    ensure!(cargo.status().context("cargo build")?.success(), "the build failed");
    Ok(())
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
        let names =
            |options: &Options| options.campaigns.iter().map(|campaign| campaign.name).collect::<Vec<_>>();
        let options = parse("--quick --only tx,kill --seed 7").unwrap();
        assert_eq!(
            (names(&options), options.plan.seed, options.plan.kills),
            (vec!["tx", "kill"], 7, KILLS_QUICK)
        );
        let options = parse("--kills 3").unwrap();
        assert_eq!(
            (options.campaigns.len(), options.plan.kills, options.plan.quick),
            (CAMPAIGNS.len(), 3, false)
        );
        let options = parse("--only toolkit --against rabbitmq --faults 2 --first-fault 9").unwrap();
        assert_eq!((options.plan.faults, options.plan.first_fault), (Some(2), 9));
        assert!(!options.need_release_build() && options.plan.against == Against::RabbitMq);
        for wrong in [
            "--against rabbitmq",
            "--only toolkit --against kafka",
            "--only nothing",
            "--kills 0",
            "--kills",
            "--seed x",
            "what",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
