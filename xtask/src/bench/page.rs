//! `docs/benchmarks.md`: what was measured is written between two marks, the words around it are people's.

use super::report::Report;
use super::server::version;
use crate::workspace_root;
use anyhow::{Context, Result};
use std::fmt::Write as _;

const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- measured: written by `cargo xtask bench --write-docs` -->\n";
const END: &str = "<!-- end of what was measured -->\n";

/// Puts the report in the place of what was measured before.
///
/// # Errors
/// When the page or its marks are missing.
pub(super) fn write(report: &Report, rounds: usize) -> Result<()> {
    let path = workspace_root().join(PAGE);
    let page = std::fs::read_to_string(&path).context(PAGE)?;
    let page = replaced(&page, &measured(report, rounds)?).context("docs/benchmarks.md has no marks")?;
    std::fs::write(&path, page).context(PAGE)
}

/// None without the marks.
fn replaced(page: &str, measured: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{measured}\n{END}{after}"))
}

fn measured(report: &Report, rounds: usize) -> Result<String> {
    let mut out = machine(rounds)?;
    let _ =
        write!(out, "\n## Goals\n\n{}\n## All numbers\n\n{}", report.goals(), report.sections().trim_end());
    if !report.failures().is_empty() {
        out.push_str("\n\n### Rounds without numbers\n\n");
        report.failures().iter().for_each(|failure| {
            let _ = writeln!(out, "- {failure}");
        });
    }
    Ok(out.trim_end().to_owned() + "\n")
}

/// What this was measured on and with.
fn machine(rounds: usize) -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let memory = proc_line("/proc/meminfo", "MemTotal:")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or_else(|| "unknown".to_owned(), |kib| format!("{} GiB", kib.div_ceil(1 << 20)));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (rabbitmq, nats) = (version("rabbitmq.sh")?, version("nats.sh")?);
    let rows = [
        ("machine", format!("{cores} cores ({}), {memory}", cpu_model())),
        ("kernel", format!("Linux {}", kernel.trim())),
        ("peers", format!("RabbitMQ {rabbitmq}, NATS {nats}, Leveret {}", env!("CARGO_PKG_VERSION"))),
        ("rounds", format!("{rounds}, peers in turn; medians, in parentheses the least and the most")),
    ];
    let mut out = String::from("| | |\n|---|---|\n");
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    Ok(out)
}

pub(super) fn cpu_model() -> String {
    let model = proc_line("/proc/cpuinfo", "model name");
    model.map_or("unknown".to_owned(), |model| model.trim_start_matches([' ', '\t', ':']).to_owned())
}

/// What follows `key` in a file of the kernel.
fn proc_line(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_people_stay() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let expected = format!("before\n{BEGIN}\nnew\n\n{END}after\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), expected);
        assert_eq!(replaced(&expected, "new\n").unwrap(), expected);
        assert!(replaced("nothing", "new").is_none());
    }

    #[test]
    fn the_page_has_its_marks() {
        let page = std::fs::read_to_string(workspace_root().join(PAGE)).unwrap();
        assert!(replaced(&page, "").is_some());
    }
}
