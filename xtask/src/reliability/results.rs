//! Results: one JSON line per row and run, appended to `reliability/results.jsonl` in the target folder.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::options::Level;
use super::proof::Outcome;
use super::scorecard::Row;
use crate::{target_directory, workspace_root};

/// What a run says about a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RowResult {
    pub(super) row: u8,
    /// `quick`, `nightly` or `release`.
    pub(super) level: String,
    pub(super) seed: u64,
    /// RFC 3339, UTC: when it ended.
    pub(super) date: String,
    /// The commit it ran on, with `+` if files differed from it.
    pub(super) commit: String,
    /// Processors and kernel.
    pub(super) machine: String,
    pub(super) passed: bool,
    pub(super) seconds: f64,
    pub(super) proofs: Vec<ProofResult>,
}

/// What one proof of it found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ProofResult {
    pub(super) name: String,
    /// The command that does it again.
    pub(super) command: String,
    pub(super) passed: bool,
    pub(super) seconds: f64,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) facts: Vec<String>,
    /// Broken promises and how often.
    pub(super) faults: BTreeMap<String, u64>,
}

impl ProofResult {
    fn of(outcome: &Outcome) -> ProofResult {
        let Outcome { proof, verdict, seconds, again } = outcome;
        ProofResult {
            name: proof.name().to_owned(),
            command: again.clone(),
            passed: verdict.passed(),
            seconds: (seconds * 10.0).round() / 10.0,
            counts: verdict.counts().map(|(name, count)| (name.to_owned(), count)).collect(),
            facts: verdict.facts().to_vec(),
            faults: verdict.broken().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        }
    }
}

/// The results of all rows that `outcomes` say something about.
pub(super) fn of_rows(rows: &[&Row], outcomes: &[Outcome], level: Level, seed: u64) -> Vec<RowResult> {
    let (date, commit, machine) = (said(&["date", "-u", "+%FT%TZ"]), commit(), machine());
    let of_row = |row: &&Row| {
        let mine = |outcome: &&Outcome| row.proofs().any(|proof| proof.name() == outcome.proof.name());
        let proofs: Vec<ProofResult> = outcomes.iter().filter(mine).map(ProofResult::of).collect();
        (!proofs.is_empty()).then(|| RowResult {
            row: row.number,
            level: level.name().to_owned(),
            seed,
            date: date.clone(),
            commit: commit.clone(),
            machine: machine.clone(),
            passed: proofs.iter().all(|proof| proof.passed),
            seconds: proofs.iter().map(|proof| proof.seconds).sum(),
            proofs,
        })
    };
    rows.iter().filter_map(of_row).collect()
}

/// Where results are kept.
pub(super) fn file() -> Result<PathBuf> {
    Ok(target_directory()?.join("reliability").join("results.jsonl"))
}

/// Adds results to those of earlier runs.
///
/// # Errors
/// The file cannot be written.
pub(super) fn append(results: &[RowResult]) -> Result<PathBuf> {
    let path = file()?;
    std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    for result in results {
        writeln!(file, "{}", serde_json::to_string(result)?)?;
    }
    Ok(path)
}

/// All results of a file, oldest first; none if there is no file.
///
/// # Errors
/// It cannot be read, or has other lines in it.
pub(super) fn read(path: &Path) -> Result<Vec<RowResult>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let results = text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned()));
    results.collect()
}

fn commit() -> String {
    let clean = said(&["git", "status", "--porcelain", "--untracked-files=no"]).is_empty();
    format!("{}{}", said(&["git", "rev-parse", "--short", "HEAD"]), if clean { "" } else { "+" })
}

fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{processors} processors, Linux {}", said(&["uname", "-r"]))
}

/// What a small program prints; nothing if it is missing.
fn said(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(workspace_root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
