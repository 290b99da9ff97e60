//! Runs the broker of a package with nothing around it: another root, no libraries, not root. What works there works
//! in a container and on any Linux.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const USER: &str = "--userspec=10001:10001";
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts the broker of an unpacked package, asks whether it is well, and stops it.
///
/// # Errors
/// It does not start, is not ready, or does not stop in order. Only root may change the root.
pub(super) fn run(root: &Path, name: &str) -> Result<()> {
    let data = root.join("var/lib/leveret");
    std::fs::create_dir_all(&data)?;
    ensure!(Command::new("chown").arg("10001:10001").arg(&data).status()?.success(), "chown");
    let mut broker = inside(root)
        .args(["serve", "--data-dir", "/var/lib/leveret", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .context("chroot")?;
    let outcome = look_after(root, &mut broker);
    drop(broker.kill());
    std::fs::remove_dir_all(&data)?;
    std::fs::create_dir(&data)?;
    ensure!(Command::new("chown").arg("10001:10001").arg(&data).status()?.success(), "chown");
    outcome.with_context(|| format!("the broker of the {name}"))?;
    println!("{name}: starts, is ready and stops without anything around it");
    Ok(())
}

fn look_after(root: &Path, broker: &mut Child) -> Result<()> {
    let stdout = BufReader::new(broker.stdout.take().context("stdout is ours")?);
    let address = stdout.lines().find_map(|line| line.ok()?.strip_prefix("http://").map(str::to_owned));
    let address = address.context("it does not say where HTTP is spoken")?;
    let health = inside(root).args(["health", "--http", &address]).status()?;
    ensure!(health.success(), "leveret health: {health}");
    let pid = broker.id().to_string();
    ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = broker.try_wait()? {
            ensure!(status.success(), "it ended with {status}");
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("it does not stop");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `leveret` of the package, as a stranger in an empty house.
fn inside(root: &Path) -> Command {
    let mut command = Command::new("chroot");
    command.arg(USER).arg(root).arg("/usr/bin/leveret").env_clear().env("PATH", "/usr/sbin:/usr/bin");
    command
}
