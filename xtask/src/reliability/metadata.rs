//! A kill on receipt of an `-ok` (P2): what was answered is there, what was deleted is gone.
//!
//! Queues, exchanges and bindings are made and removed at random. The broker is killed the moment an answer arrives;
//! after the next start everything that was ever answered is looked up: queues and exchanges by declaring them
//! passively and again with the same arguments, bindings by a mandatory message under a key of their own.

use anyhow::{Context, Result};
use leveret_testkit::random::Random;
use leveret_wire::method::{
    BasicPublish, ExchangeBind, ExchangeDeclare, ExchangeDelete, ExchangeUnbind, QueueBind, QueueDeclare,
    QueueDelete, QueueUnbind,
};
use leveret_wire::{FieldTable, FieldValue, Properties, RawTable};
use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Plan;
use super::client::{CALL_TIMEOUT, Client, Ended, Event};
use super::site::Site;
use super::verdict::Verdict;

/// Behind it, whatever an exchange passes on arrives in a queue.
const SINK: &str = "reliability.sink";
/// Changes between two kills.
const CHANGES_MAX: u64 = 3;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

pub(super) fn run(site: &Site, plan: &Plan, verdict: &mut Verdict) -> Result<()> {
    let mut random = Random::new(plan.seed);
    let mut topology = Topology::default();
    let rounds = plan.rounds(50, 500);
    let mut changes = 0;
    for round in 0..=rounds {
        let server = site.start().context("failed start")?;
        let mut client = Client::open(server.address())?;
        if round == 0 {
            make_sink(&mut client)?;
        }
        let mut probe = Probe::open(server.address())?;
        topology.look_up(&mut probe, verdict).with_context(|| format!("after kill {round}"))?;
        for _ in 0..=random.below(CHANGES_MAX) {
            topology
                .change(&mut client, &mut random)
                .with_context(|| format!("before kill {}", round + 1))?;
            changes += 1;
        }
        server.kill()?;
    }
    let Topology { queues, exchanges, bindings, .. } = topology;
    verdict.count("kills", rounds);
    verdict.fact(format!(
        "{changes} answered changes, {rounds} kills; in the end {} queues, {} exchanges, {} bindings",
        queues.len(),
        exchanges.len(),
        bindings.len()
    ));
    Ok(())
}

fn make_sink(client: &mut Client) -> Result<(), Ended> {
    client.call(ExchangeDeclare { exchange: SINK, kind: "fanout", durable: true, ..Default::default() })?;
    client.call(QueueDeclare { queue: SINK, durable: true, ..Default::default() })?;
    client.call(QueueBind { queue: SINK, exchange: SINK, ..Default::default() }).map(drop)
}

/// What the broker has answered for.
#[derive(Debug, Default)]
struct Topology {
    last_number: u64,
    queues: BTreeSet<Thing>,
    exchanges: BTreeSet<Thing>,
    bindings: BTreeSet<Binding>,
    /// The latest change, if it removed something.
    removed: Option<Removed>,
}

/// A queue or an exchange; its kind and arguments follow from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Thing(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Binding {
    exchange: Thing,
    target: Target,
    key: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Queue(Thing),
    Sink,
}

#[derive(Debug, Clone, Copy)]
enum Removed {
    Queue(Thing),
    Exchange(Thing),
    Binding(Binding),
}

impl Thing {
    fn name(self) -> String {
        format!("reliability.{}", self.0)
    }

    fn exchange_kind(self) -> &'static str {
        if self.0.is_multiple_of(2) { "direct" } else { "topic" }
    }

    fn queue_arguments(self) -> FieldTable {
        let mut arguments = FieldTable::new();
        if self.0.is_multiple_of(3) {
            arguments.insert("x-max-length", FieldValue::I32(1000 + self.0 as i32));
        }
        arguments
    }
}

