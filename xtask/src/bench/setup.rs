//! What clients do before and after they work, again and again: connecting and leaving, declaring and binding.

use super::nats;
use super::pace::Pace;
use super::server::Server;
use super::steady::{Seen, side, watch};
use anyhow::Result;
use leveret_bench::connection::{Connection, QueueKind};
use leveret_bench::figure::Figure;
use leveret_bench::load::Counters;
use std::sync::atomic::Ordering;

const EXCHANGE: &str = "amq.direct";

/// Connect, open a channel, close: one client after the other.
pub(super) fn connections(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let address = server.address;
    let come_and_go = side(move |counters| {
        repeat(counters, |_| match server.peer.speaks_amqp() {
            true => Ok(Connection::open(address)?.close()?),
            false => nats::Connection::open(address).map(drop),
        })
    });
    let seen = watch(server, pace.window(), vec![come_and_go])?;
    Ok(figures(&seen, "connections"))
}

/// Durable queues, each bound once, on one channel, one after the other. They stay: the server goes with them.
pub(super) fn declarations(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let mut connection = Connection::open(server.address)?;
    let declare = side(move |counters| {
        repeat(counters, |number| {
            let queue = connection.declare_queue(&format!("bench-{number}"), QueueKind::Durable)?;
            Ok(connection.bind_queue(&queue, EXCHANGE, "bench")?)
        })
    });
    let seen = watch(server, pace.window(), vec![declare])?;
    Ok(figures(&seen, "queues"))
}

fn repeat(counters: &Counters, mut step: impl FnMut(u64) -> Result<()>) -> Result<()> {
    for number in 0.. {
        if counters.stopped() {
            break;
        }
        step(number)?;
        counters.received.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn figures(seen: &Seen, name: &'static str) -> Vec<Figure> {
    let observation = &seen.observation;
    vec![
        Figure::higher(name, "1/s", observation.received / observation.seconds),
        Figure::lower("server CPU", "us each", observation.server_cpu_seconds * 1e6 / observation.received),
    ]
}
