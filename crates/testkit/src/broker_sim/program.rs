//! One program: lives of a broker on one disk, random actions, checks after every step.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_broker::ops::bind::Bind;
use leveret_broker::ops::consume::Consume;
use leveret_broker::ops::exchange::DeclareExchange;
use leveret_broker::ops::publish::Publish;
use leveret_broker::ops::queue::DeclareQueue;
use leveret_broker::ops::settle::Settlement;
use leveret_broker::{
    Batch, Broker, Channel, Connection, ConnectionPort, Limits, MessageView, Opened, Refusal, Verdict,
};
use leveret_store::{CommitError, Disk, Options};
use leveret_wire::{FieldTable, FieldValue, Properties, RawProperties};

use super::client::{Event, Inbox};
use super::model::{Model, PRIORITIZED, Stop, body, level, priority};
use super::{Coverage, Violation};
use crate::faulty_disk::{Crash, FaultyDisk};
use crate::random::Random;

const DURABLE: [&str; 3] = ["d0", "d1", "d2"];
const TRANSIENT: &str = "t0";
const QUEUES: [&str; 4] = ["d0", "d1", "d2", TRANSIENT];
const FANOUT: &str = "all";
const LIVES: u64 = 4;

/// Runs one program.
///
/// # Errors
/// The violation.
pub fn run(seed: u64) -> Result<Coverage, Box<Violation>> {
    let mut program = Program::new(seed);
    // A panic of the broker is a violation like any other, and must name its seed too.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| program.run()));
    match ended.unwrap_or_else(|_| Err("panic".to_owned())) {
        Ok(()) => Ok(program.coverage),
        Err(what) => {
            let skipped = program.trace.len().saturating_sub(60);
            Err(Box::new(Violation { seed, what, trace: program.trace.split_off(skipped) }))
        }
    }
}

struct Program {
    random: Random,
    disk: FaultyDisk,
    model: Model,
    trace: Vec<String>,
    coverage: Coverage,
    next_number: u64,
    now_ms: u64,
    /// The topology was declared, and answered.
    declared: bool,
    /// This life has opened the data directory.
    opened: bool,
    /// It is being stopped.
    closing: bool,
    /// How the last life that did ended.
    stop: Stop,
}

/// Why a life ended early: the disk crashed under it, or a promise was broken.
enum End {
    Crash(String),
    Broken(String),
}

type Outcome<T> = Result<T, End>;

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            leveret_wire::ReplyCode::INTERNAL_ERROR => Self::Crash(refusal.to_string()),
            _ => Self::Broken(refusal.to_string()),
        }
    }
}

/// A running broker with its clients.
struct Life {
    broker: Arc<Broker>,
    publisher: Client,
    consumer: Client,
    /// Messages by the publisher's confirm numbers.
    unconfirmed: BTreeMap<u64, u64>,
    next_confirm: u64,
    /// Queue and message by delivery tag.
    outstanding: BTreeMap<u64, (String, u64)>,
    /// Queue and acknowledgement mode by consumer tag.
    consumers: BTreeMap<String, (String, bool)>,
    next_consumer: u64,
}

struct Client {
    connection: Arc<Connection>,
    channel: Channel,
    inbox: Inbox,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = FaultyDisk::new(random.next());
        Self {
            random,
            disk,
            model: Model::default(),
            trace: Vec::new(),
            coverage: Coverage::default(),
            next_number: 1,
            now_ms: 1,
            declared: false,
            opened: false,
            closing: false,
            stop: Stop::Unclean,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for life in 0..LIVES {
            self.trace.push(format!("life {life}"));
            let planned = self.random.below(400);
            if self.random.chance(2, 3) {
                self.disk.crash_after(planned);
            }
            (self.opened, self.closing) = (false, false);
            let ended = self.live();
            if let Err(End::Broken(what)) = ended {
                return Err(what);
            }
            if let (Err(End::Crash(what)), false) = (&ended, self.disk.is_down()) {
                return Err(format!("stopped without a cause: {what}"));
            }
            let over = self.model.over();
            if self.opened {
                // A life that never came to be has promised nothing and broken nothing.
                self.stop = match (ended.is_ok(), self.closing) {
                    (true, _) => Stop::Clean,
                    (false, true) => Stop::Either,
                    (false, false) => Stop::Unclean,
                };
                self.model.stopped(self.stop, &DURABLE);
            }
            self.restart(ended.is_ok());
            if self.declared {
                self.inspect(self.stop, &over)?;
            }
        }
        Ok(())
    }

