//! What proves a row of the scorecard: a campaign of this folder, or a command of its own.
//!
//! A command's counts go through environment variables; what it says in lines with `fact: ` is kept. Of tests at least one
//! must have run: a filter that matches nothing proves nothing.

use anyhow::{Context, Result, ensure};
use leveret_testkit::random::Random;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use super::options::{Level, Plan};
use super::scorecard;
use super::site::Site;
use super::verdict::Verdict;
use super::{CAMPAIGNS, Campaign};
use crate::{target_directory, workspace_root};

const FACT: &str = "fact: ";
/// Lines of a failed command's output that are shown.
const SHOWN_LINES: usize = 40;

/// One thing to run, and from which level on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) from: Level,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// By its name in [`CAMPAIGNS`].
    Campaign(&'static str),
    Command(Program),
}

/// A command line in the workspace's folder, words separated by spaces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) command: &'static str,
    /// An environment variable and its value at each level.
    pub(super) counts: Option<(&'static str, [u64; 3])>,
    /// An environment variable that takes the seed.
    pub(super) seed: Option<&'static str>,
}

/// What became of a proof.
pub(super) struct Outcome {
    pub(super) proof: &'static Proof,
    pub(super) verdict: Verdict,
    pub(super) seconds: f64,
    /// The command that does it again.
    pub(super) again: String,
}

/// The names of all proofs.
pub(super) fn names() -> String {
    let mut names: Vec<&str> =
        scorecard::all().iter().flat_map(|row| row.proofs()).map(Proof::name).collect();
    names.dedup();
    names.join(", ")
}

impl Proof {
    pub(super) fn name(&self) -> &'static str {
        match &self.what {
            What::Campaign(name) => name,
            What::Command(program) => program.name,
        }
    }

    fn campaign(&self) -> Option<&'static Campaign> {
        match &self.what {
            What::Campaign(name) => CAMPAIGNS.iter().find(|campaign| campaign.name == *name),
            What::Command(_) => None,
        }
    }

    /// In a few words.
    pub(super) fn about(&self) -> &'static str {
        match &self.what {
            What::Campaign(_) => self.campaign().map_or("", |campaign| campaign.about),
            What::Command(program) => program.command,
        }
    }

    /// Whether it is worth nothing unoptimised.
    pub(super) fn needs_speed(&self) -> bool {
        self.campaign().is_some_and(|campaign| !super::PATIENT.contains(&campaign.name))
    }

    /// Whether it runs the broker's program.
    pub(super) fn needs_broker(&self) -> bool {
        matches!(self.what, What::Campaign(_))
    }

    /// Runs it; what goes wrong on the way is a fault too. The folder of a failed campaign is kept.
    pub(super) fn run(&'static self, plan: &Plan, binary: Option<&Path>, scratch: &Path) -> Outcome {
        println!("{}: {}", self.name(), self.about());
        let begin = Instant::now();
        let mut verdict = Verdict::default();
        let run = match &self.what {
            What::Campaign(_) => self.run_campaign(plan, binary, scratch, &mut verdict),
            What::Command(program) => program.run(plan, &mut verdict),
        };
        if let Err(error) = run {
            verdict.fault("not finished", format!("{error:#}"));
        }
        let seconds = begin.elapsed().as_secs_f64();
        print!("{verdict}");
        let again = self.again(plan);
        let name = self.name();
        if verdict.passed() {
            println!("{name}: ok in {seconds:.1} s");
        } else {
            println!("{name}: FAILED in {seconds:.1} s\n  again: {again}");
        }
        Outcome { proof: self, verdict, seconds, again }
    }

    fn run_campaign(
        &self,
        plan: &Plan,
        binary: Option<&Path>,
        scratch: &Path,
        verdict: &mut Verdict,
    ) -> Result<()> {
        let campaign = self.campaign().with_context(|| format!("there is no campaign `{}`", self.name()))?;
        let binary = match binary {
            Some(binary) => binary.to_owned(),
            None => own_binary()?,
        };
        let site = Site::create(&binary, scratch, campaign.name)?;
        if let Err(error) = (campaign.run)(&site, plan, verdict) {
            verdict.fault("not finished", format!("{error:#}"));
        }
        site.look_for_panics(verdict);
        if verdict.passed() {
            return site.remove();
        }
        println!("  data and log: {}", site.folder().display());
        Ok(())
    }

    fn again(&self, plan: &Plan) -> String {
        let Plan { seed, kills, against, .. } = plan;
        let rest = match self.name() {
            "kill" => format!(" --kills {kills}"),
            super::power_blocks::NAME | super::power_blocks::COMPARISON => {
                plan.images.map_or_else(String::new, |images| format!(" --images {images}"))
            }
            super::power_machine::NAME => {
                plan.cuts.map_or_else(String::new, |cuts| format!(" --cuts {cuts}"))
            }
            "differential" => " (one program of it: --faults 1 --first-fault N)".to_owned(),
            super::toolkit::NAME => {
                format!(" --against {} (one fault of it: --faults 1 --first-fault N)", against.name())
            }
            _ => String::new(),
        };
        let level = match plan.percent {
            100 => plan.level.name().to_owned(),
            percent => format!("{} --percent {percent}", plan.level.name()),
        };
        format!("cargo xtask reliability --only {} --{level} --seed {seed}{rest}", self.name())
    }
}

