//! Whether independent queues use more than one core. The load is almost all the server's: small messages, encoded once,
//! into queues that keep the newest thousand and have no consumer; the producers only hand bytes to the kernel.

use super::one_way::{batch_messages, delete};
use super::pace::Pace;
use super::server::Server;
use super::steady::{Seen, Side, side, watch};
use anyhow::Result;
use leveret_bench::connection::{Connection, QueueKind};
use leveret_bench::figure::Figure;
use leveret_bench::flows::publish;
use leveret_bench::load::{Batch, Persistence};

const QUEUES: usize = 8;
const BODY_BYTES: usize = 16;
const KEPT: QueueKind = QueueKind::Bounded { messages: 1000 };

/// One producer and its queue, then eight.
pub(super) fn queues(server: &Server, pace: Pace) -> Result<Vec<Figure>> {
    let (one, eight) = (load(server, pace, 1)?, load(server, pace, QUEUES)?);
    let rate = |seen: &Seen| seen.observation.sent / seen.observation.seconds;
    let cores = |seen: &Seen| seen.observation.server_cpu_seconds / seen.observation.seconds;
    let cpu_us = |seen: &Seen| seen.observation.server_cpu_seconds * 1e6 / seen.observation.sent;
    Ok(vec![
        Figure::higher("1 queue", "msg/s", rate(&one)),
        Figure::higher("8 queues", "msg/s", rate(&eight)),
        Figure::higher("8 queues to 1", "x", rate(&eight) / rate(&one)),
        Figure::higher("server, 1 queue", "cores", cores(&one)),
        Figure::higher("server, 8 queues", "cores", cores(&eight)),
        Figure::lower("server CPU, 1 queue", "us/msg", cpu_us(&one)),
        Figure::lower("server CPU, 8 queues", "us/msg", cpu_us(&eight)),
    ])
}

fn load(server: &Server, pace: Pace, queues: usize) -> Result<Seen> {
    let names: Vec<String> = (0..queues).map(|number| format!("bench-scaling-{number}")).collect();
    let mut sides: Vec<Side<'_>> = Vec::new();
    for name in &names {
        let mut producer = Connection::open(server.address)?;
        producer.declare_queue(name, KEPT)?;
        let batch = Batch::new(name, Persistence::Transient, BODY_BYTES, batch_messages(BODY_BYTES));
        sides.push(side(|counters| publish(producer, batch, counters)));
    }
    let seen = watch(server, pace.window(), sides)?;
    names.iter().try_for_each(|name| delete(server, name))?;
    Ok(seen)
}
