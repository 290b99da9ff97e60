//! What a server agrees to, found out with `openssl s_client`: each version, and all ciphers without those it has already agreed
//! to, until it refuses.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// As `s_client` names them. What is older it cannot ask for.
const VERSIONS: [&str; 4] = ["tls1", "tls1_1", "tls1_2", "tls1_3"];
/// Without it the client itself would refuse what is weak.
const NOTHING_IS_TOO_WEAK: &str = "@SECLEVEL=0";

/// Versions and the ciphers of TLS 1.2; those of 1.3 are all strong.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub(super) versions: Vec<&'static str>,
    pub(super) ciphers: Vec<String>,
    /// Handshakes that were tried for it.
    pub(super) tried: u64,
}

impl Offer {
    /// Asks for each version, and for ciphers until none is left that it agrees to.
    ///
    /// # Errors
    /// `openssl` cannot be run, or says what is not understood.
    pub(super) fn of(server: SocketAddr) -> Result<Offer> {
        let mut offer = Offer::default();
        for version in VERSIONS {
            if offer.agreed(server, version, &everything())?.is_some() {
                offer.versions.push(version);
            }
        }
        let mut left = known_ciphers()?;
        while !left.is_empty() {
            let asked = format!("{}:{NOTHING_IS_TOO_WEAK}", left.join(":"));
            let Some(cipher) = offer.agreed(server, "tls1_2", &asked)? else { break };
            let before = left.len();
            left.retain(|name| *name != cipher);
            ensure!(left.len() < before, "nobody asked for {cipher}");
            offer.ciphers.push(cipher);
        }
        Ok(offer)
    }

    /// The cipher, if there is one.
    fn agreed(&mut self, server: SocketAddr, version: &str, ciphers: &str) -> Result<Option<String>> {
        self.tried += 1;
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &server.to_string(), &format!("-{version}")]);
        let output = client.args(["-cipher", ciphers]).stdin(Stdio::null()).output().context("openssl")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let cipher = text.lines().find_map(|line| line.strip_prefix("New, ")?.split_once(", Cipher is "));
        Ok(cipher.filter(|_| output.status.success()).map(|(_, cipher)| cipher.to_owned()))
    }
}

/// Every cipher, in OpenSSL's words.
pub(super) fn everything() -> String {
    format!("ALL:COMPLEMENTOFALL:{NOTHING_IS_TOO_WEAK}")
}

fn known_ciphers() -> Result<Vec<String>> {
    let listed = Command::new("openssl").args(["ciphers", "-s", "-tls1_2", &everything()]).output()?;
    let names = String::from_utf8(listed.stdout).context("openssl ciphers")?;
    let names: Vec<String> =
        names.trim().split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    ensure!(listed.status.success() && !names.is_empty(), "openssl knows no ciphers");
    Ok(names)
}