    /// A clean stop leaves nothing that a power cut could take.
    fn restart(&mut self, stopped_cleanly: bool) {
        let crash = if stopped_cleanly || self.random.chance(1, 2) { Crash::PowerCut } else { Crash::Kill };
        self.trace.push(format!("{crash:?}"));
        self.disk.restart(crash);
        self.coverage.crashes += u64::from(!stopped_cleanly);
        self.coverage.clean_stops += u64::from(stopped_cleanly);
    }

    /// Opens a copy of the disk and takes every queue apart: this is what a restart has to bring back.
    fn inspect(&mut self, stop: Stop, over: &[(String, u64)]) -> Result<(), String> {
        let copy = self.disk.fork(self.random.next());
        let broker = open(&copy).map_err(|error| format!("P1: does not start: {error}"))?;
        let mut client = Client::connect(&broker)?;
        let maybe_over = |queue: &str, number: u64| over.iter().any(|(q, n)| q == queue && *n == number);
        for queue in DURABLE {
            let mut found = Vec::new();
            let mut batch = Batch::at(self.now_ms);
            while let Some(got) =
                client.channel.get(queue, false, &mut batch).map_err(|refusal| refusal.to_string())?
            {
                let body = got.message.view().body.to_vec();
                found.push(u64::from_le_bytes(*body.first_chunk().ok_or("P7: short body")?));
                if stop == Stop::Unclean && !got.redelivered {
                    return Err(format!("P4: {queue} gave a message after a crash without the flag"));
                }
            }
            let order = |number: u64| (Reverse(level(queue, number)), number);
            if let Some(pair) = found.windows(2).find(|pair| order(pair[0]) >= order(pair[1])) {
                return Err(format!("P5, P6: {queue} holds {} before {}", pair[0], pair[1]));
            }
            self.coverage.recovered += found.len() as u64;
            self.model.recovered(queue, &found, &maybe_over, stop)?;
        }
        Ok(())
    }

    /// One life, to its clean end.
    fn live(&mut self) -> Outcome<()> {
        let broker = open(&self.disk).map_err(|error| match self.disk.is_down() {
            true => End::Crash(error.to_string()),
            false => End::Broken(format!("P1: does not start: {error}")),
        })?;
        self.opened = true;
        let publisher = Client::connect(&broker).map_err(End::Broken)?;
        let consumer = Client::connect(&broker).map_err(End::Broken)?;
        let mut life = Life {
            broker,
            publisher,
            consumer,
            unconfirmed: BTreeMap::new(),
            next_confirm: 1,
            outstanding: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_consumer: 1,
        };
        life.set_up(!self.declared)?;
        self.declared = true;
        life.publisher.channel.select_confirms()?;
        for _ in 0..self.random.below(250) {
            self.act(&mut life)?;
            self.listen(&mut life)?;
        }
        self.end(life)
    }

    fn end(&mut self, mut life: Life) -> Outcome<()> {
        let mut batch = Batch::at(self.now_ms);
        self.trace.push("clean stop".into());
        self.closing = true;
        for (_, (queue, number)) in std::mem::take(&mut life.outstanding) {
            self.model.requeued(&queue, number);
        }
        life.consumer.channel.close(&mut batch);
        life.publisher.channel.close(&mut batch);
        life.broker.finish(&mut batch);
        match life.broker.close() {
            Ok(()) => Ok(()),
            Err(error) => Err(End::Crash(error.to_string())),
        }
    }

    fn act(&mut self, life: &mut Life) -> Outcome<()> {
        self.now_ms += self.random.below(5);
        match self.random.below(30) {
            0..12 => self.publish(life),
            12..15 => self.commit(life),
            15..17 => self.settle_log(life),
            17 => self.start_consumer(life),
            18 => self.stop_consumer(life),
            19..24 => self.settle(life),
            24..27 => self.get(life),
            27 if self.random.chance(1, 8) => self.purge(life),
            28 => self.transaction(life),
            _ => self.resume(life),
        }
    }

    fn new_message(&mut self) -> (u64, Vec<u8>, bool) {
        let number = self.next_number;
        self.next_number += 1;
        let len = match self.random.below(10) {
            0 => self.random.below(5000),
            1..4 => self.random.below(400),
            _ => self.random.below(30),
        };
        (number, body(number, len as usize), self.random.chance(3, 4))
    }

