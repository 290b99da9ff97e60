//! Requests and responses: as bare frames on every peer, and through the toolkit on those that speak AMQP.

use super::confirmed::PREFETCH;
use super::nats;
use super::one_way::delete;
use super::pace::Pace;
use super::relay;
use super::server::{Peer, Server};
use super::steady::{Seen, Side, latencies, side, timed, watch};
use super::toolkit;
use anyhow::Result;
use leveret_bench::connection::{Acks, Connection, QueueKind};
use leveret_bench::figure::Figure;
use leveret_bench::load::{Counters, Histogram};
use leveret_bench::rpc;
use std::sync::Arc;

const QUEUE: &str = "bench-calls";
pub(super) const WORKER_IN_FLIGHT: u32 = 128;

/// One requester with `in_flight` calls at a time, one responder that echoes.
pub(super) fn bare(server: &Server, pace: Pace, in_flight: u32) -> Result<Vec<Figure>> {
    let address = server.address;
    let sides: Vec<Side<'_>> = match server.peer {
        Peer::Nats | Peer::NatsSync => {
            let (requester, mut responder) =
                (nats::Connection::open(address)?, nats::Connection::open(address)?);
            responder.subscribe(QUEUE)?;
            vec![
                side(|counters| nats::respond(responder, counters)),
                timed(move |counters| nats::request(requester, QUEUE, rpc::BODY_BYTES, in_flight, counters)),
            ]
        }
        Peer::Relay => {
            let (requester, responder) = relay::pair(address)?;
            vec![
                side(|counters| relay::respond(responder, counters)),
                timed(move |counters| relay::request(requester, in_flight, counters)),
            ]
        }
        Peer::RabbitMq | Peer::RabbitMqQuorum | Peer::Leveret => {
            let (requester, mut responder) = (Connection::open(address)?, Connection::open(address)?);
            responder.declare_queue(QUEUE, QueueKind::Transient)?;
            responder.consume(QUEUE.as_bytes(), Acks::Manual { prefetch: PREFETCH })?;
            vec![
                side(|counters| rpc::respond(responder, counters)),
                timed(move |counters| rpc::request(requester, QUEUE, in_flight, counters)),
            ]
        }
    };
    let seen = watch(server, pace.window(), sides)?;
    if server.peer.speaks_amqp() {
        delete(server, QUEUE)?;
    }
    Ok(figures(&seen))
}

/// The toolkit on both sides.
pub(super) fn through_the_toolkit(server: &Server, pace: Pace, in_flight: u32) -> Result<Vec<Figure>> {
    let url = server.url();
    let workers = toolkit::Workers::echo(&url)?;
    ask_workers(server, pace, workers, |counters| toolkit::call(&url, in_flight, counters))
}

/// Bare frames ask a worker of the toolkit.
pub(super) fn worker(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let workers = toolkit::Workers::echo(&server.url())?;
    let requester = Connection::open(server.address)?;
    ask_workers(server, pace, workers, |counters| toolkit::ask_worker(requester, WORKER_IN_FLIGHT, counters))
}

/// The recipe as its users run it.
pub(super) fn recipe(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let url = server.url();
    let workers = toolkit::recipe_workers(&url)?;
    ask_workers(server, pace, workers, |counters| toolkit::ask_by_recipe(&url, counters))
}

fn ask_workers(
    server: &Server,
    pace: Pace,
    workers: toolkit::Workers,
    ask: impl FnOnce(&Arc<Counters>) -> Result<Histogram> + Send,
) -> Result<Vec<Figure>> {
    let seen = watch(server, pace.window(), vec![timed(ask)])?;
    workers.stop()?;
    let mut control = Connection::open(server.address)?;
    toolkit::clear(&mut control)?;
    control.close()?;
    Ok(figures(&seen))
}

fn figures(seen: &Seen) -> Vec<Figure> {
    let observation = &seen.observation;
    let mut figures = vec![Figure::higher("calls", "call/s", observation.received / observation.seconds)];
    figures.extend(latencies(&seen.latencies, ["p50", "p99"]));
    let cpu_us = observation.server_cpu_seconds * 1e6 / observation.received;
    figures.push(Figure::lower("server CPU", "us/call", cpu_us));
    figures
}
