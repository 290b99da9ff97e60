//! What is to run, how often, and against whom: the command line of `cargo xtask reliability`.

use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::proof::{self, Proof};
use super::scorecard::{self, Row};
use super::toolkit;

/// Kills of row 1 at the three levels.
const KILLS: [u64; 3] = [20, 1000, 1000];

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// With every change: all rows together in 15 minutes on two cores.
    Quick,
    /// Hours.
    Nightly,
    /// Whatever a claim in public rests on.
    Release,
}

impl Level {
    pub(super) const ALL: [Level; 3] = [Level::Quick, Level::Nightly, Level::Release];

    /// The flag without its dashes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Quick => "quick",
            Level::Nightly => "nightly",
            Level::Release => "release",
        }
    }
}

/// What a proof has to know of the command line.
pub(super) struct Plan {
    /// All random decisions follow from it; how they meet the broker is up to the machine.
    pub(super) seed: u64,
    pub(super) level: Level,
    /// Of the counts of the level, but never less than those of `--quick`: for nights that are too short.
    pub(super) percent: u64,
    pub(super) kills: u64,
    /// Of the toolkit's campaign: how many, and the number of the first one.
    pub(super) faults: Option<u64>,
    pub(super) first_fault: u64,
    pub(super) against: Against,
    /// Disks of a power cut, for each file system.
    pub(super) images: Option<u64>,
    /// Power cuts of a machine.
    pub(super) cuts: Option<u64>,
    /// How long the soak lasts.
    pub(super) minutes: Option<u64>,
}

/// Whose promises are tested. Only the toolkit makes any about a broker that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    Leveret,
    RabbitMq,
}

impl Against {
    fn parse(name: &str) -> Result<Against> {
        let all = [Against::Leveret, Against::RabbitMq];
        let found = all.into_iter().find(|against| against.name() == name);
        found.with_context(|| format!("--against leveret or rabbitmq, not `{name}`"))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Against::Leveret => "leveret",
            Against::RabbitMq => "rabbitmq",
        }
    }
}

impl Plan {
    pub(super) fn is_quick(&self) -> bool {
        self.level == Level::Quick
    }

    /// A count where nightly and release do the same.
    pub(super) fn rounds(&self, quick: u64, full: u64) -> u64 {
        self.rounds_at([quick, full, full])
    }

    /// One count for each level.
    pub(super) fn rounds_at(&self, counts: [u64; 3]) -> u64 {
        let full = counts[self.level as usize];
        (full * self.percent / 100).max(full.min(counts[0]))
    }
}

/// What was chosen.
pub(super) enum Choice {
    /// Rows, and everything that proves them.
    Rows(Vec<&'static Row>),
    /// Some proofs by name, whatever their level, and the rows they belong to.
    Proofs(Vec<&'static Proof>),
    /// Nothing is run: the page is written from results, those of the target folder and of these files.
    WriteDocs(Vec<PathBuf>),
}

pub(super) struct Options {
    pub(super) choice: Choice,
    pub(super) plan: Plan,
    /// Another broker than the one of this workspace, with the same command line.
    pub(super) binary: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// An argument is unknown or makes no sense with the others.
    pub(super) fn parse(args: &[String]) -> Result<Options> {
        let plan = Plan {
            seed: seed_of_now(),
            level: Level::Nightly,
            percent: 100,
            kills: 0,
            faults: None,
            first_fault: 0,
            against: Against::Leveret,
            images: None,
            cuts: None,
            minutes: None,
        };
        let mut options = Options { choice: Choice::Rows(Vec::new()), plan, binary: None };
        let mut kills = None;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--write-docs" {
                options.choice = Choice::WriteDocs(args.map(PathBuf::from).collect());
                break;
            }
            if let Some(level) =
                Level::ALL.into_iter().find(|level| arg.strip_prefix("--") == Some(level.name()))
            {
                options.plan.level = level;
                continue;
            }
            let value =
                args.next().with_context(|| format!("{arg}: unknown, or needs a value; {}", usage()))?;
            match arg.as_str() {
                "--kills" => kills = Some(value.parse().context("--kills")?),
                _ => options.set(arg, value)?,
            }
        }
        options.plan.kills = kills.unwrap_or(options.plan.rounds_at(KILLS));
        options.check()?;
        Ok(options)
    }

