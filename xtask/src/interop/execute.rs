//! One program: run it with a time limit into a log, and believe what it counted only if its exit agrees.

use super::plan::Program;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);
/// What is repeated of the log of a program that failed.
const LOG_LINES_MAX: usize = 40;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    elapsed: Duration,
    log: Option<PathBuf>,
    problems: Vec<String>,
    /// How it ended before, beside others, if it was run once more alone.
    beside_others: Option<Box<Outcome>>,
}

impl Outcome {
    /// The program never came to count anything: one failure.
    pub(crate) fn could_not_run(name: &'static str, why: String, elapsed: Duration) -> Outcome {
        Outcome { name, passed: 0, failed: 1, elapsed, log: None, problems: vec![why], beside_others: None }
    }

    /// Puts the log where the next run of the program does not write over it.
    ///
    /// # Errors
    /// The file cannot be renamed.
    pub(crate) fn keep_log(&mut self) -> Result<()> {
        if let Some(log) = &mut self.log {
            let kept = log.with_extension("beside-others.log");
            std::fs::rename(&*log, &kept).with_context(|| format!("rename {}", log.display()))?;
            *log = kept;
        }
        Ok(())
    }

    /// What counts is how it ended alone.
    pub(crate) fn run_alone(&mut self, alone: Outcome) {
        let beside_others = std::mem::replace(self, alone);
        self.beside_others = Some(Box::new(beside_others));
    }

    /// What to say of a program that passed only alone.
    pub(crate) fn warning(&self) -> Option<String> {
        let before = self.beside_others.as_ref().filter(|_| self.failed == 0)?;
        let alone = self.log.as_ref().map_or(String::new(), |log| format!(" (log: {})", log.display()));
        Some(format!(
            "WARNING: {} failed beside others and passed alone{alone}\n{}",
            self.name,
            before.details()
        ))
    }

    /// One row of the table.
    pub(crate) fn row(&self) -> String {
        format!("{:<28} {:>6} {:>6} {:>8.1}", self.name, self.passed, self.failed, self.elapsed.as_secs_f64())
    }

    /// What is said when the program ends.
    pub(crate) fn line(&self) -> String {
        let word = if self.failed == 0 { "ok    " } else { "FAILED" };
        format!("{word} {}", self.row())
    }

    /// The end of its log, what failed last, so that it is seen where output is cut, and where to read on.
    pub(crate) fn details(&self) -> String {
        let log = self.log.as_ref().map_or(String::new(), |log| format!(" (log: {})", log.display()));
        let tail = self.log.as_deref().map(log_tail).unwrap_or_default();
        format!("{}{log}\n{tail}  {}", self.name, self.problems.join("\n  "))
    }
}

/// The last lines of a log, marked as such.
fn log_tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LOG_LINES_MAX);
    lines[first..].iter().map(|line| format!("  | {line}\n")).collect()
}

/// Runs the program to its end, or to its time limit.
///
/// # Errors
/// When it cannot be started or its log cannot be written.
pub(crate) fn run(program: &Program, mut command: Command, logs: &Path) -> Result<Outcome> {
    let path = logs.join(format!("{}.log", program.name));
    let log = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let started = Instant::now();
    // A group of its own: what the program leaves running is ended with it.
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", program.name))?;
    let status = wait(&mut child, program.timeout)?;
    end_group(&child);
    let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
    Ok(judge(program, status, &text, started.elapsed(), path))
}

/// `None`: the time was up.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            end_group(child);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// Ends whatever is left of the child's process group. Nothing left is fine too.
fn end_group(child: &Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
}