/// The broker of this workspace, built like this program.
fn own_binary() -> Result<PathBuf> {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Ok(target_directory()?.join(profile).join("leveret"))
}

impl Program {
    fn run(&self, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
        let mut words = self.command.split(' ');
        let mut command = Command::new(words.next().context("an empty command")?);
        command.args(words).current_dir(workspace_root()).stdin(Stdio::null()).stderr(Stdio::inherit());
        command.env("CARGO_TARGET_DIR", target_directory()?);
        if let Some((variable, counts)) = self.counts {
            let count = plan.rounds_at(counts);
            command.env(variable, count.to_string());
            verdict.count(variable_name(variable), count);
        }
        if let Some(variable) = self.seed {
            // Leaves room to count on.
            command.env(variable, (Random::new(plan.seed).next() >> 1).to_string());
        }
        let output = command.output().with_context(|| self.command.to_owned())?;
        let text = String::from_utf8_lossy(&output.stdout);
        for fact in text.lines().filter_map(|line| Some(line.split_once(FACT)?.1)) {
            verdict.fact(fact);
        }
        if !output.status.success() {
            let lines: Vec<&str> = text.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
            verdict.fault("the command failed", output.status);
        }
        if self.command.contains(" test ") {
            let passed = tests_passed(&text);
            ensure!(passed > 0, "no test ran");
            verdict.count("tests", passed);
        }
        Ok(())
    }
}

/// `LEVERET_SEEDS` counts seeds.
fn variable_name(variable: &'static str) -> &'static str {
    match variable.strip_prefix("LEVERET_") {
        Some("SEEDS") => "seeds",
        Some("SCHEDULES") => "orders of threads",
        Some("FUZZ_SECONDS") => "seconds for each target",
        _ => variable,
    }
}

/// Sums the closing lines of all test programs.
fn tests_passed(output: &str) -> u64 {
    let results =
        output.lines().filter_map(|line| line.split_once("test result: ok. ")?.1.split_once(" passed"));
    results.filter_map(|(passed, _)| passed.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &'static str) -> (bool, String) {
        let program = Program { name: "x", command, counts: Some(("LEVERET_SEEDS", [7, 8, 9])), seed: None };
        let plan = Plan {
            seed: 1,
            level: Level::Nightly,
            percent: 100,
            kills: 1,
            faults: None,
            first_fault: 0,
            against: super::super::options::Against::Leveret,
            images: None,
            cuts: None,
            minutes: None,
        };
        let mut verdict = Verdict::default();
        let run = program.run(&plan, &mut verdict);
        (run.is_ok() && verdict.passed(), verdict.to_string())
    }

    #[test]
    fn commands_say_what_they_found() {
        let (passed, text) = run("printenv LEVERET_SEEDS");
        assert!(passed && text.contains("8 seeds"), "{text}");
        let (passed, text) = run("echo of it fact: 3 crashes");
        assert!(passed && text.contains("  3 crashes"), "{text}");
        for failing in ["false", "echo test result: nothing test ran", "no-such-program-anywhere"] {
            assert!(!run(failing).0, "{failing}");
        }
    }

    #[test]
    fn passed_tests_are_added() {
        let output = "test result: ok. 3 passed; 0 failed\ntest result: ok. 4 passed; 0 failed\n";
        assert_eq!(tests_passed(output), 7);
    }

    #[test]
    fn every_campaign_is_of_a_row_and_every_row_has_one() {
        for campaign in CAMPAIGNS {
            let of_a_row = scorecard::all()
                .iter()
                .flat_map(|row| row.proofs())
                .any(|proof| proof.name() == campaign.name);
            assert!(of_a_row, "{} proves no row", campaign.name);
        }
        for proof in scorecard::all().iter().flat_map(|row| row.proofs()) {
            assert!(!proof.about().is_empty(), "there is no campaign `{}`", proof.name());
        }
    }
}
