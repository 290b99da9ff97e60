//! `cargo xtask mutants`: do the tests notice when durability, a rule or a guard is broken?
//!
//! Lines that end in `// mutation: NAME` are what a promise rests on: a sync, a checksum, a refusal that is said. In a
//! copy of the workspace each is commented out in turn, and the simulation of the store or of the broker must fail (for
//! what strangers are refused: the tests of the crate that refuses it), not in compiling but in a test. A suite that
//! stays green without an `fdatasync` proves nothing about the others. The unchanged copy must pass, else a failure
//! means nothing either.

mod power;

use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

const MARK: &str = "// mutation: ";
/// A mark that gets lost in a change must not go unnoticed.
const REQUIRED: [&str; 9] = [
    "log-sync",
    "dir-sync",
    "crc-check",
    "expire-next",
    "redelivered",
    "nack",
    "x-death",
    "permission",
    "body-size",
];
/// Both, `store_sim` and `broker_sim`.
const SIMULATIONS: Suite = Suite { package: "leveret-testkit", targets: "--tests", filter: "_sim" };
/// The simulations have no strangers in them.
const GUARDS: [(&str, Suite); 2] = [
    ("permission", Suite { package: "leveret-broker", targets: "--lib", filter: "authority::" }),
    ("body-size", Suite { package: "leveret-wire", targets: "--lib", filter: "content::" }),
];
/// The same for all runs: as many crashes as find every mutation with room to spare.
const SEEDS: &str = "300";

/// Prints for each mutation whether a simulation caught it.
///
/// # Errors
/// When one survives, a mark is missing, or a copy does not compile.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let folder = target_directory()?.join("mutants");
    let workspace = Copy { root: folder.join("workspace"), target: folder.join("target") };
    workspace.refresh()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => simulate(&workspace),
        ["--power"] => power::run(&workspace),
        _ => bail!("mutants [--power], not {args:?}"),
    }
}

fn simulate(workspace: &Copy) -> Result<()> {
    let mutations = mutations(&workspace.root)?;
    for name in REQUIRED {
        ensure!(mutations.iter().any(|mutation| mutation.name == name), "no line is marked `{MARK}{name}`");
    }
    for suite in GUARDS.iter().map(|(_, suite)| *suite).chain([SIMULATIONS]) {
        let Outcome { passed, failed, seconds, output } = workspace.test(suite)?;
        ensure!(passed > 0 && failed == 0, "without a mutation:\n{output}");
        println!("{:<12} {passed} tests pass in {seconds:.1} s  {}", "unchanged", suite.package);
    }
    let mut survivors = Vec::new();
    for mutation in &mutations {
        let outcome = workspace
            .mutated(mutation, || workspace.test(mutation.suite()))
            .with_context(|| mutation.name.clone())?;
        let verdict = if outcome.failed > 0 { "caught" } else { "SURVIVED" };
        let Outcome { failed, seconds, .. } = outcome;
        println!(
            "{:<12} {verdict}: {failed} tests failed in {seconds:.1} s  {}",
            mutation.name,
            mutation.place()
        );
        if failed == 0 {
            survivors.push(mutation.name.as_str());
        }
    }
    ensure!(survivors.is_empty(), "no test notices: {}", survivors.join(", "));
    Ok(())
}

/// The tests that must notice a mutation: those of a package whose names contain `filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suite {
    package: &'static str,
    /// Which of its test programs, as a flag of cargo.
    targets: &'static str,
    filter: &'static str,
}

/// One marked line. `path` is relative to the workspace, `line` counts from 0.
#[derive(Debug, PartialEq, Eq)]
struct Mutation {
    name: String,
    path: String,
    line: usize,
}

impl Mutation {
    fn suite(&self) -> Suite {
        let guard = GUARDS.iter().find(|(name, _)| *name == self.name);
        guard.map_or(SIMULATIONS, |(_, suite)| *suite)
    }

    fn place(&self) -> String {
        format!("{}:{}", self.path, self.line + 1)
    }
}

/// All marked lines of the crates.
fn mutations(root: &Path) -> Result<Vec<Mutation>> {
    let mut found = Vec::new();
    for path in tracked_files(root, &["crates/*.rs"])? {
        found.extend(marked_lines(&path, &std::fs::read_to_string(root.join(&path))?));
    }
    Ok(found)
}

fn marked_lines(path: &str, text: &str) -> Vec<Mutation> {
    let marked = text.lines().enumerate().filter_map(|(line, content)| {
        let (code, name) = content.split_once(MARK)?;
        (!code.trim().is_empty()).then(|| Mutation {
            name: name.trim().to_owned(),
            path: path.to_owned(),
            line,
        })
    });
    marked.collect()
}

