//! Clients in their languages, installed once by their ordinary package managers into the cache.
//!
//! An installation is as good as its manifest: next to it lies a copy of the manifest it was made from, and a
//! differing manifest makes it anew. What cannot be installed fails the programs that need it, with the reason.

use super::plan::{DEBIAN_PACKAGES, Program, Runner};
use super::{Folders, quiet, target_directory};
use crate::workspace_root;
use anyhow::{Context, Result, anyhow};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// What a suite keeps of its time for fetching itself, and for saying what it counted when its tests hang.
const SUITE_RESERVE: Duration = Duration::from_secs(60);

/// The languages' installations; each is made when the first program asks for it.
pub(crate) struct Toolchains {
    programs: PathBuf,
    cache: PathBuf,
    python: Installation,
    node: Installation,
    java: Installation,
    go: Installation,
    rust: Installation,
}

/// Made at most once per run. The reason of a failure is kept as text for everybody who asks.
type Installation = OnceLock<Result<(), String>>;

impl Toolchains {
    pub(crate) fn new(folders: &Folders) -> Toolchains {
        Toolchains {
            programs: folders.programs(),
            cache: folders.cache.clone(),
            python: OnceLock::new(),
            node: OnceLock::new(),
            java: OnceLock::new(),
            go: OnceLock::new(),
            rust: OnceLock::new(),
        }
    }

    /// Installs the Debian packages, before anything runs side by side. Programs that miss one say so themselves.
    pub(crate) fn install_packages(&self, programs: &[Program]) {
        let needed = |program: &Program| {
            matches!(program.runner, Runner::Shell(_))
                || program.runner == Runner::Python("python/celery_tasks.py")
        };
        if !programs.iter().any(needed) {
            return;
        }
        let mut script = Command::new(self.programs.join("packages.sh"));
        if let Err(error) = quiet(script.args(DEBIAN_PACKAGES)) {
            eprintln!("{error:#}");
        }
    }

    /// The command that runs the program, its clients installed.
    ///
    /// # Errors
    /// When they cannot be installed.
    pub(crate) fn command(&self, program: &Program) -> Result<Command> {
        let mut command = match program.runner {
            Runner::Python(path) => self.python(path)?,
            Runner::Examples(path) => self.examples(path)?,
            Runner::Node(path) => self.node(path)?,
            Runner::Java(class) => self.java(class)?,
            Runner::Go(name) => self.go(name)?,
            Runner::Shell(path) => Command::new(self.programs.join(path)),
        };
        command
            .current_dir(&self.programs)
            .env("SUITES_CACHE", self.cache.join("suites"))
            .env("SUITE_TIMEOUT", program.timeout.saturating_sub(SUITE_RESERVE).as_secs().to_string());
        Ok(command)
    }