impl Topology {
    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Makes or removes something and waits for the answer.
    fn change(&mut self, client: &mut Client, random: &mut Random) -> Result<(), Ended> {
        self.removed = None;
        let queues: Vec<Thing> = self.queues.iter().copied().collect();
        let exchanges: Vec<Thing> = self.exchanges.iter().copied().collect();
        let bindings: Vec<Binding> = self.bindings.iter().copied().collect();
        match (random.below(10), random.pick(&queues), random.pick(&exchanges), random.pick(&bindings)) {
            (0..2, _, _, _) => self.declare_exchange(client),
            (2..4, Some(queue), Some(exchange), _) => self.bind(client, *exchange, Target::Queue(*queue)),
            (4..6, _, Some(exchange), _) => self.bind(client, *exchange, Target::Sink),
            (6, _, _, Some(binding)) => self.unbind(client, *binding),
            (7, Some(queue), _, _) if queues.len() > 3 => self.delete_queue(client, *queue),
            (8, _, Some(exchange), _) if exchanges.len() > 3 => self.delete_exchange(client, *exchange),
            _ => self.declare_queue(client),
        }
    }

    fn declare_queue(&mut self, client: &mut Client) -> Result<(), Ended> {
        let queue = Thing(self.next_number());
        declare_queue(client, queue)?;
        self.queues.insert(queue);
        Ok(())
    }

    fn declare_exchange(&mut self, client: &mut Client) -> Result<(), Ended> {
        let exchange = Thing(self.next_number());
        declare_exchange(client, exchange)?;
        self.exchanges.insert(exchange);
        Ok(())
    }

    fn bind(&mut self, client: &mut Client, exchange: Thing, target: Target) -> Result<(), Ended> {
        let binding = Binding { exchange, target, key: self.next_number() };
        let (source, key) = (exchange.name(), binding.key.to_string());
        match target {
            Target::Queue(queue) => client.call(QueueBind {
                queue: &queue.name(),
                exchange: &source,
                routing_key: &key,
                ..Default::default()
            }),
            Target::Sink => client.call(ExchangeBind {
                destination: SINK,
                source: &source,
                routing_key: &key,
                ..Default::default()
            }),
        }?;
        self.bindings.insert(binding);
        Ok(())
    }

    fn unbind(&mut self, client: &mut Client, binding: Binding) -> Result<(), Ended> {
        let (exchange, routing_key) = (binding.exchange.name(), binding.key.to_string());
        match binding.target {
            Target::Queue(queue) => client.call(QueueUnbind {
                queue: &queue.name(),
                exchange: &exchange,
                routing_key: &routing_key,
                ..Default::default()
            }),
            Target::Sink => client.call(ExchangeUnbind {
                destination: SINK,
                source: &exchange,
                routing_key: &routing_key,
                ..Default::default()
            }),
        }?;
        self.bindings.remove(&binding);
        self.removed = Some(Removed::Binding(binding));
        Ok(())
    }

    fn delete_queue(&mut self, client: &mut Client, queue: Thing) -> Result<(), Ended> {
        client.call(QueueDelete { queue: &queue.name(), ..Default::default() })?;
        self.queues.remove(&queue);
        self.bindings.retain(|binding| binding.target != Target::Queue(queue));
        self.removed = Some(Removed::Queue(queue));
        Ok(())
    }

    fn delete_exchange(&mut self, client: &mut Client, exchange: Thing) -> Result<(), Ended> {
        client.call(ExchangeDelete { exchange: &exchange.name(), ..Default::default() })?;
        self.exchanges.remove(&exchange);
        self.bindings.retain(|binding| binding.exchange != exchange);
        self.removed = Some(Removed::Exchange(exchange));
        Ok(())
    }