fn without_line(text: &str, line: usize) -> String {
    let lines = text.lines().enumerate();
    let kept = lines.map(
        |(index, content)| if index == line { format!("// {content}\n") } else { format!("{content}\n") },
    );
    kept.collect()
}

/// A copy of the workspace and the target folder all its builds share.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

struct Outcome {
    passed: u64,
    failed: u64,
    seconds: f64,
    output: String,
}

impl Copy {
    /// Copies what is tracked or would be. Unchanged files keep their time, so that only what differs is built again.
    fn refresh(&self) -> Result<()> {
        let root = workspace_root();
        std::fs::create_dir_all(&self.root)?;
        let git = Command::new("git").args(["init", "--quiet"]).current_dir(&self.root).status()?;
        ensure!(git.success(), "git init: {git}");
        let wanted = tracked_files(&root, &[])?;
        for stale in tracked_files(&self.root, &[])?.iter().filter(|path| wanted.binary_search(path).is_err())
        {
            std::fs::remove_file(self.root.join(stale))?;
        }
        for path in &wanted {
            let (from, to) = (root.join(path), self.root.join(path));
            let Ok(content) = std::fs::read(&from) else { continue };
            if std::fs::read(&to).ok().as_ref() != Some(&content) {
                std::fs::create_dir_all(to.parent().context("a file has a folder")?)?;
                std::fs::write(&to, content)?;
            }
        }
        Ok(())
    }

    /// Does something while a line is missing.
    fn mutated<T>(&self, mutation: &Mutation, something: impl FnOnce() -> Result<T>) -> Result<T> {
        let path = self.root.join(&mutation.path);
        let original = std::fs::read_to_string(&path)?;
        std::fs::write(&path, without_line(&original, mutation.line))?;
        let outcome = something();
        std::fs::write(&path, original)?;
        outcome
    }

    fn test(&self, suite: Suite) -> Result<Outcome> {
        let build = self.cargo(suite, &["--no-run"])?;
        ensure!(build.status.success(), "does not compile:\n{}", String::from_utf8_lossy(&build.stderr));
        let begin = Instant::now();
        let tests = self.cargo(suite, &["--no-fail-fast"])?;
        let output = String::from_utf8_lossy(&tests.stdout).into_owned();
        let (passed, failed) = count(&output);
        ensure!(passed + failed > 0, "no test called `{}` ran:\n{output}", suite.filter);
        Ok(Outcome { passed, failed, seconds: begin.elapsed().as_secs_f64(), output })
    }

    fn cargo(&self, suite: Suite, args: &[&str]) -> Result<Output> {
        let Suite { package, targets, filter } = suite;
        Command::new("cargo")
            .args(["test", "--quiet", "--package", package, targets, filter])
            .args(args)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("LEVERET_SEEDS", SEEDS)
            .env("RUST_BACKTRACE", "0")
            .output()
            .context("cargo test")
    }
}

/// Sums the closing lines of all test programs: `test result: ok. 3 passed; 0 failed; …`.
fn count(output: &str) -> (u64, u64) {
    let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
    let number = |line: &str, word: &str| {
        let before = line.split_once(word)?.0;
        before.split_whitespace().next_back()?.parse().ok()
    };
    results.fold((0, 0), |(passed, failed), line| {
        (passed + number(line, " passed").unwrap_or(0), failed + number(line, " failed").unwrap_or(0))
    })
}

/// Sorted, relative to `root`; `patterns` as Git understands them, all files without one.
fn tracked_files(root: &Path, patterns: &[&str]) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--"])
        .args(patterns)
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut names: Vec<String> = names.split_terminator('\0').map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_line_is_taken_out() {
        let text = format!("fn f() {{\n    sync()?; {MARK}log-sync\n    {MARK}not a line of code\n}}\n");
        let found = marked_lines("a.rs", &text);
        let [mutation] = &found[..] else { panic!("one mutation: {found:?}") };
        assert_eq!((mutation.name.as_str(), mutation.place().as_str()), ("log-sync", "a.rs:2"));
        let mutated = without_line(&text, mutation.line);
        assert!(mutated.lines().nth(1).unwrap().starts_with("//     sync()?;"), "{mutated}");
        assert_eq!(mutated.lines().count(), text.lines().count());
    }

    #[test]
    fn results_of_all_programs_are_added() {
        let cases = [
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored\n\ntest result: FAILED. 1 passed; 2 failed;\n",
                (4, 2),
            ),
            ("error: could not compile", (0, 0)),
        ];
        for (output, expected) in cases {
            assert_eq!(count(output), expected);
        }
    }
}
