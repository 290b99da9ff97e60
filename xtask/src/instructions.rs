//! `cargo xtask instructions`: how many instructions a message costs on each hot path, and that it stays so.
//!
//! Times are noise on a shared machine; instructions are not. Valgrind's Callgrind counts those of `src/bin/hot_paths`,
//! client and broker in one process, and the numbers are compared with `instructions.txt`: a change may cost a path 3 %,
//! more fails. Where a path became cheaper by more, the table is to say so (`--update`), or the gain could be lost
//! unnoticed.
//!
//! ```text
//!   cargo build --release hot_paths ─► valgrind --tool=callgrind hot_paths NAME ─► instructions/NAME.out ─► table
//! ```
//!
//! What the kernel does is not counted: fewer and larger system calls do not show here.

use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const TABLE: &str = "xtask/instructions.txt";
const TABLE_HEAD: &str = "\
# Instructions per message on the hot paths (of a call: request and answer), written by `cargo xtask instructions --update`.
# x86-64, release profile, clients included; what each path does is in xtask/src/bin/hot_paths.
";
/// How far a count may be from the table, percent.
const TOLERANCE_PERCENT: f64 = 3.0;
/// A count that is too high is taken again: a thread that was scheduled at a bad moment is no regression.
const ATTEMPTS: u32 = 3;

/// Counts, prints, and compares with the table, or writes it anew.
///
/// # Errors
/// A path costs more than the table allows, the table does not know it, or something cannot be run.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let is_update = match args {
        [] => false,
        [flag] if flag == "--update" => true,
        _ => bail!("instructions [--update]"),
    };
    let driver = Driver::build()?;
    let path = workspace_root().join(TABLE);
    let table = if is_update { BTreeMap::new() } else { parse(&std::fs::read_to_string(&path)?)? };
    let (mut counts, mut findings) = (Vec::new(), Vec::new());
    println!("{:<16}{:>14}{:>10}{:>8}", "path", "instructions", "table", "");
    for name in driver.paths()? {
        let allowed = table.get(&name).copied();
        let count = driver.count_until_allowed(&name, allowed)?;
        println!("{}", line(&name, count, allowed));
        findings.extend(judge(&name, count, allowed).filter(|_| !is_update));
        counts.push((name, count));
    }
    println!("profiles for callgrind_annotate: {}", driver.profiles.display());
    if is_update {
        return Ok(std::fs::write(path, print(&counts))?);
    }
    for finding in &findings {
        println!("{}", finding.text);
    }
    ensure!(!findings.iter().any(|finding| finding.is_fatal), "a hot path is dearer than {TABLE} allows");
    Ok(())
}

/// The program that plays the paths.
struct Driver {
    binary: PathBuf,
    profiles: PathBuf,
}

impl Driver {
    /// With the features of the binary, whose release build it so shares.
    fn build() -> Result<Driver> {
        let root = workspace_root();
        let mut debian = Command::new(root.join("interop/packages.sh"));
        ensure!(debian.arg("valgrind").status()?.success(), "valgrind is not there");
        let packages = ["--package", "leveret-cli", "--package", "xtask"];
        let driver = ["--bin", "hot_paths", "--features", "xtask/hot-paths"];
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&root).args(["build", "--release"]).args(packages).args(driver);
        ensure!(cargo.status()?.success(), "the release build failed");
        let target = target_directory()?;
        let profiles = target.join("instructions");
        std::fs::create_dir_all(&profiles)?;
        Ok(Driver { binary: target.join("release/hot_paths"), profiles })
    }

    fn paths(&self) -> Result<Vec<String>> {
        let listed = output(Command::new(&self.binary).arg("--list"))?;
        Ok(listed.lines().map(str::to_owned).collect())
    }

    fn count_until_allowed(&self, name: &str, allowed: Option<u64>) -> Result<u64> {
        let mut least = u64::MAX;
        for _ in 0..ATTEMPTS {
            least = least.min(self.count(name)?);
            if !judge(name, least, allowed).is_some_and(|finding| finding.is_fatal) {
                break;
            }
        }
        Ok(least)
    }

    /// Instructions per message.
    fn count(&self, name: &str) -> Result<u64> {
        let profile = self.profiles.join(format!("{name}.out"));
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--instr-atstart=no", "--quiet"]);
        valgrind.arg(format!("--callgrind-out-file={}", profile.display()));
        let messages = output(valgrind.arg(&self.binary).arg(name)).with_context(|| name.to_owned())?;
        let messages: u64 = messages.trim().parse().context("hot_paths prints one number")?;
        Ok(total(&profile)?.checked_div(messages).unwrap_or_default())
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// What a profile sums up to.
fn total(profile: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(profile)?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.filter(|total| *total > 0).context("Callgrind has counted nothing")
}

/// What is to be said of a count.
#[derive(Debug)]
struct Finding {
    text: String,
    is_fatal: bool,
}

fn judge(name: &str, count: u64, allowed: Option<u64>) -> Option<Finding> {
    let Some(allowed) = allowed else {
        let text = format!("{name} is not in {TABLE}: --update");
        return Some(Finding { text, is_fatal: true });
    };
    let percent = change_percent(count, allowed);
    if percent > TOLERANCE_PERCENT {
        let text =
            format!("{name} costs {percent:.1} % more than {TABLE} says: make it cheaper, or say why not");
        return Some(Finding { text, is_fatal: true });
    }
    let is_gain = percent < -TOLERANCE_PERCENT;
    is_gain.then(|| Finding {
        text: format!("{name} costs {:.1} % less than {TABLE} says: --update", -percent),
        is_fatal: false,
    })
}

fn change_percent(count: u64, allowed: u64) -> f64 {
    (count as f64 / allowed as f64 - 1.0) * 100.0
}

fn line(name: &str, count: u64, allowed: Option<u64>) -> String {
    match allowed {
        Some(allowed) => {
            format!("{name:<16}{count:>14}{allowed:>10}{:>+7.1}%", change_percent(count, allowed))
        }
        None => format!("{name:<16}{count:>14}"),
    }
}

fn parse(text: &str) -> Result<BTreeMap<String, u64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, count) = line.split_once(' ').with_context(|| format!("{TABLE}: `{line}`"))?;
            Ok((name.to_owned(), count.trim().parse().with_context(|| format!("{TABLE}: `{line}`"))?))
        })
        .collect()
}

fn print(counts: &[(String, u64)]) -> String {
    let lines = counts.iter().map(|(name, count)| format!("{name:<16}{count:>8}\n"));
    TABLE_HEAD.to_owned() + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_reads_back() {
        let counts = vec![("rpc-1".to_owned(), 28_123), ("topic-1000".to_owned(), 7)];
        let parsed = parse(&print(&counts)).unwrap();
        assert_eq!(parsed.into_iter().collect::<Vec<_>>(), counts);
        assert!(parse("rpc-1\n").is_err() && parse("rpc-1 many\n").is_err());
    }

    #[test]
    fn only_what_is_dearer_fails() {
        let check = |count, allowed, fatal: Option<bool>| {
            let found = judge("x", count, allowed).map(|finding| finding.is_fatal);
            assert_eq!(found, fatal, "{count} {allowed:?}");
        };
        check(1000, Some(1000), None);
        check(1029, Some(1000), None);
        check(1031, Some(1000), Some(true));
        check(971, Some(1000), None);
        check(969, Some(1000), Some(false));
        check(1, None, Some(true));
    }
}
