//! `cargo xtask package`: what is given to those who do not build: a static binary, a Debian package, and the folder that
//! `docker build` makes an image of. Made twice from one commit, they are the same octets.
//!
//! ```text
//!   cargo build (musl, release) ─▶ leveret ─┬▶ leveret-VERSION-x86_64-linux.tar.gz
//!                                           ├▶ leveret_VERSION_amd64.deb   (deb.rs)
//!                                           └▶ image/                      (image.rs)
//!   each is then unpacked and its broker run without anything of this machine around it (trial.rs)
//! ```
//!
//! Needs `rustup target add x86_64-unknown-linux-musl`, and from Debian `musl-tools`, `dpkg`; root, for the trial.

mod deb;
mod image;
mod trial;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{target_directory, workspace_root};

const TARGET: &str = "x86_64-unknown-linux-musl";

/// What is being packaged.
struct Release {
    version: String,
    /// When the commit was made, s since 1970: the time of every file in a package.
    epoch_s: String,
    binary: PathBuf,
    /// Where everything goes.
    folder: PathBuf,
}

/// Makes all packages and tries them.
///
/// # Errors
/// A tool is missing, the build fails, or a package does not run.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let folder = target_directory()?.join("package");
    let mut release = Release {
        version: version()?,
        epoch_s: commit_time()?,
        binary: target_directory()?.join(TARGET).join("release").join("leveret"),
        folder,
    };
    match args {
        [] => build(&release)?,
        [flag, binary] if flag == "--binary" => release.binary = binary.into(),
        _ => bail!("package [--binary PATH]  (PATH: a static binary that was built before)"),
    }
    if release.folder.exists() {
        std::fs::remove_dir_all(&release.folder)?;
    }
    std::fs::create_dir_all(&release.folder)?;
    let image = image::make(&release)?;
    trial::run(&image.join("rootfs"), "image")?;
    let package = deb::make(&release)?;
    trial::run(&deb::unpack(&package, &release)?, "deb")?;
    let archive = archive(&release)?;
    for made in [package, archive, image] {
        println!("{}", made.display());
    }
    Ok(())
}

/// The same octets wherever it is built: no path of this machine, no time.
fn build(release: &Release) -> Result<()> {
    let root = workspace_root();
    crate::mutants::all_in_place(&root)?;
    let home = std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo"))?;
    let flags = format!("--remap-path-prefix={}=/leveret --remap-path-prefix={home}=/cargo", root.display());
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&root).args(["build", "--release", "--locked", "--package", "leveret-cli", "--target"]);
    cargo.arg(TARGET).env("RUSTFLAGS", flags).env("SOURCE_DATE_EPOCH", &release.epoch_s);
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "none").env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    cargo.env("CARGO_TARGET_DIR", target_directory()?);
    run_tool(&mut cargo)
}

/// The binary with what belongs to it, to be put anywhere.
fn archive(release: &Release) -> Result<PathBuf> {
    let name = format!("leveret-{}-x86_64-linux", release.version);
    let folder = release.folder.join(&name);
    let root = workspace_root();
    place(&release.binary, &folder.join("leveret"), 0o755)?;
    for file in ["LICENSE-APACHE", "LICENSE-MIT", "CHANGELOG.md", "packaging/leveret.toml"] {
        let file = root.join(file);
        place(&file, &folder.join(file.file_name().context("a file has a name")?), 0o644)?;
    }
    place(&root.join("packaging/systemd/leveret.service"), &folder.join("leveret.service"), 0o644)?;
    let archive = release.folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.current_dir(&release.folder).args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", release.epoch_s)).args(["--use-compress-program=gzip -9n", "-cf"]);
    run_tool(tar.arg(&archive).arg(&name))?;
    std::fs::remove_dir_all(folder)?;
    Ok(archive)
}

fn version() -> Result<String> {
    let manifest = std::fs::read_to_string(workspace_root().join("Cargo.toml"))?;
    let manifest: toml::Table = manifest.parse()?;
    let version = manifest["workspace"]["package"]["version"].as_str();
    Ok(version.context("the workspace has no version")?.to_owned())
}

fn commit_time() -> Result<String> {
    if let Ok(epoch_s) = std::env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch_s);
    }
    let log =
        Command::new("git").current_dir(workspace_root()).args(["log", "-1", "--format=%ct"]).output()?;
    ensure!(log.status.success(), "git log: set SOURCE_DATE_EPOCH where there is no repository");
    Ok(String::from_utf8(log.stdout)?.trim().to_owned())
}

/// Copies a file to a place whose folders are made, with these permissions.
fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let text = std::fs::read(from).with_context(|| from.display().to_string())?;
    write(to, &text, mode)
}

fn write(to: &Path, content: &[u8], mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = to.parent().context("a file is in a folder")?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(to, content).with_context(|| to.display().to_string())?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn run_tool(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{name} is not installed"))?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}

fn output_of(command: &mut Command) -> Result<Vec<u8>> {
    let name = format!("{command:?}");
    let output = command.output().with_context(|| name.clone())?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
