//! Who serves what, on any broker: services answer for themselves (`docs/features/profile.md`, discovery). A plain
//! worker without the profile is not seen.

use std::time::Duration;

use leveret::{CallError, Client, Payload};
use serde_json::Value;

/// How long to wait for another answer, unless it is said.
pub(crate) const SILENCE_DEFAULT: Duration = Duration::from_millis(300);

/// What to ask every worker for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// Its endpoints.
    Info,
    /// What it has done.
    Stats,
}

/// The workers that answer, of one service or of all, sorted by service and id. Nobody is no error.
///
/// # Errors
/// The question could not be asked.
pub(crate) async fn workers(
    client: &Client,
    asked: Asked,
    service: Option<&str>,
    silence: Duration,
) -> Result<Vec<Value>, CallError> {
    let verb = match asked {
        Asked::Info => "info",
        Asked::Stats => "stats",
    };
    let key = service.map_or_else(|| verb.to_owned(), |service| format!("{verb}.{service}"));
    let gather = client.gather_raw::<Value>("rpc.ctl", &key, Payload::bytes(""));
    // Silence counts from the first answer on; nobody at all is silent too.
    let gathered = match gather.silence(silence).timeout(silence.saturating_mul(4)).await {
        Ok(gathered) => gathered,
        Err(CallError::NoRoute { .. }) => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut workers: Vec<Value> = gathered.into_iter().filter_map(|one| one.answer.ok()).collect();
    workers.sort_by_key(|worker| (text(worker, "name"), text(worker, "id")));
    Ok(workers)
}

/// A text of an answer; empty if there is none.
pub(crate) fn text(worker: &Value, key: &str) -> String {
    worker[key].as_str().unwrap_or_default().to_owned()
}
