//! `testssl.sh` (Debian's package): versions, ciphers, forward secrecy and the weaknesses that have names.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::reliability::site::Site;
use crate::reliability::verdict::Verdict;

const OFFERED: [&str; 2] = ["TLS1_2", "TLS1_3"];
const NOT_OFFERED: [&str; 4] = ["SSLv2", "SSLv3", "TLS1", "TLS1_1"];
/// Judged by the tool itself as something to be put right. The certificate is ours, of the day, and trusted by nobody.
const BAD: [&str; 3] = ["MEDIUM", "HIGH", "CRITICAL"];
const ABOUT_THE_CERTIFICATE: [&str; 4] = ["cert", "DNS_CAA", "OCSP", "security_headers"];

/// Asks about one door.
///
/// # Errors
/// The tool is missing, or leaves no report.
pub(super) fn run(site: &Site, door: SocketAddr, verdict: &mut Verdict) -> Result<()> {
    let report = site.folder().join("testssl.json");
    let mut tool = Command::new("testssl");
    tool.args(["--quiet", "--color", "0", "--warnings", "off", "-p", "-s", "-f", "-U", "--jsonfile"]);
    let ran = tool.arg(&report).arg(door.to_string()).output().context("testssl (apt: testssl.sh)")?;
    let text = std::fs::read_to_string(&report)
        .with_context(|| format!("no report: {}", String::from_utf8_lossy(&ran.stdout)))?;
    let findings: Vec<Value> = serde_json::from_str(&text).context("testssl's report")?;
    judge(&findings, verdict);
    Ok(())
}

fn judge(findings: &[Value], verdict: &mut Verdict) {
    let finding = |id: &str| findings.iter().find(|finding| finding["id"] == id);
    let said =
        |id: &str| finding(id).and_then(|found| found["finding"].as_str()).unwrap_or("nothing").to_owned();
    for id in OFFERED {
        verdict.demand(said(id).starts_with("offered"), "missing protocol", format!("{id}: {}", said(id)));
    }
    for id in NOT_OFFERED {
        verdict.demand(said(id).starts_with("not offered"), "old protocol", format!("{id}: {}", said(id)));
    }
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let bad = findings.iter().filter(|finding| BAD.contains(&text(finding, "severity").as_str()));
    let bad =
        bad.filter(|finding| !ABOUT_THE_CERTIFICATE.iter().any(|id| text(finding, "id").starts_with(id)));
    for finding in bad {
        verdict.fault("weakness", format!("{}: {}", text(finding, "id"), text(finding, "finding")));
    }
    verdict.fact(format!(
        "{} findings of testssl.sh; TLS 1.2 {}, TLS 1.3 {}",
        findings.len(),
        said("TLS1_2"),
        said("TLS1_3")
    ));
}
