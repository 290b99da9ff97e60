//! `cargo xtask mutants`: does the scorecard notice when durability, a rule or a guard is broken?
//!
//! Lines that end in `// mutation: NAME` are what a promise rests on: a sync, a checksum, a refusal that is said. In a
//! copy of the workspace each is commented out in turn, and what proves its rows of the scorecard must fail, not in
//! compiling but in a test. A suite that stays green without an `fdatasync` proves nothing about the others. The unchanged
//! copy must pass, else a failure means nothing either. Only the copy is ever mutated: a test here and `cargo xtask package`
//! refuse what misses one of the lines.

mod power;

use crate::{target_directory, workspace_root};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

const MARK: &str = "// mutation: ";
/// What must notice what. A mark that gets lost in a change must not go unnoticed either.
const WATCHED: [(&str, &[Suite]); 14] = [
    ("log-sync", &[STORE, INTERLEAVINGS]),
    ("dir-sync", &[STORE]),
    ("crc-check", &[STORE, DAMAGE]),
    ("expire-next", &[RULES]),
    ("redelivered", &[RULES]),
    ("nack", &[RULES]),
    ("x-death", &[RULES]),
    ("permission", &[AUTHORITY]),
    ("body-size", &[SEQUENCES, CONTENT]),
    ("body-frame", &[SEQUENCES, CONTENT]),
    ("before-login", &[STRANGERS]),
    ("lobby", &[LOBBY]),
    ("wake-committer", &[INTERLEAVINGS]),
    ("wake-stalled", &[INTERLEAVINGS]),
];
const STORE: Suite = suite(3, &["--package", "leveret-testkit", "--lib", "store_sim"]);
const DAMAGE: Suite = suite(9, &["--package", "leveret-store", "--test", "damage"]);
const RULES: Suite = suite(14, &["--package", "leveret-testkit", "--test", "broker_sim"]);
const INTERLEAVINGS: Suite = suite(18, &["--manifest-path", "interleavings/Cargo.toml"]);
const SEQUENCES: Suite = suite(23, &["--package", "leveret-server", "--test", "conformance"]);
const STRANGERS: Suite = suite(24, &["--package", "leveret-server", "--test", "before_open"]);
const CONTENT: Suite = suite(25, &["--package", "leveret-wire", "--lib", "content::"]);
const LOBBY: Suite = suite(26, &["--package", "leveret-server", "--lib", "lobby::"]);
const AUTHORITY: Suite = suite(28, &["--package", "leveret-server", "--test", "security"]);
/// The same for all runs: as many crashes as find every mutation with room to spare.
const SEEDS: &str = "300";
/// The same for orders of threads.
const SCHEDULES: &str = "200";

/// Prints for each mutation whether a simulation caught it.
///
/// # Errors
/// When one survives, a mark is missing, or a copy does not compile.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let folder = target_directory()?.join("mutants");
    let workspace = Copy { root: folder.join("workspace"), target: folder.join("target") };
    workspace.refresh()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => simulate(&workspace, |_| true),
        ["--only", names] => simulate(&workspace, |name| names.split(',').any(|wanted| wanted == name)),
        ["--power"] => power::run(&workspace),
        _ => bail!("mutants [--only NAME,… | --power], not {args:?}"),
    }
}

/// That every line which a promise rests on is there, and is code: what is built from these files is no mutant.
///
/// # Errors
/// One is missing, commented out, or there twice; or Git cannot list the files.
pub(crate) fn all_in_place(root: &Path) -> Result<()> {
    let mutations = mutations(root)?;
    for (name, _) in WATCHED {
        let lines = mutations.iter().filter(|mutation| mutation.name == name).count();
        ensure!(lines == 1, "{lines} lines of code, not one, are marked `{MARK}{name}`");
    }
    Ok(())
}

fn simulate(workspace: &Copy, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    all_in_place(&workspace.root)?;
    let mut mutations = mutations(&workspace.root)?;
    mutations.retain(|mutation| is_wanted(&mutation.name));
    ensure!(!mutations.is_empty(), "there is no such mutation");
    let watched = WATCHED.iter().filter(|(name, _)| is_wanted(name));
    let mut suites: Vec<Suite> = watched.flat_map(|(_, suites)| suites.iter().copied()).collect();
    suites.sort_by_key(|suite| suite.row);
    suites.dedup();
    for suite in suites {
        let Outcome { passed, failed, seconds, output } = workspace.test(suite)?;
        ensure!(passed > 0 && failed == 0, "without a mutation:\n{output}");
        println!("unchanged: row {} is green, {passed} tests pass in {seconds:.1} s", suite.row);
    }
    let mut survivors = Vec::new();
    for mutation in &mutations {
        for suite in mutation.suites()? {
            let outcome = workspace.mutated(mutation, || workspace.test(*suite));
            let Outcome { failed, seconds, .. } = outcome.with_context(|| mutation.name.clone())?;
            let (name, row, place) = (&mutation.name, suite.row, mutation.place());
            if failed > 0 {
                println!("fact: {name}: row {row} is red, {failed} tests failed in {seconds:.1} s  {place}");
            } else {
                println!("fact: {name}: row {row} DOES NOT NOTICE  {place}");
                survivors.push(format!("{name} (row {row})"));
            }
        }
    }
    ensure!(survivors.is_empty(), "not noticed: {}", survivors.join(", "));
    Ok(())
}

/// Tests that prove a row of the scorecard, or the part of them that is about the mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suite {
    row: u8,
    /// For `cargo test`.
    tests: &'static [&'static str],
}

const fn suite(row: u8, tests: &'static [&'static str]) -> Suite {
    Suite { row, tests }
}

/// One marked line. `path` is relative to the workspace, `line` counts from 0.
#[derive(Debug, PartialEq, Eq)]
struct Mutation {
    name: String,
    path: String,
    line: usize,
}

impl Mutation {
    /// What must notice it.
    fn suites(&self) -> Result<&'static [Suite]> {
        let watched = WATCHED.iter().find(|(name, _)| *name == self.name);
        Ok(watched.with_context(|| format!("nothing is told to notice `{}`, {}", self.name, self.place()))?.1)
    }

    fn place(&self) -> String {
        format!("{}:{}", self.path, self.line + 1)
    }
}

/// All marked lines of code of the crates.
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
        let code = code.trim();
        (!code.is_empty() && !code.starts_with("//")).then(|| Mutation {
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
        ensure!(passed + failed > 0, "no test of row {} ran:\n{output}", suite.row);
        Ok(Outcome { passed, failed, seconds: begin.elapsed().as_secs_f64(), output })
    }

    fn cargo(&self, suite: Suite, args: &[&str]) -> Result<Output> {
        Command::new("cargo")
            .args(["test", "--quiet"])
            .args(suite.tests)
            .args(args)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("LEVERET_SEEDS", SEEDS)
            .env("LEVERET_SCHEDULES", SCHEDULES)
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
    fn what_is_released_is_no_mutant() {
        all_in_place(&workspace_root()).unwrap();
        let taken_out = without_line(&format!("sync()?; {MARK}log-sync\n"), 0);
        assert_eq!(marked_lines("a.rs", &taken_out), []);
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
