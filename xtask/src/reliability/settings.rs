//! A kill on receipt of a 201 or 204 (P2): users, permissions, virtual hosts and policies are there as they were last set, and what was
//! deleted is gone, with everything that hung on it.
//!
//! ```text
//!   PUT /api/users/u3 ─► 204 ─► kill -9 ─► start ─► GET each path that was ever answered for
//!                                                     set: the fields as they were sent     deleted: 404
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use serde_json::{Value, json};

use super::Plan;
use super::doors::Doors;
use super::http::{ask, demand};
use super::site::Site;
use super::verdict::Verdict;

/// Of each kind: few, so that most changes meet something that exists.
const NAMES: u64 = 4;
/// Changes between two kills.
const CHANGES_MAX: u64 = 3;
const ROUNDS: [u64; 3] = [25, 500, 500];
const NOT_FOUND: u16 = 404;
const SALTED_HASH_DIGITS: usize = 48;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let mut random = Random::new(plan.seed);
    let mut settings = Settings::default();
    let rounds = plan.rounds_at(ROUNDS);
    let mut changes = 0;
    for round in 0..=rounds {
        let doors = Doors::open(site).context("failed start")?;
        settings.look_up(doors.http, verdict).with_context(|| format!("after kill {round}"))?;
        for _ in 0..=random.below(CHANGES_MAX) {
            settings.change(doors.http, &mut random).with_context(|| format!("before kill {}", round + 1))?;
            changes += 1;
        }
        // Killed where it stands.
        drop(doors);
    }
    verdict.count("kills", rounds);
    verdict.fact(format!(
        "{changes} answered changes of users, permissions, virtual hosts and policies; in the end {} are set and {} deleted",
        settings.set.len(),
        settings.deleted.len()
    ));
    Ok(())
}

/// What the broker has answered for, by path.
#[derive(Debug, Default)]
struct Settings {
    /// The fields that were sent.
    set: BTreeMap<String, Value>,
    deleted: BTreeSet<String>,
}

impl Settings {
    /// Sets or deletes something and waits for the answer.
    fn change(&mut self, api: SocketAddr, random: &mut Random) -> Result<()> {
        let set: Vec<String> = self.set.keys().cloned().collect();
        if random.chance(1, 4)
            && let Some(path) = random.pick(&set)
        {
            return self.delete(api, path);
        }
        let (path, fields) = match random.below(4) {
            0 => (format!("/api/users/{}", name("u", random)), user(random)),
            1 => (format!("/api/vhosts/{}", name("v", random)), virtual_host(random)),
            2 => {
                let (vhost, user) = (name("v", random), name("u", random));
                (format!("/api/permissions/{vhost}/{user}"), permissions(random))
            }
            _ => {
                let (vhost, policy) = (name("v", random), name("p", random));
                (format!("/api/policies/{vhost}/{policy}"), policy_fields(random))
            }
        };
        for needed in hangs_on(&path) {
            if !self.set.contains_key(&needed) {
                let fields = if needed.contains("/users/") { user(random) } else { virtual_host(random) };
                self.put(api, needed, fields)?;
            }
        }
        self.put(api, path, fields)
    }

    fn put(&mut self, api: SocketAddr, path: String, fields: Value) -> Result<()> {
        demand(api, "PUT", &path, &fields.to_string())?;
        self.deleted.remove(&path);
        self.set.insert(path, fields);
        Ok(())
    }

    fn delete(&mut self, api: SocketAddr, path: &str) -> Result<()> {
        demand(api, "DELETE", path, "")?;
        let goes_along =
            |other: &String| other == path || hangs_on(other).iter().any(|needed| needed == path);
        let gone: Vec<String> = self.set.keys().filter(|other| goes_along(other)).cloned().collect();
        for path in gone {
            self.set.remove(&path);
            self.deleted.insert(path);
        }
        Ok(())
    }

    /// Everything that was answered, against what is there.
    fn look_up(&self, api: SocketAddr, verdict: &mut Verdict) -> Result<()> {
        for (path, fields) in &self.set {
            let answer = ask(api, "GET", path, b"")?;
            let found: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let differing: Vec<&str> = fields
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, value)| found.get(name) != Some(value))
                .map(|(name, _)| name.as_str())
                .collect();
            let case = || format!("{path}: {} with other {differing:?}: {found}", answer.status);
            verdict.demand(
                answer.status == 200 && differing.is_empty(),
                "an answered change is missing",
                case(),
            );
        }
        for path in &self.deleted {
            let status = ask(api, "GET", path, b"")?.status;
            verdict.demand(status == NOT_FOUND, "what was deleted is back", format!("{path}: {status}"));
        }
        Ok(())
    }
}

fn name(kind: &str, random: &mut Random) -> String {
    format!("{kind}{}", random.below(NAMES))
}

/// The paths of what must be there for this to be.
fn hangs_on(path: &str) -> Vec<String> {
    let words: Vec<&str> = path.split('/').skip(2).collect();
    match words[..] {
        ["permissions", vhost, user] => vec![format!("/api/vhosts/{vhost}"), format!("/api/users/{user}")],
        ["policies", vhost, _] => vec![format!("/api/vhosts/{vhost}")],
        _ => Vec::new(),
    }
}

/// With a salted hash for a password, which is shown as it was sent.
fn user(random: &mut Random) -> Value {
    let digits: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').collect();
    let hash: String =
        (0..SALTED_HASH_DIGITS).map(|_| digits[random.below(digits.len() as u64) as usize]).collect();
    let tag = ["monitoring", "management", "policymaker"][random.below(3) as usize];
    json!({ "password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": [tag] })
}

fn virtual_host(random: &mut Random) -> Value {
    json!({ "description": format!("number {}", random.below(1000)), "tags": ["tried"] })
}

fn permissions(random: &mut Random) -> Value {
    let mut pattern = || format!("^{}", random.below(1000));
    json!({ "configure": pattern(), "write": pattern(), "read": pattern() })
}

fn policy_fields(random: &mut Random) -> Value {
    let length = 1 + random.below(1000);
    json!({
        "pattern": format!("^{length}"), "apply-to": "queues", "priority": random.below(10), "definition": { "max-length": length },
    })
}
