//! One hot path of the broker or the toolkit, in one process and, but for the committer, on one thread: what
//! `cargo xtask instructions` has Callgrind count. Clients and broker share a current-thread runtime and talk over
//! loopback sockets, so that each run takes the same steps in the same order; the kernel's part is not counted.
//!
//! ```text
//!   hot_paths --list          names, one a line
//!   hot_paths NAME            plays it; prints how many messages were played while Callgrind counted
//!
//!   set-up ─► laps to warm up ─► start counting ─► laps ─► stop counting
//! ```
//!
//! What the clients here do per message (step over frames, count them) is in the numbers too, and small.

mod calls;
mod flows;
mod instrumentation;
mod laps;
mod peer;
mod toolkit;

use anyhow::{Context, Result, bail};
use laps::Laps;
use leveret_server::Broker;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// The binary's allocator: allocations cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Playing = Pin<Box<dyn Future<Output = Result<Laps>>>>;

/// A path: `messages` are those of one lap.
struct Path {
    name: &'static str,
    messages: u32,
    play: fn(SocketAddr, Laps) -> Playing,
}

const PATHS: &[Path] = &[
    Path { name: "transient-1k", messages: 32, play: |at, laps| Box::pin(flows::transient(at, laps, 1024)) },
    Path { name: "transient-16", messages: 32, play: |at, laps| Box::pin(flows::transient(at, laps, 16)) },
    Path { name: "acked-1k", messages: 32, play: |at, laps| Box::pin(flows::confirmed(at, laps, None)) },
    Path { name: "durable-1k", messages: 32, play: |at, laps| Box::pin(flows::confirmed(at, laps, Some(2))) },
    Path { name: "fan-out-10", messages: 32, play: |at, laps| Box::pin(flows::fan_out(at, laps, 10)) },
    Path { name: "topic-1000", messages: 32, play: |at, laps| Box::pin(flows::topic(at, laps, 1000)) },
    Path { name: "rpc-1", messages: 1, play: |at, laps| Box::pin(calls::exclusive(at, laps)) },
    Path { name: "rpc-16", messages: 16, play: |at, laps| Box::pin(calls::exclusive(at, laps)) },
    Path { name: "rpc-16-direct", messages: 16, play: |at, laps| Box::pin(calls::direct(at, laps)) },
    Path { name: "toolkit-1", messages: 1, play: |at, laps| Box::pin(toolkit::call(at, laps)) },
    Path { name: "toolkit-16", messages: 16, play: |at, laps| Box::pin(toolkit::call(at, laps)) },
];

fn main() -> Result<()> {
    let name = std::env::args().nth(1).context("hot_paths --list | NAME")?;
    if name == "--list" {
        for path in PATHS {
            println!("{}", path.name);
        }
        return Ok(());
    }
    let Some(path) = PATHS.iter().find(|path| path.name == name) else { bail!("no path `{name}`") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let laps = runtime.block_on(async {
        let broker = Broker::builder().in_memory().any_port().start().await?;
        let address = *broker.addresses().first().context("the broker listens nowhere")?;
        (path.play)(address, Laps::of(path.messages)).await
    })?;
    println!("{}", laps.counted_messages());
    Ok(())
}