    /// Everything that was answered, against what is there.
    fn look_up(&self, probe: &mut Probe, verdict: &mut Verdict) -> Result<(), Ended> {
        for thing in &self.queues {
            let found = probe.ask(|client| passive_queue(client, *thing))?
                && probe.ask(|client| declare_queue(client, *thing))?;
            verdict.demand(found, "an answered queue is missing or different", thing.0);
        }
        for thing in &self.exchanges {
            let found = probe.ask(|client| passive_exchange(client, *thing))?
                && probe.ask(|client| declare_exchange(client, *thing))?;
            verdict.demand(found, "an answered exchange is missing or different", thing.0);
        }
        for binding in &self.bindings {
            verdict.demand(probe.routes(*binding)?, "an answered binding is missing", format!("{binding:?}"));
        }
        let back = match self.removed {
            None => false,
            Some(Removed::Queue(thing)) => probe.ask(|client| passive_queue(client, thing))?,
            Some(Removed::Exchange(thing)) => probe.ask(|client| passive_exchange(client, thing))?,
            Some(Removed::Binding(binding)) => probe.routes(binding)?,
        };
        verdict.demand(!back, "what was removed is back", format!("{:?}", self.removed));
        Ok(())
    }
}

/// A connection that survives questions with the answer no.
pub(super) struct Probe {
    address: SocketAddr,
    client: Client,
}

impl Probe {
    pub(super) fn open(address: SocketAddr) -> Result<Probe, Ended> {
        let mut client = Client::open(address)?;
        client.select_confirms()?;
        Ok(Probe { address, client })
    }

    pub(super) fn has_queue(&mut self, queue: &str) -> Result<bool, Ended> {
        self.ask(|client| client.call(QueueDeclare { queue, passive: true, ..Default::default() }).map(drop))
    }

    /// False when the broker says that it is not there, or not like that.
    fn ask(&mut self, question: impl FnOnce(&mut Client) -> Result<(), Ended>) -> Result<bool, Ended> {
        match question(&mut self.client) {
            Ok(()) => Ok(true),
            Err(Ended::Closed { code: NOT_FOUND | PRECONDITION_FAILED, .. }) => {
                *self = Probe::open(self.address)?;
                Ok(false)
            }
            Err(ended) => Err(ended),
        }
    }

    /// Whether a message with the binding's key gets anywhere: nobody else has this key.
    fn routes(&mut self, binding: Binding) -> Result<bool, Ended> {
        let (exchange, routing_key) = (binding.exchange.name(), binding.key.to_string());
        let publish = BasicPublish {
            exchange: &exchange,
            routing_key: &routing_key,
            mandatory: true,
            ..Default::default()
        };
        self.client.publish(publish, &Properties::default(), b"")?;
        self.client.flush()?;
        let mut returned = false;
        loop {
            match self.client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
                Event::Returned => returned = true,
                Event::Confirm { .. } => return Ok(!returned),
                other => return Err(Ended::Garbled(format!("{other:?} instead of a confirm"))),
            }
        }
    }
}

fn declare_queue(client: &mut Client, queue: Thing) -> Result<(), Ended> {
    let arguments =
        queue.queue_arguments().raw_bytes().map_err(|error| Ended::Garbled(format!("{error:?}")))?;
    let declare = QueueDeclare {
        queue: &queue.name(),
        durable: true,
        arguments: RawTable::parse(&arguments)?,
        ..Default::default()
    };
    client.call(declare).map(drop)
}

fn declare_exchange(client: &mut Client, exchange: Thing) -> Result<(), Ended> {
    let declare = ExchangeDeclare {
        exchange: &exchange.name(),
        kind: exchange.exchange_kind(),
        durable: true,
        ..Default::default()
    };
    client.call(declare).map(drop)
}

fn passive_queue(client: &mut Client, queue: Thing) -> Result<(), Ended> {
    client.call(QueueDeclare { queue: &queue.name(), passive: true, ..Default::default() }).map(drop)
}

fn passive_exchange(client: &mut Client, exchange: Thing) -> Result<(), Ended> {
    let declare = ExchangeDeclare {
        exchange: &exchange.name(),
        kind: exchange.exchange_kind(),
        passive: true,
        ..Default::default()
    };
    client.call(declare).map(drop)
}
