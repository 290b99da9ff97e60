//! The conformance suite: every scenario, against any broker.
//!
//! ```text
//!   conformance/*.txt ─┐
//!   hostile::generate ─┴─► scenarios ──► check, many at once ──► Report
//!                          differences.txt (known ones; a stale entry fails) ─┘
//! ```
//!
//! The expectations are ours. Where RabbitMQ does otherwise, `differences.txt` says so, for each version we
//! know.

mod differences;
mod hostile;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use differences::{Difference, DifferencesError};

use crate::scenario::{self, Failure, ParseError, Scenario, Target};

/// Scenarios, and what is known about brokers that differ.
#[derive(Debug)]
pub struct Suite {
    scenarios: Vec<Scenario>,
    differences: Vec<Difference>,
}

/// Why a suite cannot be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// A file cannot be read.
    Io(PathBuf, std::io::Error),
    /// A scenario file is wrong.
    Parse(PathBuf, ParseError),
    /// The list of differences is wrong.
    Differences(DifferencesError),
    /// Two scenarios share an id.
    Duplicate(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            LoadError::Parse(path, error) => write!(f, "{}: {error}", path.display()),
            LoadError::Differences(error) => write!(f, "differences.txt: {error}"),
            LoadError::Duplicate(id) => write!(f, "two scenarios are called {id}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// What came of one scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected; what was said.
    Passed(Vec<String>),
    /// Not as expected, in the way that is written down.
    KnownDifference,
    /// Not as expected.
    Failed(Failure),
    /// As expected, although a difference is written down: the entry must go.
    Stale(String),
}

/// The verdicts of a run, in the order of the suite.
#[derive(Debug)]
pub struct Report {
    /// Scenario ids and verdicts.
    pub verdicts: Vec<(String, Verdict)>,
}

impl Suite {
    /// All scenarios checked in beside this crate, and the generated ones.
    pub fn load() -> Result<Suite, LoadError> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
        let mut scenarios = Vec::new();
        for path in scenario_files(&dir)? {
            let text = std::fs::read_to_string(&path).map_err(|error| LoadError::Io(path.clone(), error))?;
            let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            scenarios.extend(scenario::parse(&file, &text).map_err(|error| LoadError::Parse(path, error))?);
        }
        scenarios.extend(hostile::generate());
        reject_duplicates(&scenarios)?;
        let path = dir.join("differences.txt");
        let text = std::fs::read_to_string(&path).map_err(|error| LoadError::Io(path, error))?;
        let differences = differences::parse(&text, &scenarios).map_err(LoadError::Differences)?;
        Ok(Suite { scenarios, differences })
    }

    /// Only the scenarios whose id contains `part`.
    #[must_use]
    pub fn filtered(mut self, part: &str) -> Suite {
        self.scenarios.retain(|scenario| scenario.id.contains(part));
        self
    }

    /// Plays everything, `jobs` scenarios at a time. `broker` selects the differences, e.g. `rabbitmq-3.10`.
    pub fn run(&self, target: &Target, broker: &str, jobs: usize) -> Report {
        let next = AtomicUsize::new(0);
        let verdicts = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    while let Some(scenario) = self.scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let verdict = self.judge(scenario, target, broker);
                        let mut verdicts =
                            verdicts.lock().expect("no scenario panics while it holds this lock");
                        verdicts.push((scenario.id.clone(), verdict));
                    }
                });
            }
        });
        let mut verdicts = verdicts.into_inner().expect("no scenario panics while it holds this lock");
        verdicts.sort_by(|(left, _), (right, _)| left.cmp(right));
        Report { verdicts }
    }

    fn judge(&self, scenario: &Scenario, target: &Target, broker: &str) -> Verdict {
        let known = self.differences.iter().find(|entry| entry.concerns(&scenario.id, broker));
        match (scenario::check(scenario, target, &new_suffix()), known) {
            (Ok(transcript), None) => Verdict::Passed(transcript),
            (Ok(_), Some(entry)) => Verdict::Stale(entry.what.clone()),
            (Err(failure), Some(entry)) if entry.covers(&failure.actual) => Verdict::KnownDifference,
            (Err(failure), _) => Verdict::Failed(failure),
        }
    }
}

impl Report {
    /// Whether nothing failed and no difference is stale.
    pub fn is_green(&self) -> bool {
        self.failed() == 0
    }

    fn failed(&self) -> usize {
        let is_failed = |verdict: &Verdict| matches!(verdict, Verdict::Failed(_) | Verdict::Stale(_));
        self.verdicts.iter().filter(|(_, verdict)| is_failed(verdict)).count()
    }
}

/// The failures, the number of known differences, and `N passed, M failed` as the last line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut known = 0;
        for (id, verdict) in &self.verdicts {
            match verdict {
                Verdict::Passed(_) => {}
                Verdict::KnownDifference => known += 1,
                Verdict::Failed(failure) => write!(f, "FAILED {id}\n{failure}")?,
                Verdict::Stale(what) => writeln!(f, "STALE {id}: passes now, strike its entry '{what}'")?,
            }
        }
        if known > 0 {
            writeln!(f, "{known} differ as written in differences.txt")?;
        }
        write!(f, "{} passed, {} failed", self.verdicts.len() - self.failed(), self.failed())
    }
}

fn scenario_files(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let entries = std::fs::read_dir(dir).map_err(|error| LoadError::Io(dir.to_owned(), error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths =
        paths.collect::<Result<Vec<_>, _>>().map_err(|error| LoadError::Io(dir.to_owned(), error))?;
    let is_scenario_file = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".txt") && name != "methods.txt" && name != "differences.txt"
    };
    paths.retain(is_scenario_file);
    paths.sort();
    Ok(paths)
}

fn reject_duplicates(scenarios: &[Scenario]) -> Result<(), LoadError> {
    let mut ids: Vec<&str> = scenarios.iter().map(|scenario| scenario.id.as_str()).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(LoadError::Duplicate(pair[0].to_owned())),
        None => Ok(()),
    }
}

/// Unique among the runs that may share a broker: the process, the start, a counter; eight characters.
fn new_suffix() -> String {
    static PLAYED: AtomicUsize = AtomicUsize::new(0);
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let number = PLAYED.fetch_add(1, Ordering::Relaxed);
    format!("{:04x}{:04x}", (started as u32 ^ std::process::id()) & 0xffff, number & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_checked_in_is_readable() {
        let suite = Suite::load().unwrap_or_else(|error| panic!("{error}"));
        assert!(suite.scenarios.len() > 400);
    }
}
