//! `cargo xtask mutants --power`: do the power cuts of a logged disk notice a flush that is missing?
//!
//! The same marked lines as for the simulations, but the program itself is built without them and its disk is cut. It takes root and
//! what the campaign takes, so it is no part of the usual run.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::{Copy, Mutation, mutations};

/// What only a power cut can show on a real file system.
const NAMES: [&str; 2] = ["log-sync", "dir-sync"];
const CAMPAIGN: &str = "power-cut-blocks";
/// One recording for each file system. A folder that is not flushed shows on ext4 only, and there in the images of a new data
/// directory: the first of the moments that each recording cuts at.
const IMAGES: &str = "60";
/// How the campaign says that it could not be played to its end, which proves nothing.
const NOT_FINISHED: &str = "not finished";

/// Prints for each mutation whether a power cut caught it.
///
/// # Errors
/// When one survives, or the unchanged program does not pass.
pub(super) fn run(workspace: &Copy) -> Result<()> {
    let all = mutations(&workspace.root)?;
    ensure!(cut(workspace)?.passed, "without a mutation the power cuts find faults");
    println!("{:<12} passes", "unchanged");
    let mut survivors = Vec::new();
    for name in NAMES {
        let mutation = all.iter().find(|mutation: &&Mutation| mutation.name == name);
        let mutation = mutation.with_context(|| format!("no line is marked `{name}`"))?;
        let begin = Instant::now();
        let found = workspace.mutated(mutation, || cut(workspace)).with_context(|| name)?;
        let verdict = if found.passed { "SURVIVED" } else { "caught" };
        println!("{name:<12} {verdict} in {:.0} s  {}", begin.elapsed().as_secs_f64(), mutation.place());
        for line in found.faults {
            println!("{:<14}{line}", "");
        }
        if found.passed {
            survivors.push(name);
        }
    }
    ensure!(survivors.is_empty(), "power cuts do not notice: {}", survivors.join(", "));
    Ok(())
}

struct Found {
    passed: bool,
    /// How often each promise was broken.
    faults: Vec<String>,
}

/// Builds the broker of the copy and cuts its power.
fn cut(workspace: &Copy) -> Result<Found> {
    let binary = build(workspace)?;
    let output = Command::new(std::env::current_exe()?)
        .args(["reliability", "--only", CAMPAIGN, "--images", IMAGES, "--binary"])
        .arg(&binary)
        .output()
        .context("xtask reliability")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains(CAMPAIGN) && !text.contains(NOT_FINISHED), "{text}");
    let faults = text.lines().filter(|line| line.contains(" × ")).map(|line| line.trim().to_owned());
    Ok(Found { passed: output.status.success(), faults: faults.collect() })
}

fn build(workspace: &Copy) -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--package", "leveret-cli"])
        .current_dir(&workspace.root)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .status()
        .context("cargo build")?;
    ensure!(status.success(), "does not compile");
    Ok(workspace.target.join("debug/leveret"))
}