    fn publish(&mut self, life: &mut Life) -> Outcome<()> {
        for _ in 0..1 + self.random.below(6) {
            let (number, body, persistent) = self.new_message();
            let fan_out = self.random.chance(1, 4);
            let queue = QUEUES[self.random.below(4) as usize];
            self.trace.push(format!("publish {number} to {}", if fan_out { FANOUT } else { queue }));
            for target in if fan_out { &QUEUES[..] } else { std::slice::from_ref(&queue) } {
                self.model.published(target, number, persistent);
            }
            life.unconfirmed.insert(life.next_confirm, number);
            life.next_confirm += 1;
            let (exchange, key) = if fan_out { (FANOUT, "") } else { ("", queue) };
            self.send(life, (exchange, key), (number, &body), persistent)?;
        }
        Ok(())
    }

    fn send(
        &self,
        life: &mut Life,
        (exchange, key): (&str, &str),
        (number, body): (u64, &[u8]),
        persistent: bool,
    ) -> Outcome<()> {
        let properties = properties(number, persistent);
        let properties = RawProperties::from_validated(&properties);
        let message = MessageView { exchange, routing_key: key, properties, body };
        let mut batch = Batch::at(self.now_ms);
        let published = life
            .publisher
            .channel
            .publish(Publish { message, mandatory: false, immediate: false }, &mut batch);
        life.broker.finish(&mut batch);
        Ok(published?)
    }

    fn commit(&mut self, life: &mut Life) -> Outcome<()> {
        match life.broker.store().commit() {
            Ok(_) => {
                life.broker.committed();
                Ok(())
            }
            Err(CommitError::DiskFull) => Ok(()),
            Err(CommitError::Failed(failed)) => Err(End::Crash(failed.to_string())),
        }
    }

    fn settle_log(&mut self, life: &mut Life) -> Outcome<()> {
        match life.broker.settle_oldest() {
            Ok(settled) => {
                self.coverage.settled += u64::from(settled);
                Ok(())
            }
            Err(CommitError::DiskFull) => Ok(()),
            Err(CommitError::Failed(failed)) => Err(End::Crash(failed.to_string())),
        }
    }

    fn start_consumer(&mut self, life: &mut Life) -> Outcome<()> {
        let queue = QUEUES[self.random.below(4) as usize];
        let no_ack = self.random.chance(1, 4);
        let tag = format!("c{}", life.next_consumer);
        life.next_consumer += 1;
        self.trace.push(format!("{tag} consumes {queue}, no_ack {no_ack}"));
        let mut batch = Batch::at(self.now_ms);
        let channel = &mut life.consumer.channel;
        channel.limit_prefetch(0, self.random.below(6) as u16, false, &mut batch)?;
        channel.consume(consume(queue, &tag, no_ack), self.now_ms)?;
        life.consumers.insert(tag.clone(), (queue.to_owned(), no_ack));
        channel.start_deliveries(&tag, &mut batch)?;
        life.broker.finish(&mut batch);
        Ok(())
    }

    fn stop_consumer(&mut self, life: &mut Life) -> Outcome<()> {
        let tags: Vec<String> = life.consumers.keys().cloned().collect();
        let Some(tag) = self.random.pick(&tags) else { return Ok(()) };
        self.trace.push(format!("{tag} stops"));
        let mut batch = Batch::at(self.now_ms);
        life.consumer.channel.cancel(tag, &mut batch);
        life.broker.finish(&mut batch);
        Ok(())
    }

    /// Acknowledges, requeues or refuses one delivery or all up to one.
    fn settle(&mut self, life: &mut Life) -> Outcome<()> {
        let tags: Vec<u64> = life.outstanding.keys().copied().collect();
        let Some(&tag) = self.random.pick(&tags) else { return Ok(()) };
        let multiple = self.random.chance(1, 4);
        let settlement = match self.random.below(5) {
            0 => Settlement::Requeue { failed: true },
            1 => Settlement::Discard,
            _ => Settlement::Ack,
        };
        self.trace.push(format!("{settlement:?} {tag} multiple {multiple}"));
        let settled: Vec<u64> = tags.into_iter().filter(|t| *t == tag || multiple && *t < tag).collect();
        for tag in settled {
            let Some((queue, number)) = life.outstanding.remove(&tag) else { continue };
            match settlement {
                Settlement::Requeue { .. } => self.model.requeued(&queue, number),
                Settlement::Ack | Settlement::Discard => self.model.settled(&queue, number),
            }
        }
        let mut batch = Batch::at(self.now_ms);
        let settled = life.consumer.channel.settle(tag, multiple, settlement, &mut batch);
        life.broker.finish(&mut batch);
        Ok(settled?)
    }

