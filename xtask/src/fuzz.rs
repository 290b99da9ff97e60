//! `cargo xtask fuzz`: every target of `fuzz/` for a while, one after the other.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::workspace_root;

const SECONDS: u32 = 120;
/// How long each target runs, unless `--seconds` says so.
const SECONDS_VARIABLE: &str = "LEVERET_FUZZ_SECONDS";
const MEMORY_MAX_MIB: u32 = 512;
/// Of one input. Handlers of the API may hash a password, with all checks compiled in.
const INPUT_SECONDS_MAX: u32 = 10;
/// libFuzzer sums up with this at the end.
const EXECUTED: &str = "stat::number_of_executed_units:";

#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs all targets, or those named.
///
/// # Errors
/// cargo-fuzz is missing, or a target finds something.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut seconds, mut only) = (seconds_wanted()?, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--seconds" => seconds = value()?.parse().context("--seconds")?,
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect::<Vec<_>>()),
            _ => bail!("unknown `{arg}`: [--seconds N] [--only TARGET,…]"),
        }
    }
    ensure!(seconds > 0, "--seconds 0 would be for ever");
    let folder = workspace_root().join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))?;
    let mut names: Vec<String> =
        toml::from_str::<Manifest>(&manifest)?.bin.into_iter().map(|target| target.name).collect();
    if let Some(only) = only {
        let unknown = only.iter().find(|name| !names.contains(name));
        ensure!(
            unknown.is_none(),
            "no target `{}`; there are {}",
            unknown.map_or("", |name| name),
            names.join(", ")
        );
        names = only;
    }
    let seeds = Command::new("bash").arg("seeds.sh").current_dir(&folder).status()?;
    ensure!(seeds.success(), "seeds.sh: {seeds}");
    let mut found = Vec::new();
    for name in &names {
        match fuzz(&folder, name, seconds)? {
            Some(inputs) => println!("fact: {name}: {inputs} inputs in {seconds} s"),
            None => found.push(name.as_str()),
        }
    }
    ensure!(found.is_empty(), "something is found by {}", found.join(", "));
    Ok(())
}

fn seconds_wanted() -> Result<u32> {
    match std::env::var(SECONDS_VARIABLE) {
        Ok(seconds) => seconds.parse().context(SECONDS_VARIABLE),
        Err(_) => Ok(SECONDS),
    }
}

/// How many inputs were tried; `None`: one of them is a finding, which the target has described.
fn fuzz(folder: &Path, name: &str, seconds: u32) -> Result<Option<u64>> {
    let output = Command::new("cargo")
        .args(["+nightly", "fuzz", "run", name, "--"])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MAX_MIB}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .current_dir(folder)
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
        .context("cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if let (true, Some(inputs)) = (output.status.success(), executed(&said)) {
        return Ok(Some(inputs));
    }
    eprintln!("{name}:\n{said}");
    ensure!(!said.contains("no such command"), "cargo-fuzz is missing: cargo install cargo-fuzz");
    Ok(None)
}

fn executed(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.strip_prefix(EXECUTED));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_inputs_is_found() {
        assert_eq!(executed("Done\nstat::number_of_executed_units: 1234\nstat::x: 5\n"), Some(1234));
        assert_eq!(executed("error: no such command: `fuzz`"), None);
    }
}
