//! A broker with all its doors open: AMQP and HTTP, plain and over TLS. Its certificate is made on the spot.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::site::Site;

/// Each says its address in a line.
const DOORS: usize = 4;
const STOP_MAX: Duration = Duration::from_secs(20);

/// A running broker; killed when it is dropped.
pub(super) struct Doors {
    child: Child,
    pub(super) amqp: SocketAddr,
    pub(super) amqps: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
}

impl Doors {
    /// Starts a broker.
    pub(super) fn open(site: &Site) -> Result<Doors> {
        let launcher = site.launcher();
        let (chain, key) = make_certificate(site.folder())?;
        let log = OpenOptions::new().create(true).append(true).open(&launcher.log)?;
        let mut child = Command::new(&launcher.binary)
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--listen-tls",
                "127.0.0.1:0",
                "--http",
                "127.0.0.1:0",
            ])
            .arg("--data-dir")
            .arg(&launcher.data_dir)
            .arg("--tls-cert")
            .arg(chain)
            .arg("--tls-key")
            .arg(key)
            .env_remove("LEVERET_CONFIG")
            .env("LEVERET_HTTP_TLS", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is ours")?;
        let lines = BufReader::new(stdout).lines().take(DOORS).collect::<Result<Vec<_>, _>>()?;
        let address = |scheme: &str| -> Result<SocketAddr> {
            let found = lines.iter().find_map(|line| line.strip_prefix(scheme)?.strip_prefix("://"));
            Ok(found.with_context(|| format!("no {scheme} among {lines:?}"))?.parse()?)
        };
        let (amqp, amqps, http, https) =
            (address("amqp"), address("amqps"), address("http"), address("https"));
        Ok(Doors { child, amqp: amqp?, amqps: amqps?, http: http?, https: https? })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, octets.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    /// Stops it in order.
    pub(super) fn close(mut self) -> Result<()> {
        let pid = self.pid().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "kill");
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "it ended with {status}");
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("it does not stop");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A chain and its key, as PEM files in `folder`.
pub(super) fn make_certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    let made = openssl.arg("-keyout").arg(&key).arg("-out").arg(&chain).output().context("openssl")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok((chain, key))
}
