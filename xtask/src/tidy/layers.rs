//! The borders between the crates. Arrows point down only, and the rules of the broker never ask for the time and
//! never touch a socket or a file: that is what lets one thread, a virtual clock and a faulty disk run them.

use super::modules::Reached;
use super::{File, Package, Problem};

/// What one crate may not do.
struct Layer {
    /// Folder of the crate.
    directory: &'static str,
    /// The crates of this workspace it may depend on.
    may_depend_on: Arrows,
    /// Paths that its production code may not name.
    forbidden: &'static [Forbidden],
}

enum Arrows {
    Only(&'static [&'static str]),
    /// Programs at the top: nothing depends on them.
    Everything,
}

/// A path prefix, or with a leading `..` a path suffix.
struct Forbidden {
    path: &'static str,
    except: &'static [&'static str],
    /// Files (a prefix of their path inside the crate) where it is allowed.
    allowed_in: &'static [&'static str],
}

const fn forbid(path: &'static str) -> Forbidden {
    Forbidden { path, except: &[], allowed_in: &[] }
}

const PURE_ADDRESSES: &[&str] = &["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr"];

const SANS_IO: &[Forbidden] = &[
    forbid("tokio"),
    forbid("std::fs"),
    Forbidden { path: "std::net", except: PURE_ADDRESSES, allowed_in: &[] },
    forbid("std::process"),
    forbid("std::thread::spawn"),
    forbid("std::thread::sleep"),
    forbid("..Instant::now"),
    forbid("..SystemTime::now"),
];

const STORE: &[Forbidden] = &[
    forbid("tokio"),
    Forbidden { path: "std::fs", except: &[], allowed_in: &["src/real_disk"] },
    Forbidden { path: "rustix", except: &[], allowed_in: &["src/real_disk"] },
    forbid("std::net"),
    forbid("std::process"),
    forbid("std::thread::spawn"),
    forbid("std::thread::sleep"),
    forbid("..Instant::now"),
    forbid("..SystemTime::now"),
];

/// A new crate needs an ADR that names the import it forbids, and its line here.
const LAYERS: &[Layer] = &[
    Layer { directory: "crates/wire", may_depend_on: Arrows::Only(&[]), forbidden: SANS_IO },
    Layer { directory: "crates/store", may_depend_on: Arrows::Only(&[]), forbidden: STORE },
    Layer {
        directory: "crates/broker",
        may_depend_on: Arrows::Only(&["leveret-wire", "leveret-store"]),
        forbidden: SANS_IO,
    },
    Layer {
        directory: "crates/server",
        may_depend_on: Arrows::Only(&["leveret-broker", "leveret-store", "leveret-wire"]),
        forbidden: &[],
    },
    Layer {
        directory: "crates/admin",
        may_depend_on: Arrows::Only(&["leveret-broker", "leveret-wire"]),
        forbidden: &[],
    },
    Layer { directory: "crates/client", may_depend_on: Arrows::Only(&["leveret-wire"]), forbidden: &[] },
    Layer {
        directory: "crates/shovel",
        may_depend_on: Arrows::Only(&["leveret-client", "leveret-wire"]),
        // Both ends of a shovel are foreign brokers to it.
        forbidden: &[forbid("leveret_broker"), forbid("leveret_server"), forbid("leveret_store")],
    },
    Layer {
        directory: "crates/bench",
        // What measures shares no code with what is measured, except for how a URL is read.
        may_depend_on: Arrows::Only(&["leveret-wire"]),
        forbidden: &[forbid("tokio")],
    },
    Layer { directory: "crates/macros", may_depend_on: Arrows::Only(&[]), forbidden: SANS_IO },
    Layer {
        directory: "crates/leveret",
        may_depend_on: Arrows::Only(&["leveret-client", "leveret-macros", "leveret-server", "leveret-wire"]),
        // Whatever the toolkit does must work on any broker: ours is only started, behind `embedded:`.
        forbidden: &[
            Forbidden { path: "leveret_server", except: &[], allowed_in: &["src/embedded"] },
            forbid("leveret_broker"),
            forbid("leveret_store"),
        ],
    },
    Layer { directory: "crates/cli", may_depend_on: Arrows::Everything, forbidden: &[] },
    Layer { directory: "examples", may_depend_on: Arrows::Everything, forbidden: &[] },
    Layer { directory: "crates/testkit", may_depend_on: Arrows::Everything, forbidden: &[] },
    Layer { directory: "xtask", may_depend_on: Arrows::Everything, forbidden: &[] },
    Layer { directory: "fuzz", may_depend_on: Arrows::Everything, forbidden: &[] },
    Layer { directory: "interleavings", may_depend_on: Arrows::Everything, forbidden: &[] },
    Layer { directory: "interleavings/locks", may_depend_on: Arrows::Only(&[]), forbidden: &[] },
];

/// Names that say nothing about what is inside.
const HOLLOW_CRATES: [&str; 4] = ["common", "core", "utils", "util"];
const HOLLOW_MODULES: [&str; 5] = ["common", "utils", "util", "manager", "helpers"];
const TEST_ONLY_CRATE: &str = "leveret-testkit";

pub(super) fn check(files: &[File], packages: &[Package], reached: &Reached) -> Vec<Problem> {
    let mut problems: Vec<Problem> = packages.iter().flat_map(check_package).collect();
    for file in files {
        problems.extend(hollow_name(file));
        if let Some(layer) = layer_of(&file.path)
            && reached.in_production.contains(&file.path)
        {
            problems.extend(check_paths(layer, file));
        }
    }
    problems
}