    fn python(&self, path: &str) -> Result<Command> {
        let home = self.cache.join("python");
        let manifest = self.programs.join("python/requirements.txt");
        once(&self.python, || install(&home, &manifest, || install_python(&home, &manifest)))?;
        let mut command = Command::new(home.join("bin/python"));
        command
            .arg(self.programs.join(path))
            .env("PYTHONPATH", self.programs.join("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        Ok(command)
    }

    /// A Python program that finds the examples of the other languages ready to be started.
    fn examples(&self, path: &str) -> Result<Command> {
        self.install_node()?;
        self.compile_java()?;
        self.compile_go()?;
        self.compile_rust()?;
        let mut command = self.python(path)?;
        command
            .env("NODE_PATH", self.node_path())
            .env("JAVA_CLASS_PATH", self.java_class_path())
            .env("GO_EXAMPLES", self.cache.join("go"))
            .env("RUST_EXAMPLES", target_directory(&workspace_root()).join("debug"));
        Ok(command)
    }

    fn node(&self, path: &str) -> Result<Command> {
        self.install_node()?;
        let mut command = Command::new("node");
        command.arg(self.programs.join(path)).env("NODE_PATH", self.node_path());
        Ok(command)
    }

    fn install_node(&self) -> Result<()> {
        let home = self.cache.join("node");
        let manifest = self.programs.join("node/package.json");
        once(&self.node, || install(&home, &manifest, || install_node(&home, &manifest)))
    }

    fn node_path(&self) -> PathBuf {
        self.cache.join("node/node_modules")
    }

    fn java(&self, class: &str) -> Result<Command> {
        self.compile_java()?;
        let mut command = Command::new("java");
        command.arg("-cp").arg(self.java_class_path()).arg(class);
        Ok(command)
    }

    fn compile_java(&self) -> Result<()> {
        let home = self.cache.join("java");
        let manifest = self.programs.join("java/pom.xml");
        once(&self.java, || {
            install(&home, &manifest, || install_java(&home, &manifest))?;
            let mut sources = sources(&self.programs.join("java/src"))?;
            sources.extend(self::sources(&workspace_root().join("examples/java"))?);
            let mut compiler = Command::new("javac");
            quiet(
                compiler.arg("-d").arg(home.join("classes")).arg("-cp").arg(home.join("lib/*")).args(sources),
            )
        })
    }

    fn java_class_path(&self) -> String {
        let home = self.cache.join("java");
        format!("{}:{}", home.join("lib/*").display(), home.join("classes").display())
    }

    fn go(&self, name: &str) -> Result<Command> {
        self.compile_go()?;
        Ok(Command::new(self.cache.join("go").join(name)))
    }

    fn compile_go(&self) -> Result<()> {
        let home = self.cache.join("go");
        once(&self.go, || {
            std::fs::create_dir_all(&home)?;
            for module in [self.programs.join("go"), workspace_root().join("examples/go")] {
                let mut compiler = Command::new("go");
                quiet(compiler.current_dir(module).args(["build", "-o"]).arg(&home).arg("./..."))?;
            }
            Ok(())
        })
    }

    /// Without optimization, as the tests have built most of it before.
    fn compile_rust(&self) -> Result<()> {
        once(&self.rust, || {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            quiet(build.current_dir(workspace_root()).args([
                "build",
                "-p",
                "leveret-examples",
                "-p",
                "leveret-cli",
            ]))
        })
    }
}

fn once(installation: &Installation, make: impl FnOnce() -> Result<()>) -> Result<()> {
    installation
        .get_or_init(|| make().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|why| anyhow!(why))
}

/// Makes the installation in `home`, unless one made from this very manifest is there.
fn install(home: &Path, manifest: &Path, make: impl FnOnce() -> Result<()>) -> Result<()> {
    let wanted = std::fs::read_to_string(manifest).with_context(|| format!("read {}", manifest.display()))?;
    let stamp = home.join("installed-from");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    if home.exists() {
        std::fs::remove_dir_all(home).with_context(|| format!("remove {}", home.display()))?;
    }
    std::fs::create_dir_all(home)?;
    make()?;
    std::fs::write(stamp, wanted)?;
    Ok(())
}

fn install_python(home: &Path, manifest: &Path) -> Result<()> {
    quiet(Command::new("python3").args(["-m", "venv"]).arg(home))?;
    quiet(
        Command::new(home.join("bin/pip"))
            .args(["install", "-q", "--disable-pip-version-check", "-r"])
            .arg(manifest),
    )
}

fn install_node(home: &Path, manifest: &Path) -> Result<()> {
    std::fs::copy(manifest, home.join("package.json"))?;
    quiet(Command::new("npm").current_dir(home).args([
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]))
}

fn install_java(home: &Path, manifest: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-q", "-f"]).arg(manifest).arg("dependency:copy-dependencies");
    quiet(maven.arg(format!("-DoutputDirectory={}", home.join("lib").display())))
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "java") {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn an_installation_is_made_anew_only_for_a_new_manifest() {
        let base = std::env::temp_dir().join(format!("interop-install-{}", std::process::id()));
        let (home, manifest) = (base.join("home"), base.join("manifest"));
        std::fs::create_dir_all(&base).unwrap();
        let made = Cell::new(0);
        let make = || {
            made.set(made.get() + 1);
            Ok(())
        };
        for (text, want) in [("a", 1), ("a", 1), ("b", 2)] {
            std::fs::write(&manifest, text).unwrap();
            install(&home, &manifest, make).unwrap();
            assert_eq!(made.get(), want, "after manifest {text}");
        }
        std::fs::write(&manifest, "c").unwrap();
        assert!(install(&home, &manifest, || anyhow::bail!("no network")).is_err());
        install(&home, &manifest, make).unwrap();
        assert_eq!(made.get(), 3, "a failed installation is tried again");
        std::fs::remove_dir_all(&base).unwrap();
    }
}
