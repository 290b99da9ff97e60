//! What is measured: one row per kind of work, with the peers that have the notion and the goals.

use super::goals::Goal;
use super::pace::Pace;
use super::server::Peer::{Leveret, Nats, NatsSync, RabbitMq, RabbitMqQuorum, Relay};
use super::server::{Peer, Server};
use super::{calls, confirmed, one_way, paced, scaling, setup, stream, waiting};
use anyhow::{Context, Result};
use leveret_bench::figure::Figure;
use std::path::Path;

pub(super) struct Workload {
    pub(super) name: &'static str,
    /// For people: what is done, with sizes and windows.
    pub(super) about: &'static str,
    pub(super) peers: &'static [Peer],
    pub(super) server: Use,
    /// However many are asked for; what takes long and varies little is not repeated often.
    pub(super) rounds_max: usize,
    run: fn(&mut Server, Pace) -> Result<Vec<Figure>>,
    pub(super) goals: &'static [Goal],
}

/// Which server a workload runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// One that has carried other loads before.
    Shared,
    /// One that has done nothing else, because its memory is looked at or what it was left with stays.
    Fresh,
}

impl Workload {
    /// Of this name.
    pub(super) fn parse(name: &str) -> Result<&'static Workload> {
        let found = WORKLOADS.iter().find(|workload| workload.name == name);
        let names = || WORKLOADS.iter().map(|workload| workload.name).collect::<Vec<_>>().join(", ");
        found.with_context(|| format!("unknown workload `{name}`: {}", names()))
    }

    pub(super) fn run(&self, server: &mut Server, pace: Pace) -> Result<Vec<Figure>> {
        (self.run)(server, pace).with_context(|| server.last_words())
    }

    pub(super) fn run_on_fresh(&self, peer: Peer, scratch: &Path, pace: Pace) -> Result<Vec<Figure>> {
        self.run(&mut Server::start(peer, scratch)?, pace)
    }
}

const ONE_WAY: &[Peer] = &[RabbitMq, Nats, Relay, Leveret];
const DURABLE: &[Peer] = &[RabbitMq, RabbitMqQuorum, Nats, NatsSync, Leveret];
const BROKERS: &[Peer] = &[RabbitMq, Nats, Leveret];
const AMQP: &[Peer] = &[RabbitMq, Leveret];

const fn times(figure: &'static str, peer: Peer, factor: f64) -> Goal {
    Goal::Times { figure, peer, factor }
}

const fn row(
    name: &'static str,
    about: &'static str,
    peers: &'static [Peer],
    run: fn(&mut Server, Pace) -> Result<Vec<Figure>>,
    goals: &'static [Goal],
) -> Workload {
    Workload { name, about, peers, server: Use::Shared, rounds_max: usize::MAX, run, goals }
}

impl Workload {
    const fn on_fresh(mut self) -> Workload {
        self.server = Use::Fresh;
        self
    }

    const fn at_most(mut self, rounds: usize) -> Workload {
        self.rounds_max = rounds;
        self
    }
}