fn layer_of(path: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| path.strip_prefix(layer.directory).is_some_and(|rest| rest.starts_with('/')))
}

fn check_package(package: &Package) -> Vec<Problem> {
    let manifest = format!("{}/Cargo.toml", package.directory);
    let problem = |text| Problem::new(&manifest, 1, text);
    let Some(layer) = LAYERS.iter().find(|layer| layer.directory == package.directory) else {
        return vec![problem("a new crate needs an ADR and a line in xtask/src/tidy/layers.rs".to_owned())];
    };
    let mut problems = Vec::new();
    let short_name = package.name.strip_prefix("leveret-").unwrap_or(&package.name);
    if HOLLOW_CRATES.contains(&short_name) {
        problems.push(problem(format!("no crate is called `{}`", package.name)));
    }
    for dependency in package.dependencies.iter().filter(|name| name.starts_with("leveret")) {
        let allowed = match layer.may_depend_on {
            Arrows::Only(names) => names.contains(&dependency.as_str()),
            Arrows::Everything => package.directory == "xtask" || dependency != TEST_ONLY_CRATE,
        };
        if !allowed {
            problems.push(problem(format!("`{}` must not depend on `{dependency}`", package.name)));
        }
    }
    problems
}

fn hollow_name(file: &File) -> Option<Problem> {
    let module = file.path.strip_suffix("/mod.rs").or(file.path.strip_suffix(".rs"))?;
    let name = module.rsplit('/').next()?;
    HOLLOW_MODULES
        .contains(&name)
        .then(|| Problem::new(&file.path, 1, format!("`{name}` says nothing about what is inside")))
}

fn check_paths(layer: &Layer, file: &File) -> Vec<Problem> {
    let inside = &file.path[layer.directory.len() + 1..];
    let tests = file.source.test_modules();
    let mut problems: Vec<Problem> = Vec::new();
    for named in file.source.paths() {
        let in_test = tests.iter().any(|span| span.start <= named.offset && named.offset < span.end);
        let forbidden = layer.forbidden.iter().find(|rule| rule.covers(&named.path, inside));
        if let (false, Some(rule)) = (in_test, forbidden) {
            let line = file.source.line_of(named.offset);
            let path = rule.path.trim_start_matches("..");
            problems.push(Problem::new(
                &file.path,
                line,
                format!("{} must not use `{path}`", layer.directory),
            ));
        }
    }
    problems.dedup_by_key(|problem| problem.line);
    problems
}

impl Forbidden {
    fn covers(&self, path: &str, file: &str) -> bool {
        if self.allowed_in.iter().any(|prefix| file.starts_with(prefix)) {
            return false;
        }
        if let Some(suffix) = self.path.strip_prefix("..") {
            return path == suffix || path.strip_suffix(suffix).is_some_and(|head| head.ends_with("::"));
        }
        begins_with_path(path, self.path)
            && !self.except.iter().any(|allowed| begins_with_path(path, allowed))
    }
}

fn begins_with_path(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str) -> Vec<String> {
        let files = [File::new(path, text.to_owned())];
        let mut reached = Reached::default();
        reached.in_production.insert(path.to_owned());
        check(&files, &[], &reached).into_iter().map(|problem| problem.text).collect()
    }

    #[test]
    fn borders_hold() {
        let cases = [
            ("crates/wire/src/a.rs", "use std::{fs, net::IpAddr};", "crates/wire must not use `std::fs`"),
            ("crates/broker/src/a.rs", "use std::net::{IpAddr, Ipv4Addr};", ""),
            ("crates/broker/src/a.rs", "use std::net::TcpStream;", "crates/broker must not use `std::net`"),
            (
                "crates/broker/src/a.rs",
                "let t = std::time::Instant::now();",
                "crates/broker must not use `Instant::now`",
            ),
            ("crates/broker/src/a.rs", "use std::time::Instant; // Instant::now", ""),
            ("crates/broker/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }", ""),
            ("crates/store/src/real_disk.rs", "use rustix::fs; use std::fs::File;", ""),
            ("crates/store/src/log.rs", "use rustix::fs;", "crates/store must not use `rustix`"),
            (
                "crates/store/src/real_disk.rs",
                "SystemTime::now()",
                "crates/store must not use `SystemTime::now`",
            ),
            ("crates/server/src/a.rs", "tokio::spawn(x)", ""),
            ("crates/server/src/utils.rs", "", "`utils` says nothing about what is inside"),
        ];
        for (path, text, expected) in cases {
            assert_eq!(check_text(path, text).join("\n"), expected, "{path}: {text}");
        }
    }

    #[test]
    fn arrows_point_down() {
        let cases = [
            ("crates/wire", "leveret-wire", "leveret-store", false),
            ("crates/broker", "leveret-broker", "leveret-wire", true),
            ("crates/client", "leveret-client", "leveret-broker", false),
            ("crates/cli", "leveret-cli", "leveret-server", true),
            ("crates/cli", "leveret-cli", "leveret-testkit", false),
            ("crates/core", "leveret-core", "serde", false),
        ];
        for (directory, name, dependency, allowed) in cases {
            let package = Package {
                directory: directory.to_owned(),
                name: name.to_owned(),
                dependencies: vec![dependency.to_owned()],
                ..Package::default()
            };
            assert_eq!(check_package(&package).is_empty(), allowed, "{name} -> {dependency}");
        }
    }
}
