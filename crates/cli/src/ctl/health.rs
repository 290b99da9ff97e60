//! `leveret ctl health`: questions that a broker answers with yes, or with what is wrong.

use serde_json::{Value, json};

use super::session::Session;
use crate::failure::Failure;
use crate::management::{ManagementError, Path};

/// What is asked if nothing is said.
const USUAL: [&str; 3] = ["alarms", "local-alarms", "virtual-hosts"];

/// Ask whether the broker is well; exit code 1 if it is not
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Checks like alarms, local-alarms, virtual-hosts, port-listener/5672, protocol-listener/amqp or
    /// certificate-expiration/2/weeks. Default: the first three
    checks: Vec<String>,
}

impl Arguments {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let usual = || USUAL.map(str::to_owned).to_vec();
        let checks = if self.checks.is_empty() { usual() } else { self.checks };
        let mut results = Vec::new();
        for check in &checks {
            let path =
                check.split('/').fold(Path::of(&["health", "checks"]), |path, part| path.segment(part));
            let (status, reason) = match session.management.get::<Value>(&path).await {
                Ok(_) => ("ok", String::new()),
                Err(ManagementError::Failed { status: 503, reason }) => ("failed", reason),
                Err(error) => return Err(error.into()),
            };
            results.push(json!({"check": check, "status": status, "reason": reason}));
        }
        let failed = results.iter().filter(|result| result["status"] == "failed").count();
        session.output.list(results, &["check", "status", "reason"])?;
        match failed {
            0 => Ok(()),
            count => {
                Err(Failure::Other(anyhow::Error::msg(format!("{count} of {} checks failed", checks.len()))))
            }
        }
    }
}