fn judge(
    program: &Program,
    status: Option<ExitStatus>,
    text: &str,
    elapsed: Duration,
    log: PathBuf,
) -> Outcome {
    let mut problems: Vec<String> = text.lines().filter(|line| is_failure(line)).map(str::to_owned).collect();
    let counts = text.lines().rev().find_map(counts);
    let (passed, mut failed) = counts.unwrap_or((0, 0));
    let unexplained = match (status, counts) {
        (None, _) => Some(format!("ended after {} s", program.timeout.as_secs())),
        (Some(_), None) => Some("it printed no counts".to_owned()),
        (Some(status), Some((_, 0))) if !status.success() => {
            Some(format!("it counted no failure, but {status}"))
        }
        (Some(status), Some((_, 1..))) if status.success() => {
            Some("it counted failures, but exited 0".to_owned())
        }
        (Some(_), Some((0, 0))) => Some("it ran nothing".to_owned()),
        _ => None,
    };
    if let Some(problem) = unexplained {
        failed += 1;
        problems.push(problem);
    }
    Outcome { name: program.name, passed, failed, elapsed, log: Some(log), problems, beside_others: None }
}

fn is_failure(line: &str) -> bool {
    ["FAILED", "ERROR ", "not ok", "--- FAIL"].iter().any(|word| line.trim_start().starts_with(word))
}

/// The numbers of `NAME: P passed, F failed[, S skipped]`.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (_, numbers) = line.rsplit_once(": ")?;
    let mut parts = numbers.split(", ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    let failed = parts.next()?.strip_suffix(" failed")?.parse().ok()?;
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::plan::{Needs, Runner};

    fn check(script: &str, timeout_s: u64, want: (u64, u64), problem: &str) {
        let program = Program {
            name: "sample",
            runner: Runner::Shell("unused"),
            needs: Needs::SharedBroker,
            timeout: Duration::from_secs(timeout_s),
        };
        let logs = std::env::temp_dir().join(format!("interop-execute-{}-{}", std::process::id(), want.1));
        std::fs::create_dir_all(&logs).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let outcome = run(&program, command, &logs).unwrap();
        assert_eq!((outcome.passed, outcome.failed), want, "{script}");
        assert!(outcome.details().contains(problem), "{script}: {}", outcome.details());
        std::fs::remove_dir_all(&logs).unwrap();
    }

    #[test]
    fn counts_and_exit_must_agree() {
        check("echo 'sample: 3 passed, 0 failed'", 5, (3, 0), "sample");
        check(
            "echo 'FAILED sample: why'; echo 'sample: 3 passed, 1 failed, 2 skipped'; exit 1",
            5,
            (3, 1),
            "why",
        );
        check("echo 'sample: 3 passed, 0 failed'; exit 3", 5, (3, 1), "counted no failure");
        check("echo 'sample: 3 passed, 2 failed'", 5, (3, 3), "exited 0");
        check("echo nothing", 5, (0, 1), "no counts");
        check("echo 'sample: 0 passed, 0 failed'", 5, (0, 1), "ran nothing");
        check("sleep 60", 1, (0, 1), "ended after 1 s");
    }

    #[test]
    fn details_repeat_the_end_of_the_log() {
        let path = std::env::temp_dir().join(format!("interop-tail-{}", std::process::id()));
        let text: String = (1..=100).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let tail = log_tail(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(tail.lines().count(), LOG_LINES_MAX);
        assert!(tail.starts_with("  | line 61\n") && tail.ends_with("  | line 100\n"), "{tail}");
        assert_eq!(log_tail(Path::new("/nowhere")), "");
    }

    #[test]
    fn who_passes_alone_is_a_warning_and_who_fails_again_has_failed() {
        let failed = || Outcome::could_not_run("sample", "starved".to_owned(), Duration::ZERO);
        let passed = || Outcome { failed: 0, passed: 1, problems: Vec::new(), ..failed() };
        for (alone, failures, warns) in [(passed(), 0, true), (failed(), 1, false)] {
            let mut outcome = failed();
            assert!(outcome.warning().is_none());
            outcome.run_alone(alone);
            assert_eq!((outcome.failed, outcome.warning().is_some()), (failures, warns));
            assert!(outcome.warning().is_none_or(|warning| warning.contains("starved")));
        }
    }
}
