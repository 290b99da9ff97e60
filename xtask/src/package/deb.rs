//! The Debian package: binary, configuration, service, man pages, completions.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Release, output_of, place, run_tool, write};
use crate::workspace_root;

/// What of the source goes where.
const FILES: [(&str, &str); 5] = [
    ("packaging/leveret.toml", "etc/leveret/leveret.toml"),
    ("packaging/systemd/leveret.service", "usr/lib/systemd/system/leveret.service"),
    ("packaging/systemd/leveret-amqp.socket", "usr/lib/systemd/system/leveret-amqp.socket"),
    ("docs/configuration.md", "usr/share/doc/leveret/configuration.md"),
    ("docs/promises.md", "usr/share/doc/leveret/promises.md"),
];
const MAINTAINER: &str = "Leveret maintainers <leveret@example.org>";
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// What `leveret completions` is asked for, and where shells look for it.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/leveret"),
    ("zsh", "usr/share/zsh/vendor-completions/_leveret"),
    ("fish", "usr/share/fish/vendor_completions.d/leveret.fish"),
];

/// Makes it; returns its path.
pub(super) fn make(release: &Release) -> Result<PathBuf> {
    let tree = release.folder.join("deb");
    let root = workspace_root();
    place(&release.binary, &tree.join("usr/bin/leveret"), 0o755)?;
    for (from, to) in FILES {
        place(&root.join(from), &tree.join(to), 0o644)?;
    }
    documents(release, &tree)?;
    spoken_by_the_binary(release, &tree)?;
    for script in SCRIPTS {
        place(&root.join("packaging/debian").join(script), &tree.join("DEBIAN").join(script), 0o755)?;
    }
    write(&tree.join("DEBIAN/conffiles"), b"/etc/leveret/leveret.toml\n", 0o644)?;
    write(&tree.join("DEBIAN/md5sums"), &sums(&tree)?, 0o644)?;
    write(&tree.join("DEBIAN/control"), control(release, &tree)?.as_bytes(), 0o644)?;
    let package = release.folder.join(format!("leveret_{}_amd64.deb", release.version));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&package);
    run_tool(dpkg.env("SOURCE_DATE_EPOCH", &release.epoch_s))?;
    std::fs::remove_dir_all(&tree)?;
    Ok(package)
}

/// Unpacks it as `dpkg` would, without running its scripts.
pub(super) fn unpack(package: &Path, release: &Release) -> Result<PathBuf> {
    let root = release.folder.join("unpacked");
    run_tool(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&root))?;
    Ok(root)
}

fn documents(release: &Release, tree: &Path) -> Result<()> {
    let root = workspace_root();
    let mut copyright = std::fs::read_to_string(root.join("packaging/debian/copyright"))?;
    for line in std::fs::read_to_string(root.join("LICENSE-MIT"))?.lines() {
        copyright += &if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") };
    }
    write(&tree.join("usr/share/doc/leveret/copyright"), copyright.as_bytes(), 0o644)?;
    place(&root.join("CHANGELOG.md"), &tree.join("usr/share/doc/leveret/CHANGELOG.md"), 0o644)?;
    let changelog = tree.join("usr/share/doc/leveret/changelog");
    write(&changelog, debian_changelog(release)?.as_bytes(), 0o644)?;
    run_tool(Command::new("gzip").arg("-9n").arg(&changelog))
}

/// Debian's tools read this form only.
fn debian_changelog(release: &Release) -> Result<String> {
    let time = output_of(Command::new("date").args(["-u", "-R", "-d", &format!("@{}", release.epoch_s)]))?;
    Ok(format!(
        "leveret ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {MAINTAINER}  {}",
        release.version,
        String::from_utf8(time)?,
    ))
}

/// Man pages and completions come out of the binary, so they fit it.
fn spoken_by_the_binary(release: &Release, tree: &Path) -> Result<()> {
    for (shell, to) in COMPLETIONS {
        let script = output_of(Command::new(&release.binary).args(["completions", shell]))?;
        write(&tree.join(to), &script, 0o644)?;
    }
    let pages = tree.join("usr/share/man/man1");
    std::fs::create_dir_all(&pages)?;
    output_of(Command::new(&release.binary).arg("man").arg(&pages))?;
    for page in std::fs::read_dir(&pages)? {
        run_tool(Command::new("gzip").arg("-9n").arg(page?.path()))?;
    }
    Ok(())
}

/// `md5sum` of every file that is installed, in the order of their names.
fn sums(tree: &Path) -> Result<Vec<u8>> {
    let mut files = Vec::new();
    for top in ["etc", "usr"] {
        list(&tree.join(top), &mut files)?;
    }
    files.sort();
    let names = files.iter().map(|file| file.strip_prefix(tree).map(Path::to_path_buf));
    let names: Vec<PathBuf> = names.collect::<Result<_, _>>()?;
    output_of(
        Command::new("md5sum").current_dir(tree).args(names.iter().filter(|name| !name.starts_with("etc"))),
    )
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        match path.is_dir() {
            true => list(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

fn control(release: &Release, tree: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(tree, &mut files)?;
    let sizes = files.iter().map(|file| Ok(file.metadata()?.len().div_ceil(1024)));
    let size_kib: u64 = sizes.sum::<Result<u64>>()?;
    Ok(format!(
        "Package: leveret\n\
         Version: {version}\n\
         Architecture: amd64\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {size_kib}\n\
         Depends: adduser\n\
         Section: net\n\
         Priority: optional\n\
         Homepage: https://github.com/leveret/leveret\n\
         Description: request/response over AMQP in one binary\n \
         A message broker that every AMQP 0-9-1 client already speaks to, with\n \
         RabbitMQ's HTTP API and metrics, a web console, and the tools to call\n \
         and to serve over it. What it has confirmed survives a power cut.\n",
        version = release.version,
    ))
}