    fn get(&mut self, life: &mut Life) -> Outcome<()> {
        self.listen(life)?;
        let queue = QUEUES[self.random.below(4) as usize];
        let no_ack = self.random.chance(1, 4);
        let mut batch = Batch::at(self.now_ms);
        let got = life.consumer.channel.get(queue, no_ack, &mut batch);
        life.broker.finish(&mut batch);
        match got? {
            None if self.model.waiting(queue) > 0 => {
                let waiting = self.model.waiting(queue);
                Err(End::Broken(format!("{queue} is empty, {waiting} messages should wait")))
            }
            None => Ok(()),
            Some(got) => {
                let body = got.message.view().body.to_vec();
                let number =
                    self.model.delivered(queue, &body, got.redelivered, !no_ack).map_err(End::Broken)?;
                self.trace.push(format!("get {number} from {queue} as {}", got.delivery_tag));
                if !no_ack {
                    life.outstanding.insert(got.delivery_tag, (queue.to_owned(), number));
                }
                Ok(())
            }
        }
    }

    fn purge(&mut self, life: &mut Life) -> Outcome<()> {
        self.listen(life)?;
        let queue = QUEUES[self.random.below(4) as usize];
        let purged = life.publisher.channel.purge_queue(queue)?;
        self.trace.push(format!("purge {queue}: {purged}"));
        let expected = self.model.purged(queue);
        if purged == expected { Ok(()) } else { Err(End::Broken(format!("purged {purged}, not {expected}"))) }
    }

    /// A transaction on a channel of its own: publishes, committed or rolled back.
    fn transaction(&mut self, life: &mut Life) -> Outcome<()> {
        let mut channel = Channel::open(life.publisher.connection.clone(), 9);
        channel.select_tx()?;
        let mut batch = Batch::at(self.now_ms);
        let mut sent = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let (number, body, persistent) = self.new_message();
            let queue = QUEUES[self.random.below(4) as usize];
            let properties = properties(number, persistent);
            let properties = RawProperties::from_validated(&properties);
            let message = MessageView { exchange: "", routing_key: queue, properties, body: &body };
            channel.publish(Publish { message, mandatory: false, immediate: false }, &mut batch)?;
            sent.push((queue, number, persistent));
        }
        if self.random.chance(1, 4) {
            self.trace.push("tx rollback".into());
            channel.rollback()?;
        } else {
            self.trace.push(format!("tx commit {sent:?}"));
            sent.iter()
                .for_each(|(queue, number, persistent)| self.model.published(queue, *number, *persistent));
            let position = channel.commit(&mut batch)?;
            life.broker.finish(&mut batch);
            if self.random.chance(1, 2) {
                self.commit(life)?;
                if !life.broker.is_durable(position) {
                    return Err(End::Broken(
                        "P3: a committed transaction is not durable after a commit".into(),
                    ));
                }
                sent.iter().for_each(|(_, number, _)| self.model.confirmed(*number));
            }
        }
        channel.close(&mut batch);
        life.broker.finish(&mut batch);
        Ok(())
    }

    /// The consumer's connection has room again.
    fn resume(&mut self, life: &mut Life) -> Outcome<()> {
        self.listen(life)
    }

    /// Everything that clients have heard is checked and remembered, until they hear nothing more.
    fn listen(&mut self, life: &mut Life) -> Outcome<()> {
        loop {
            let mut events = life.publisher.inbox.take();
            events.extend(life.consumer.inbox.take());
            let stalled = life.consumer.connection.port.take_stalled();
            if events.is_empty() && stalled.is_empty() {
                return Ok(());
            }
            for event in events {
                self.hear(life, event)?;
            }
            let mut batch = Batch::at(self.now_ms);
            life.broker.resume(stalled, &mut batch);
            life.broker.finish(&mut batch);
        }
    }

    fn hear(&mut self, life: &mut Life, event: Event) -> Outcome<()> {
        match event {
            Event::Delivered { tag, consumer, redelivered, body } => {
                self.coverage.deliveries += 1;
                let Some((queue, no_ack)) = life.consumers.get(&consumer).cloned() else {
                    return Err(End::Broken(format!("a delivery for {consumer}, which is none")));
                };
                let number =
                    self.model.delivered(&queue, &body, redelivered, !no_ack).map_err(End::Broken)?;
                self.trace.push(format!("{consumer} gets {number} from {queue} as {tag}"));
                if !no_ack {
                    life.outstanding.insert(tag, (queue, number));
                }
            }
            Event::Confirmed { tag, multiple, verdict } => {
                let first = if multiple { 0 } else { tag };
                let tags: Vec<u64> = life.unconfirmed.range(first..=tag).map(|(tag, _)| *tag).collect();
                for tag in tags {
                    let number = life.unconfirmed.remove(&tag).unwrap_or_default();
                    if verdict == Verdict::Ack {
                        self.trace.push(format!("confirmed {number}"));
                        self.model.confirmed(number);
                    }
                }
            }
        }
        Ok(())
    }
}

