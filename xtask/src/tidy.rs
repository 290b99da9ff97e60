//! `cargo xtask tidy`: the style of the project as a test. New code obeys, nothing grows.
//!
//! Judged are the length of functions and files (`lengths`), the borders between the crates (`layers`), files
//! that nothing compiles (`modules`), and what was left lying about (`leftovers`); and that every dependency has its
//! line of justification. Runs under `cargo test` too, so that nobody has to remember it.

mod layers;
mod leftovers;
mod lengths;
mod modules;
mod source;

use crate::workspace_root;
use anyhow::{Context, Result, bail};
use source::Source;
use std::fmt;
use std::path::Path;
use std::process::Command;

const RATCHET_FILE: &str = "xtask/tidy-ratchet.txt";
const DEPENDENCIES_PAGE: &str = "docs/dependencies.md";
const ARCHITECTURE_LINES_MAX: usize = 300;

/// Prints what is not tidy.
///
/// # Errors
/// When anything is not, or the files cannot be read.
pub(crate) fn run(args: &[String]) -> Result<()> {
    if let Some(unknown) = args.first() {
        bail!("tidy takes no arguments, got `{unknown}`");
    }
    let problems = problems(&workspace_root())?;
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        count => bail!("{count} problems"),
    }
}

/// Something to put right. `line` is 0 where it concerns a file as a whole.
#[derive(Debug)]
struct Problem {
    path: String,
    line: usize,
    text: String,
}

impl Problem {
    fn new(path: &str, line: usize, text: String) -> Problem {
        Problem { path: path.to_owned(), line, text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// A Rust file, its path relative to the workspace.
struct File {
    path: String,
    source: Source,
}

impl File {
    fn new(path: &str, text: String) -> File {
        File { path: path.to_owned(), source: Source::new(text) }
    }
}

/// What a manifest says that the checks need.
#[derive(Default)]
struct Package {
    directory: String,
    name: String,
    /// Names under `[dependencies]`; what tests need is their own affair.
    dependencies: Vec<String>,
    /// Paths of targets that are not at Cargo's fixed places, relative to the workspace.
    target_paths: Vec<String>,
}

fn problems(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    let mut packages = Vec::new();
    for path in listed_files(root)? {
        // A file may be listed and just have been removed; whoever removes it will be judged by the commit.
        let Ok(bytes) = std::fs::read(root.join(&path)) else { continue };
        problems.extend(leftovers::check_any(&path, &bytes));
        let Ok(text) = String::from_utf8(bytes) else { continue };
        if path.ends_with(".rs") {
            files.push(File::new(&path, text));
        } else if let Some(directory) = path.strip_suffix("/Cargo.toml") {
            packages.push(package(directory, &text).with_context(|| path.clone())?);
        }
    }
    let reached = modules::reach(&files, &packages);
    problems.extend(files.iter().flat_map(leftovers::check_source));
    problems.extend(modules::check(&files, &reached));
    problems.extend(layers::check(&files, &packages, &reached));
    problems.extend(lengths::check(&files, &std::fs::read_to_string(root.join(RATCHET_FILE))?));
    problems.extend(unjustified_dependencies(root)?);
    problems.extend(architecture_length(root));
    Ok(problems)
}

/// Tracked files and new ones that are not ignored: what the next commit could hold.
fn listed_files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    Ok(names.split_terminator('\0').map(str::to_owned).collect())
}

fn package(directory: &str, manifest: &str) -> Result<Package> {
    let manifest: toml::Table = manifest.parse()?;
    let table = |key: &str| manifest.get(key).and_then(toml::Value::as_table);
    let name = table("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    let targets =
        ["lib", "bin", "test", "bench", "example"].into_iter().filter_map(|kind| manifest.get(kind));
    let paths = targets.flat_map(|target| match target {
        toml::Value::Array(entries) => entries.iter().collect(),
        single => vec![single],
    });
    let paths = paths.filter_map(|target| target.get("path")).filter_map(toml::Value::as_str);
    Ok(Package {
        directory: directory.to_owned(),
        name: name.unwrap_or_default().to_owned(),
        dependencies: table("dependencies").map(|table| table.keys().cloned().collect()).unwrap_or_default(),
        target_paths: paths.map(|path| modules::normalize(&format!("{directory}/{path}"))).collect(),
    })
}

fn unjustified_dependencies(root: &Path) -> Result<Vec<Problem>> {
    let manifest: toml::Table = std::fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let page = std::fs::read_to_string(root.join(DEPENDENCIES_PAGE)).context(DEPENDENCIES_PAGE)?;
    let dependencies = manifest.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    let names = dependencies.and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
    let missing = names.filter(|name| !name.starts_with("leveret") && !page.contains(&format!("`{name}`")));
    Ok(missing.map(|name| Problem::new(DEPENDENCIES_PAGE, 0, format!("say why we need `{name}`"))).collect())
}

/// Longer, and nobody reads it.
fn architecture_length(root: &Path) -> Option<Problem> {
    let lines = std::fs::read_to_string(root.join("ARCHITECTURE.md")).ok()?.lines().count();
    (lines > ARCHITECTURE_LINES_MAX).then(|| {
        Problem::new("ARCHITECTURE.md", 0, format!("{lines} lines, at most {ARCHITECTURE_LINES_MAX}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let problems = problems(&workspace_root()).unwrap();
        let list: Vec<String> = problems.iter().map(Problem::to_string).collect();
        assert!(list.is_empty(), "\n{}", list.join("\n"));
    }

    #[test]
    fn a_manifest_names_its_targets() {
        let text = "[package]\nname = \"leveret-x\"\n[dependencies]\nserde.workspace = true\n\
                    [[example]]\nname = \"story\"\npath = \"../../examples/story.rs\"\n";
        let package = package("crates/x", text).unwrap();
        assert_eq!(
            (package.name.as_str(), &package.dependencies[..]),
            ("leveret-x", &["serde".to_owned()][..])
        );
        assert_eq!(package.target_paths, ["examples/story.rs"]);
    }
}
