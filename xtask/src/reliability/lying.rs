//! Peers that lie about lengths: frames of 4 GiB, bodies of 2⁶³ octets, strings of 2 GiB, tables without bottom.
//!
//! ```text
//!   clients.rs   a thousand clients at once lie to the broker
//!   broker.rs    a broker lies to a thousand clients of ours        victim.rs: their process
//!   lies.rs      the octets
//! ```
//!
//! Passes if whoever lies is refused within a second, if all of them together make the process that hears them 64 MiB
//! larger at most, and if a good client is served meanwhile.

mod broker;
mod clients;
mod lies;
mod victim;

pub(super) use lies::start_ok;
pub(super) use victim::{VICTIM_ARGUMENT, suffer};

use anyhow::Result;

use super::Plan;
use super::site::Site;
use super::verdict::Verdict;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let server = site.start()?;
    let count = plan.rounds(200, 1000) as usize;
    clients::lie_to(server.address(), server.pid(), count, verdict)?;
    drop(server);
    broker::lie_to_clients(count, verdict)
}