impl Life {
    /// Declares what the program uses. In later lives the durable part must be there.
    fn set_up(&mut self, first: bool) -> Outcome<()> {
        let Client { connection, channel, .. } = &mut self.publisher;
        for queue in QUEUES {
            let durable = queue != TRANSIENT;
            let declare = DeclareQueue { passive: durable && !first, ..declare(queue, durable) };
            channel.declare_queue(declare, &mut Batch::at(1))?;
        }
        connection.declare_exchange(fanout(!first))?;
        for queue in QUEUES {
            let bind = Bind {
                source: FANOUT,
                destination: queue,
                routing_key: "",
                arguments: FieldTable::default(),
            };
            channel.bind_queue(bind, &mut Batch::at(1))?;
        }
        let done = self.broker.store().commit();
        self.broker.committed();
        match done {
            Err(error) => Err(End::Crash(error.to_string())),
            Ok(_) if self.broker.topology_is_durable() => Ok(()),
            Ok(_) => Err(End::Broken("P2: a commit did not make the topology durable".into())),
        }
    }
}

impl Client {
    fn connect(broker: &Arc<Broker>) -> Result<Self, String> {
        let inbox = Inbox::default();
        let port = ConnectionPort::new(broker.next_connection_id(), Box::new(inbox.clone()));
        let user = broker.users.find("guest").ok_or("P2: guest is gone")?;
        let connection =
            Connection::open(broker.clone(), port, user, "/", true).map_err(|r| r.to_string())?;
        let channel = Channel::open(connection.clone(), 1);
        Ok(Self { connection, channel, inbox })
    }
}

/// Tiny files and next to no memory, so that everything wanders between memory, log and segments.
fn open(disk: &FaultyDisk) -> Result<Arc<Broker>, leveret_broker::OpenFailed> {
    let options = Options { log_file_bytes: 16 << 10, segment_bytes: 8 << 10, ..Options::default() };
    let limits = Limits { resident_bytes: 2000, ..Limits::default() };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let Opened { broker, .. } = Broker::open(disk, options, limits)?;
    Ok(broker)
}

fn properties(number: u64, persistent: bool) -> Vec<u8> {
    let delivery_mode = Some(if persistent { 2 } else { 1 });
    let properties = Properties { delivery_mode, priority: Some(priority(number)), ..Properties::default() };
    properties.encode().expect("a delivery mode and a priority have a form")
}

fn declare(name: &str, durable: bool) -> DeclareQueue<'_> {
    let mut arguments = FieldTable::default();
    if name == PRIORITIZED.0 {
        arguments.push("x-max-priority", FieldValue::U8(PRIORITIZED.1));
    }
    DeclareQueue { name, passive: false, durable, exclusive: false, auto_delete: false, arguments }
}

fn fanout(passive: bool) -> DeclareExchange<'static> {
    DeclareExchange {
        name: FANOUT,
        kind: "fanout",
        passive,
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::default(),
    }
}

fn consume<'a>(queue: &'a str, consumer_tag: &'a str, no_ack: bool) -> Consume<'a> {
    let arguments = FieldTable::default();
    Consume { queue, consumer_tag, no_ack, exclusive: false, arguments }
}
