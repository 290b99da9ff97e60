//! Which files the compiler sees. A `.rs` file that no `mod` reaches is dead: it compiles nowhere and rots.

use super::source::ModuleDeclaration;
use super::{File, Package, Problem};
use std::collections::{BTreeMap, BTreeSet};

/// The files of the workspace that are compiled, and of these the ones that only tests see.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) all: BTreeSet<String>,
    pub(super) in_production: BTreeSet<String>,
}

pub(super) fn reach(files: &[File], packages: &[Package]) -> Reached {
    let by_path: BTreeMap<&str, &File> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut reached = Reached::default();
    for package in packages {
        for root in roots(package, files) {
            let test_only = root.test_only;
            visit(&by_path, &root.path, &directory(&root.path), test_only, &mut reached);
        }
    }
    reached
}

pub(super) fn check(files: &[File], reached: &Reached) -> Vec<Problem> {
    let orphans = files.iter().filter(|file| !reached.all.contains(&file.path));
    orphans
        .map(|file| Problem::new(&file.path, 1, "no `mod` reaches this file: use it or remove it".to_owned()))
        .collect()
}

struct Root {
    path: String,
    test_only: bool,
}

/// Where Cargo starts to compile: its fixed places and the targets a manifest names.
fn roots(package: &Package, files: &[File]) -> Vec<Root> {
    let named = package.target_paths.iter().map(|path| (path.clone(), !path.contains("/src/")));
    let found = files.iter().filter_map(|file| {
        let inside = file.path.strip_prefix(&package.directory)?.strip_prefix('/')?;
        let segments: Vec<&str> = inside.split('/').collect();
        let test_only = match segments[..] {
            ["build.rs"]
            | ["src", "lib.rs" | "main.rs"]
            | ["src", "bin", _]
            | ["src", "bin", _, "main.rs"] => false,
            ["tests" | "benches" | "examples" | "fuzz_targets", _] => true,
            ["tests" | "benches" | "examples", _, "main.rs"] => true,
            _ => return None,
        };
        Some((file.path.clone(), test_only))
    });
    found.chain(named).map(|(path, test_only)| Root { path, test_only }).collect()
}

/// `children` is the folder where the file's modules live.
fn visit(files: &BTreeMap<&str, &File>, path: &str, children: &str, test_only: bool, reached: &mut Reached) {
    let Some(file) = files.get(path) else { return };
    let first_visit = reached.all.insert(path.to_owned());
    let first_in_production = !test_only && reached.in_production.insert(path.to_owned());
    if !first_visit && !first_in_production {
        return;
    }
    for declaration in file.source.module_declarations() {
        let test_only = test_only || declaration.test_only;
        for (candidate, below) in candidates(&declaration, path, children) {
            visit(files, &candidate, &below, test_only, reached);
        }
    }
    for (at, _) in file.source.code.match_indices("include!(") {
        if let Some(name) = file.source.text[at..].split('"').nth(1) {
            visit(files, &normalize(&format!("{}/{name}", directory(path))), children, test_only, reached);
        }
    }
}

/// The files a declaration may mean, each with the folder of its own modules.
fn candidates(declaration: &ModuleDeclaration, file: &str, children: &str) -> Vec<(String, String)> {
    let mut base = children.to_owned();
    for module in &declaration.inside {
        base = format!("{base}/{module}");
    }
    if let Some(path) = &declaration.path {
        let from = if declaration.inside.is_empty() { directory(file) } else { base };
        let path = normalize(&format!("{from}/{path}"));
        let below = directory(&path);
        return vec![(path, below)];
    }
    let below = format!("{base}/{}", declaration.name);
    vec![(format!("{below}.rs"), below.clone()), (format!("{below}/mod.rs"), below)]
}

fn directory(path: &str) -> String {
    path.rsplit_once('/').map_or(String::new(), |(directory, _)| directory.to_owned())
}

/// Resolves `..` in a path below the workspace.
pub(super) fn normalize(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_reached_or_an_orphan() {
        let files = [
            ("c/src/lib.rs", "mod a; mod b; #[cfg(test)] mod t;"),
            ("c/src/a.rs", "mod deep { mod er; }"),
            ("c/src/a/deep/er.rs", ""),
            ("c/src/b/mod.rs", "#[path = \"../odd.rs\"] mod odd;"),
            ("c/src/odd.rs", ""),
            ("c/src/t.rs", ""),
            ("c/src/lost.rs", ""),
            ("c/tests/whole.rs", "mod help;"),
            ("c/tests/help/mod.rs", ""),
            ("x/story.rs", ""),
        ]
        .map(|(path, text)| File::new(path, text.to_owned()));
        let package = Package {
            directory: "c".to_owned(),
            target_paths: vec!["x/story.rs".to_owned()],
            ..Package::default()
        };
        let reached = reach(&files, &[package]);
        let orphans: Vec<_> = check(&files, &reached).into_iter().map(|problem| problem.path).collect();
        assert_eq!(orphans, ["c/src/lost.rs"]);
        let production: Vec<_> = reached.in_production.iter().map(String::as_str).collect();
        assert_eq!(
            production,
            ["c/src/a.rs", "c/src/a/deep/er.rs", "c/src/b/mod.rs", "c/src/lib.rs", "c/src/odd.rs"]
        );
    }
}
