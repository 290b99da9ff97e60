//! `docs/reliability.md`: per row what was run, how often, and what was seen, from the results of runs.
//!
//! Of every proof the newest result at the highest level counts; a newer failure at a lower level is shown too, for it
//! is the truth of today. Of nights, those before it with other seeds are shown as well: their counts add up.

use anyhow::Result;
use std::fmt::Write;

use super::options::Level;
use super::results::{ProofResult, RowResult};
use super::scorecard::{self, Row};

const HEAD: &str = "\
# What was tried, and what was seen

The [promises](promises.md) put to the test. Each row is something that goes wrong: what is done, what must hold, and what came of it the
last time. This page is written by `cargo xtask reliability --write-docs` from the results of real runs; only
[what this does not show](#what-this-does-not-show) is typed by hand. No failure in *n* independent trials bounds the rate of failures at about 3/*n* (95 %); rows that try *every* point of a
script say more than that.

Run it yourself, as root on Debian (loop devices, strace, RabbitMQ to compare with):

```text
cargo xtask reliability --quick              every row that takes no hours; CI runs it
cargo xtask reliability --row 1,2 --nightly  some rows, at length
cargo xtask reliability --only kill --seed 7 one proof again
```
";

/// What results cannot say of themselves.
const LIMITS: &str = include_str!("page/limits.md");

/// A proof's result and the run it is from.
#[derive(Clone, Copy)]
struct Newest<'a> {
    run: &'a RowResult,
    proof: &'a ProofResult,
}

/// The page.
///
/// # Errors
/// Never; what is written to is memory.
pub(super) fn write(results: &[RowResult]) -> Result<String> {
    let mut page = HEAD.to_owned();
    write!(page, "\n| | Fault | Outcome |\n|--:|---|---|\n")?;
    for row in scorecard::all() {
        let found = newest(row, results);
        writeln!(page, "| {} | {} | {} |", row.number, row.fault, outcome(&found))?;
    }
    for row in scorecard::all() {
        write_row(&mut page, row, &newest(row, results))?;
    }
    page.push_str(LIMITS);
    Ok(page)
}

fn outcome(found: &[Newest<'_>]) -> String {
    let failed: Vec<&str> =
        found.iter().filter(|newest| !newest.proof.passed).map(|newest| newest.proof.name.as_str()).collect();
    match (found.is_empty(), failed.is_empty()) {
        (true, _) => "not run yet".to_owned(),
        (false, true) => "holds".to_owned(),
        (false, false) => format!("**broken**: {}", failed.join(", ")),
    }
}

fn write_row(page: &mut String, row: &Row, found: &[Newest<'_>]) -> Result<()> {
    write!(page, "\n## {}. {}\n\nMust hold: {}.\n", row.number, row.fault, row.demand)?;
    for Newest { run, proof } in found {
        let state = if proof.passed { "" } else { " **FAILED**" };
        let day = run.date.split('T').next().unwrap_or_default();
        let RowResult { level, commit, machine, .. } = run;
        write!(
            page,
            "\n**{}**{state}, {level}, {day}, {:.0} s, `{commit}`, {machine}\n",
            proof.name, proof.seconds
        )?;
        write!(page, "\n```text\n{}\n", proof.command)?;
        let counts: Vec<String> =
            proof.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        if !counts.is_empty() {
            writeln!(page, "{}", counts.join(", "))?;
        }
        for fact in &proof.facts {
            writeln!(page, "{fact}")?;
        }
        for (kind, count) in &proof.faults {
            writeln!(page, "{count} × {kind}")?;
        }
        writeln!(page, "```")?;
    }
    Ok(())
}

/// The results of a row that count, in the order of its proofs.
fn newest<'a>(row: &Row, results: &'a [RowResult]) -> Vec<Newest<'a>> {
    let runs = results.iter().filter(|run| run.row == row.number);
    let all: Vec<Newest<'a>> =
        runs.flat_map(|run| run.proofs.iter().map(move |proof| Newest { run, proof })).collect();
    row.proofs().flat_map(|proof| newest_of(proof.name(), &all)).collect()
}