/// In the order in which they run and are shown.
pub(super) const WORKLOADS: &[Workload] = &[
    row(
        "flow-16",
        "16 B, one producer, one consumer, no acknowledgements",
        ONE_WAY,
        |server, pace| one_way::flow(server, pace, 16),
        &[times("delivered", RabbitMq, 15.0), times("delivered", Nats, 1.1)],
    ),
    row(
        "flow-1k",
        "1 KiB, one producer, one consumer, no acknowledgements",
        ONE_WAY,
        |server, pace| one_way::flow(server, pace, 1024),
        &[
            times("delivered", RabbitMq, 9.0),
            times("delivered", Nats, 1.1),
            times("delivered", Relay, 0.5),
        ],
    ),
    row(
        "flow-64k",
        "64 KiB, one producer, one consumer, no acknowledgements",
        ONE_WAY,
        |server, pace| one_way::flow(server, pace, 64 * 1024),
        &[times("delivered", RabbitMq, 1.2), times("delivered", Relay, 0.7)],
    ),
    row(
        "confirmed",
        "1 KiB transient, 1,000 unconfirmed at most, acknowledged by 100 (prefetch 500)",
        AMQP,
        |server, pace| confirmed::transient(server, pace),
        &[times("confirmed", RabbitMq, 7.0)],
    ),
    row(
        "durable",
        "1 KiB persistent, 1,000 unconfirmed at most, acknowledged by 100 (prefetch 500)",
        DURABLE,
        |server, pace| confirmed::persistent(server, pace, confirmed::WINDOW),
        &[times("confirmed", RabbitMq, 11.0)],
    ),
    row(
        "durable-1",
        "1 KiB persistent, one unconfirmed at a time",
        DURABLE,
        |server, pace| confirmed::one_at_a_time(server, pace),
        &[
            times("confirmed", RabbitMq, 2.0),
            Goal::Of { figure: "confirm p50", other: "fdatasync of this disk p50", factor: 1.5 },
        ],
    ),
    row(
        "durable-4",
        "the same as durable in four independent flows: producers, queues, consumers",
        DURABLE,
        |server, pace| confirmed::parallel(server, pace),
        &[times("confirmed", RabbitMq, 7.0)],
    ),
    row(
        "rpc-1",
        "128 B request and response, one at a time, exclusive reply queue",
        ONE_WAY,
        |server, pace| calls::bare(server, pace, 1),
        &[times("p50", Relay, 1.5), times("p50", Nats, 0.75)],
    ),
    row(
        "rpc-64",
        "128 B request and response, 64 in flight",
        ONE_WAY,
        |server, pace| calls::bare(server, pace, 64),
        &[times("calls", RabbitMq, 9.0), times("calls", Nats, 1.3), times("calls", Relay, 0.5)],
    ),
    row(
        "paced",
        "1 KiB, 10,000 a second, acknowledged by 10 (NATS: not acknowledged); time from when a message was to be sent",
        BROKERS,
        |server, pace| paced::latency(server, pace),
        &[times("p99", RabbitMq, 0.5)],
    ),
    row(
        "fan-out",
        "1 KiB, one producer, ten queues of a fanout exchange, ten consumers",
        BROKERS,
        |server, pace| one_way::fan_out(server, pace),
        &[times("delivered", RabbitMq, 15.0)],
    ),
    row(
        "topic",
        "1 KiB by a topic exchange with 1,000 other bindings (NATS: subscriptions), one consumer",
        BROKERS,
        |server, pace| one_way::topic(server, pace),
        &[times("delivered", RabbitMq, 10.0)],
    ),
    row(
        "connect",
        "connect, open a channel, close; one client after the other (NATS: no channel)",
        BROKERS,
        |server, pace| setup::connections(server, pace),
        &[times("connections", RabbitMq, 10.0)],
    ),
    row(
        "scaling",
        "16 B into queues that keep the newest 1,000, nobody consumes: one producer and queue, then eight of each",
        AMQP,
        |server, pace| scaling::queues(server, pace),
        &[Goal::Limit { figure: "8 queues to 1", limit: 1.8 }],
    ),
    row(
        "toolkit-64",
        "rpc-64 through the toolkit, caller and worker",
        AMQP,
        |server, pace| calls::through_the_toolkit(server, pace, 64),
        &[],
    ),
    row(
        "toolkit-1",
        "rpc-1 through the toolkit, caller and worker",
        AMQP,
        |server, pace| calls::through_the_toolkit(server, pace, 1),
        &[],
    ),
    row(
        "worker",
        "a worker of the toolkit, asked by bare frames, 128 in flight",
        AMQP,
        |server, pace| calls::worker(server, pace),
        &[],
    ),
    row(
        "recipe",
        "JSON, a durable request queue, three workers, a response queue per question, one at a time",
        AMQP,
        |server, pace| calls::recipe(server, pace),
        &[],
    ),
    row(
        "declare",
        "declare a durable queue and bind it, one after the other",
        AMQP,
        |server, pace| setup::declarations(server, pace),
        &[times("queues", RabbitMq, 20.0)],
    )
    .on_fresh(),
    row(
        "idle",
        "a fresh server that nobody uses",
        BROKERS,
        |server, _| waiting::idle(server),
        &[Goal::Limit { figure: "RSS", limit: 10.0 }],
    )
    .on_fresh()
    .at_most(3),
    row(
        "connections",
        "1,000 idle connections, each with a channel, a queue, a consumer (NATS: a subscription)",
        BROKERS,
        |server, _| waiting::connections(server),
        &[Goal::Limit { figure: "per connection", limit: 12.0 }],
    )
    .on_fresh()
    .at_most(3),
    row(
        "backlog",
        "500,000 persistent 1 KiB messages confirmed and left waiting, then drained (--quick: 100,000)",
        BROKERS,
        |server, pace| waiting::backlog(server, pace),
        &[Goal::Limit { figure: "RSS, all waiting", limit: 48.0 }],
    )
    .on_fresh()
    .at_most(3),
    row(
        "restart",
        "10 million persistent 128 B messages waiting, a stop, a kill (--quick: 1 million)",
        &[Leveret],
        waiting::restart,
        &[
            Goal::Of { figure: "RSS, all waiting", other: "RSS, a tenth waiting", factor: 1.25 },
            Goal::Limit { figure: "ready after a stop", limit: 1000.0 },
            Goal::Limit { figure: "ready after a kill", limit: 1000.0 },
        ],
    )
    .on_fresh()
    .at_most(3),
    row(
        "stream",
        "1 million 128 B messages in a stream, ten readers at once from different offsets, alone and beside a \
         queue at full speed (--quick: 200,000)",
        AMQP,
        |server, pace| stream::run(server, pace),
        &[],
    )
    .on_fresh()
    .at_most(3),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_goals_are_for_peers_that_run() {
        for (index, workload) in WORKLOADS.iter().enumerate() {
            assert!(WORKLOADS[..index].iter().all(|other| other.name != workload.name), "{}", workload.name);
            assert!(workload.peers.contains(&Leveret), "{}", workload.name);
            for goal in workload.goals {
                if let Goal::Times { peer, .. } = goal {
                    assert!(workload.peers.contains(peer), "{}: {goal:?}", workload.name);
                }
            }
        }
    }
}
