//! What a TLS client may agree on with the broker, on both doors that speak it, asked by strangers who share no code with us.
//!
//! ```text
//!   openssl s_client   every version, and which of all ciphers it agrees to with TLS 1.2     offer.rs
//!   testssl.sh         the known weaknesses; not with --quick                              testssl.rs
//! ```
//!
//! Passes if TLS 1.2 and 1.3 are offered and nothing older is, if every cipher keeps what was said secret even when the key
//! is stolen later (ephemeral keys) and authenticates what it encrypts. A server of OpenSSL's that offers everything must
//! fail the same check: else the client cannot ask for what it looks for, and proves nothing.

mod offer;
mod testssl;

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use offer::Offer;

use super::Plan;
use super::doors::{Doors, make_certificate};
use super::site::Site;
use super::verdict::Verdict;

const VERSIONS: [&str; 2] = ["tls1_2", "tls1_3"];
const EPHEMERAL: &str = "ECDHE-";
const AUTHENTICATED: [&str; 2] = ["-GCM-", "-CHACHA20-POLY1305"];
const START_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    super::install(&["openssl"])?;
    let doors = Doors::open(site)?;
    let control = Careless::start(site)?;
    let seen = faults(&Offer::of(control.address)?);
    for expected in ["tls1", "tls1_1", "NULL-SHA"] {
        let found = seen.iter().any(|fault| fault.ends_with(expected));
        verdict.demand(found, "the client cannot ask for it", format!("{expected}, among {seen:?}"));
    }
    drop(control);
    for (door, address) in [("amqps", doors.amqps), ("https", doors.https)] {
        let offer = Offer::of(address)?;
        for fault in faults(&offer) {
            verdict.fault("a weak door", format!("{door}: {fault}"));
        }
        verdict.count("handshakes tried", offer.tried);
        verdict.fact(format!("{door}: {}; {}", offer.versions.join(", "), offer.ciphers.join(", ")));
    }
    verdict.fact(format!("a careless server, asked the same: {} faults", seen.len()));
    if !plan.is_quick() {
        super::install(&["testssl.sh"])?;
        testssl::run(site, doors.amqps, verdict)?;
    }
    doors.close()
}

/// What is wrong with an offer; each ends with the name of what should not, or should, be there.
fn faults(offer: &Offer) -> Vec<String> {
    let missing = VERSIONS.iter().filter(|version| !offer.versions.contains(version));
    let old = offer.versions.iter().filter(|version| !VERSIONS.contains(version));
    let is_weak = |cipher: &&String| {
        !cipher.starts_with(EPHEMERAL) || !AUTHENTICATED.iter().any(|kind| cipher.contains(kind))
    };
    let mut faults: Vec<String> = missing.map(|version| format!("it does not offer {version}")).collect();
    faults.extend(old.map(|version| format!("it offers {version}")));
    faults.extend(offer.ciphers.iter().filter(is_weak).map(|cipher| format!("it agrees to {cipher}")));
    if offer.ciphers.is_empty() {
        faults.push("it agrees to no cipher of tls1_2".to_owned());
    }
    faults
}

/// OpenSSL's own server, told to take whatever it knows. Killed when it is dropped.
struct Careless {
    child: Child,
    address: SocketAddr,
}

impl Careless {
    fn start(site: &Site) -> Result<Careless> {
        let (chain, key) = make_certificate(site.folder())?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut server = Command::new("openssl");
        server.args(["s_server", "-quiet", "-cipher", &offer::everything(), "-accept", &address.to_string()]);
        server.arg("-cert").arg(chain).arg("-key").arg(key);
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let careless = Careless { child, address };
        let begin = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if begin.elapsed() > START_MAX {
                bail!("openssl s_server does not listen on {address}");
            }
            std::thread::sleep(POLL);
        }
        Ok(careless)
    }
}

impl Drop for Careless {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(versions: &[&'static str], ciphers: &[&str], wanted: &[&str]) {
        let ciphers = ciphers.iter().map(|cipher| (*cipher).to_owned()).collect();
        assert_eq!(faults(&Offer { versions: versions.to_vec(), ciphers, tried: 0 }), wanted);
    }

    #[test]
    fn only_new_versions_and_strong_ciphers_are_right() {
        let strong = ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"];
        check(&VERSIONS, &strong, &[]);
        check(&["tls1_3"], &strong, &["it does not offer tls1_2"]);
        check(&["tls1_1", "tls1_2", "tls1_3"], &strong, &["it offers tls1_1"]);
        check(&VERSIONS, &[], &["it agrees to no cipher of tls1_2"]);
        for weak in
            ["ECDHE-ECDSA-AES256-SHA384", "AES256-GCM-SHA384", "ECDHE-ECDSA-NULL-SHA", "ADH-AES128-SHA"]
        {
            check(&VERSIONS, &[weak], &[&format!("it agrees to {weak}")]);
        }
    }
}