/// Of one proof: the newest run at the highest level, a newer failure, and what was tried before with other seeds at length.
fn newest_of<'a>(name: &str, all: &[Newest<'a>]) -> Vec<Newest<'a>> {
    let rank = |run: &RowResult| Level::ALL.into_iter().position(|level| level.name() == run.level);
    let runs: Vec<Newest<'a>> = all.iter().filter(|newest| newest.proof.name == name).copied().collect();
    let Some(highest) = runs.iter().map(|newest| rank(newest.run)).max() else { return Vec::new() };
    let at_length: Vec<Newest<'a>> =
        runs.iter().filter(|newest| rank(newest.run) == highest).copied().collect();
    let (Some(best), Some(last)) = (at_length.last(), runs.last()) else { return Vec::new() };
    let mut shown = vec![*best];
    if !last.proof.passed && !std::ptr::eq(last.proof, best.proof) {
        shown.push(*last);
    }
    if best.run.level != Level::Quick.name() {
        let is_other =
            |newest: &&Newest<'a>| newest.proof.passed && newest.proof.command != best.proof.command;
        shown.extend(at_length.iter().rev().filter(is_other));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn result(level: &str, date: &str, passed: bool) -> RowResult {
        let proof = ProofResult {
            name: "kill".to_owned(),
            command: "do it".to_owned(),
            passed,
            seconds: 2.0,
            counts: [("kills".to_owned(), 20)].into(),
            facts: vec!["seen".to_owned()],
            faults: BTreeMap::new(),
        };
        RowResult {
            row: 1,
            level: level.to_owned(),
            seed: 7,
            date: date.to_owned(),
            commit: "abc".to_owned(),
            machine: "2 processors".to_owned(),
            passed,
            seconds: 2.0,
            proofs: vec![proof],
        }
    }

    #[test]
    fn the_newest_at_the_highest_level_counts_unless_something_fails_since() {
        let check = |runs: &[(&str, &str, bool)], expected: &[&str]| {
            let results: Vec<RowResult> =
                runs.iter().map(|(level, date, passed)| result(level, date, *passed)).collect();
            let row = scorecard::row("1").unwrap();
            let dates: Vec<&str> =
                newest(row, &results).iter().map(|newest| newest.run.date.as_str()).collect();
            assert_eq!(dates, expected, "{runs:?}");
        };
        check(&[], &[]);
        check(&[("quick", "1", true), ("nightly", "2", true), ("quick", "3", true)], &["2"]);
        check(&[("nightly", "1", true), ("quick", "2", false)], &["1", "2"]);
        check(&[("nightly", "1", true), ("quick", "2", false), ("quick", "3", true)], &["1"]);
        check(&[("nightly", "1", true), ("nightly", "2", false)], &["2"]);
    }

    #[test]
    fn nights_with_other_seeds_are_shown_as_well_unless_they_failed() {
        let mut results: Vec<RowResult> =
            ["1", "2", "3"].into_iter().map(|date| result("nightly", date, date != "2")).collect();
        for result in &mut results {
            result.proofs[0].command = format!("--seed {}", result.date);
        }
        let shown = newest(scorecard::row("1").unwrap(), &results);
        let dates: Vec<&str> = shown.iter().map(|newest| newest.run.date.as_str()).collect();
        assert_eq!(dates, ["3", "1"]);
    }

    #[test]
    fn the_page_says_what_was_run_and_what_was_not() {
        let page = write(&[result("quick", "2026-01-02T03:04:05Z", true)]).unwrap();
        for part in [
            "| 1 | kill -9 at random times under load | holds |",
            "do it\n20 kills\nseen\n",
            "| 4 |",
            "not run yet",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let page = write(&[result("quick", "2026-01-02T03:04:05Z", false)]).unwrap();
        assert!(page.contains("**broken**: kill") && page.contains("FAILED"), "{page}");
    }
}