    fn set(&mut self, arg: &str, value: &str) -> Result<()> {
        let number = || value.parse().with_context(|| arg.to_owned());
        match arg {
            "--faults" => self.plan.faults = Some(number()?),
            "--first-fault" => self.plan.first_fault = number()?,
            "--against" => self.plan.against = Against::parse(value)?,
            "--seed" => self.plan.seed = number()?,
            "--percent" => self.plan.percent = number()?,
            "--images" => self.plan.images = Some(number()?),
            "--cuts" => self.plan.cuts = Some(number()?),
            "--minutes" => self.plan.minutes = Some(number()?),
            "--only" => {
                self.choice = Choice::Proofs(value.split(',').map(scorecard::proof).collect::<Result<_>>()?);
            }
            "--row" => {
                self.choice = Choice::Rows(value.split(',').map(scorecard::row).collect::<Result<_>>()?)
            }
            "--binary" => self.binary = Some(value.into()),
            _ => bail!("unknown `{arg}`: {}", usage()),
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        ensure!(self.plan.kills > 0, "--kills is at least 1");
        ensure!((1..=100).contains(&self.plan.percent), "--percent is 1 to 100");
        let only_toolkit = match &self.choice {
            Choice::Proofs(proofs) => proofs.iter().all(|proof| proof.name() == toolkit::NAME),
            Choice::Rows(_) | Choice::WriteDocs(_) => false,
        };
        ensure!(
            only_toolkit || self.plan.against == Against::Leveret,
            "--against another broker needs --only {}",
            toolkit::NAME
        );
        Ok(())
    }

    /// What runs, in the order of the scorecard, nothing twice.
    ///
    /// # Errors
    /// A row was asked for that has nothing at this level.
    pub(super) fn proofs(&self) -> Result<Vec<&'static Proof>> {
        let rows = match &self.choice {
            Choice::Proofs(proofs) => return Ok(proofs.clone()),
            Choice::Rows(rows) => rows,
            Choice::WriteDocs(_) => return Ok(Vec::new()),
        };
        let mut proofs: Vec<&Proof> = Vec::new();
        for row in if rows.is_empty() { scorecard::all() } else { rows.clone() } {
            let level = self.plan.level;
            let at_level: Vec<&Proof> = row.proofs().filter(|proof| proof.from <= level).collect();
            ensure!(
                rows.is_empty() || !at_level.is_empty(),
                "row {} has nothing at --{}: ask for more",
                row.number,
                level.name()
            );
            for proof in at_level {
                if proofs.iter().all(|known| known.name() != proof.name()) {
                    proofs.push(proof);
                }
            }
        }
        Ok(proofs)
    }

    /// The rows that this says something about.
    pub(super) fn rows(&self) -> Vec<&'static Row> {
        match &self.choice {
            Choice::Rows(rows) if !rows.is_empty() => rows.clone(),
            Choice::Rows(_) => scorecard::all(),
            Choice::Proofs(chosen) => {
                let is_chosen = |proof: &Proof| chosen.iter().any(|known| known.name() == proof.name());
                scorecard::all().into_iter().filter(|row| row.proofs().any(is_chosen)).collect()
            }
            Choice::WriteDocs(_) => Vec::new(),
        }
    }

    /// Bodies are made and compared octet by octet: unoptimised, the load would be no load.
    pub(super) fn need_release_build(&self) -> Result<bool> {
        Ok(self.proofs()?.iter().any(|proof| proof.needs_speed()))
    }
}

fn seed_of_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn usage() -> String {
    format!(
        "[--quick | --nightly | --release] [--percent N] [--row N,…] [--only NAME,…] [--seed N] [--kills N] [--binary PATH]; for \
         toolkit [--faults N] [--first-fault N] [--against leveret|rabbitmq]; for soak [--minutes N]; for power cuts [--images N] [--cuts N]; or \
         --write-docs [RESULTS…]; names: {}",
        proof::names()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    fn names(line: &str) -> Vec<&'static str> {
        parse(line).unwrap().proofs().unwrap().iter().map(|proof| proof.name()).collect()
    }

    #[test]
    fn options_are_checked() {
        let options = parse("--quick --only tx,kill --seed 7").unwrap();
        assert_eq!((options.plan.seed, options.plan.kills), (7, KILLS[0]));
        let options = parse("--kills 3").unwrap();
        assert_eq!((options.plan.kills, options.plan.level), (3, Level::Nightly));
        let options = parse("--only toolkit --against rabbitmq --faults 2 --first-fault 9").unwrap();
        assert_eq!((options.plan.faults, options.plan.first_fault), (Some(2), 9));
        assert!(!options.need_release_build().unwrap() && options.plan.against == Against::RabbitMq);
        for wrong in [
            "--against rabbitmq",
            "--only toolkit --against kafka",
            "--only nothing",
            "--row 99",
            "--row x",
            "--kills 0",
            "--percent 0",
            "--percent 101",
            "--kills",
            "--seed x",
            "what",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_of_a_level_is_never_less_than_the_quick_one() {
        let rounds = |line: &str, counts| parse(line).unwrap().plan.rounds_at(counts);
        assert_eq!(rounds("--nightly --percent 30", [20, 1000, 5000]), 300);
        assert_eq!(rounds("--nightly --percent 1", [20, 1000, 5000]), 20);
        assert_eq!(rounds("--release", [20, 1000, 5000]), 5000);
        assert_eq!(rounds("--quick --percent 10", [20, 1000, 5000]), 20);
        assert_eq!(parse("--nightly --percent 10").unwrap().plan.kills, KILLS[1] / 10);
    }

    #[test]
    fn a_row_brings_its_proofs_and_none_twice() {
        assert_eq!(names("--only tx,kill"), ["tx", "kill"]);
        assert_eq!(names("--row 11,6,11 --quick"), ["tx", "kill"]);
        let all = names("--nightly");
        let quick = names("--quick");
        assert!(quick.len() > 10 && quick.iter().all(|name| all.contains(name)), "{quick:?}");
    }
}
