//! One program: lives of a broker on one disk, random actions, checks after every step.

mod consuming;

use leveret_broker::ops::publish::Publish;
use leveret_broker::{Batch, Channel, MessageView, Refusal};
use leveret_store::CommitError;
use leveret_wire::RawProperties;

use super::autopsy::contents;
use super::ledger::Stop;
use super::letter::{Attempts, Letter};
use super::life::{CHANNELS, CONSUMERS, Life, PUBLISHER, bind, declare, exchange, open};
use super::make::{FAN, KEYS, Make, QUEUES, draw_key, queue_name};
use super::model::{ChannelId, Model};
use super::{Coverage, Violation};
use crate::faulty_disk::{Crash, FaultyDisk};
use crate::random::Random;

const LIVES: u64 = 4;
/// How much of what a program did is shown with its violation.
const TRACE_LINES: usize = 80;

/// Runs one program.
///
/// # Errors
/// The violation.
pub fn run(seed: u64) -> Result<Coverage, Box<Violation>> {
    let mut program = Program::new(seed, false);
    let Err(what) = program.run_guarded() else { return Ok(program.coverage()) };
    // Again, this time taking down what happens.
    let mut program = Program::new(seed, true);
    let again = program.run_guarded();
    let what =
        if again.as_ref() == Err(&what) { what } else { format!("{what}; the second time: {again:?}") };
    let skipped = program.trace.len().saturating_sub(TRACE_LINES);
    let makes = program.makes.iter().map(|make| format!("{make:?}"));
    let trace = makes.chain(program.trace.drain(skipped..)).collect();
    Err(Box::new(Violation { seed, what, trace }))
}

struct Program {
    random: Random,
    disk: FaultyDisk,
    makes: Vec<Make>,
    model: Model,
    trace: Vec<String>,
    is_traced: bool,
    coverage: Coverage,
    next_number: u64,
    /// The model before the last stop, if that left anything uncertain.
    uncertain: Option<Model>,
    /// This life has opened the data directory.
    opened: bool,
    /// It is being stopped.
    closing: bool,
}

/// Why a life ended early: the disk crashed under it, or a promise was broken.
enum End {
    Crash,
    Broken(String),
}

type Outcome<T> = Result<T, End>;

impl From<String> for End {
    fn from(what: String) -> Self {
        Self::Broken(what)
    }
}

impl Program {
    fn new(seed: u64, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let disk = FaultyDisk::new(random.next());
        let makes: Vec<Make> = (0..QUEUES).map(|at| Make::draw(at, &mut random)).collect();
        Self {
            model: Model::new(makes.clone(), 1_000_000),
            random,
            disk,
            makes,
            trace: Vec::new(),
            is_traced,
            coverage: Coverage::default(),
            next_number: 1,
            uncertain: None,
            opened: false,
            closing: false,
        }
    }

    fn coverage(&self) -> Coverage {
        let [rejected, expired, too_many, too_often] = self.model.deaths();
        Coverage { rejected, expired, too_many, too_often, ..self.coverage }
    }

    /// Takes down what happens.
    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.is_traced {
            self.trace.push(line());
        }
    }

    /// A panic of the broker is a violation like any other, and must name its seed too.
    fn run_guarded(&mut self) -> Result<(), String> {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.run()));
        ended.unwrap_or_else(|_| Err("panic".to_owned()))
    }

    fn run(&mut self) -> Result<(), String> {
        for life in 0..LIVES {
            self.note(|| format!("life {life}"));
            let planned = self.random.below(150);
            if self.random.chance(2, 3) {
                self.disk.crash_after(planned);
            }
            (self.opened, self.closing) = (false, false);
            let ended = self.live();
            if let Err(End::Broken(what)) = ended {
                return Err(what);
            }
            let stop = match (ended.is_ok(), self.opened && !self.closing) {
                (true, _) => Stop::Clean,
                (false, true) => Stop::Unclean,
                // While it was closed or opened: the mark of a clean stop may be there.
                (false, false) => Stop::Either,
            };
            self.restart(ended.is_ok());
            self.inspect(stop)?;
        }
        Ok(())
    }

    /// A clean stop leaves nothing that a power cut could take.
    fn restart(&mut self, stopped_cleanly: bool) {
        let crash = if stopped_cleanly || self.random.chance(1, 2) { Crash::PowerCut } else { Crash::Kill };
        self.note(|| format!("{crash:?}, stopped cleanly: {stopped_cleanly}"));
        self.disk.restart(crash);
        self.coverage.crashes += u64::from(!stopped_cleanly);
        self.coverage.clean_stops += u64::from(stopped_cleanly);
    }

    /// Takes a copy of the disk apart: this is what a restart has to bring back, and the model goes on from there.
    fn inspect(&mut self, stop: Stop) -> Result<(), String> {
        if !self.opened
            && let Some(before) = self.uncertain.take()
        {
            self.model = before; // nobody has seen what the last stop left, and it may be less now
        }
        self.uncertain = (stop != Stop::Clean).then(|| self.model.clone());
        let found = contents(&self.disk.fork(self.random.next()), &self.makes)?;
        self.coverage.recovered += found.iter().flatten().map(Vec::len).sum::<usize>() as u64;
        self.model.restarted(&found, stop)
    }

    /// One life, to its clean end.
    fn live(&mut self) -> Outcome<()> {
        let broker = open(&self.disk).map_err(|error| match self.disk.is_down() {
            true => End::Crash,
            false => End::Broken(format!("P1: does not start: {error}")),
        })?;
        self.opened = true;
        self.model.lenient = false;
        let mut life = Life::new(broker)?;
        self.set_up(&mut life)?;
        for _ in 0..self.random.below(250) {
            self.act(&mut life)?;
        }
        self.end(life)
    }

    /// Declares what the program uses, as every client does when it starts. What is there must be what it was.
    fn set_up(&mut self, life: &mut Life) -> Outcome<()> {
        for (client, channel) in Self::channels(PUBLISHER) {
            self.open_channel(life, client, channel);
        }
        for (name, kind) in [(FAN, "fanout"), (KEYS, "direct")] {
            let declared = life.clients[PUBLISHER].connection.declare_exchange(exchange(name, kind));
            self.after(life, declared, |_, _| Ok(()))?;
        }
        for at in 0..QUEUES {
            self.declare(life, at)?;
        }
        self.commit(life)?;
        for (client, channel) in CONSUMERS.into_iter().flat_map(Self::channels) {
            self.open_channel(life, client, channel);
        }
        let publisher = channel_of(life, (PUBLISHER, 1));
        publisher.select_confirms().map_err(|refusal| refusal.to_string())?;
        Ok(())
    }

    fn channels(client: usize) -> impl Iterator<Item = (usize, u16)> {
        (1..=CHANNELS).map(move |channel| (client, channel))
    }

    fn open_channel(&mut self, life: &mut Life, client: usize, channel: u16) {
        let id = life.clients[client].open(channel);
        self.model.open_channel(id);
    }

    fn end(&mut self, mut life: Life) -> Outcome<()> {
        self.note(|| "clean stop".into());
        for client in 0..life.clients.len() {
            while let Some(&number) = life.clients[client].channels.keys().next() {
                self.close_channel(&mut life, (client, number))?;
            }
        }
        self.closing = true;
        match life.broker.close() {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&self, error: &CommitError) -> End {
        match self.disk.is_down() {
            true => End::Crash,
            false => End::Broken(format!("stopped without a cause: {error}")),
        }
    }

    fn act(&mut self, life: &mut Life) -> Outcome<()> {
        match self.random.below(40) {
            0..13 => self.publish(life),
            13..16 => self.commit(life),
            16..18 => self.settle_log(life),
            18 => self.start_consumers(life),
            19..21 => self.stop_consumer(life),
            21..26 => self.settle(life),
            26..30 => self.get(life),
            30..34 => self.pass_time(life),
            34 => self.redeclare(life),
            35 => self.transaction(life),
            36 => self.pause(life),
            37 => self.limit(life),
            38 if self.random.chance(1, 6) => self.purge(life),
            38 if self.random.chance(1, 3) => self.reopen_channel(life),
            38 => self.recover(life),
            _ => self.pass_time(life),
        }
    }

    /// The broker has done something: the model does the same, and both must agree. `apply` gets what the broker
    /// answered; `None` when the disk has crashed under it.
    fn after<T>(
        &mut self,
        life: &mut Life,
        answer: Result<T, Refusal>,
        apply: impl FnOnce(&mut Model, Option<T>) -> Result<(), String>,
    ) -> Outcome<()> {
        let down = self.disk.is_down();
        let answer = match answer {
            Ok(answer) => Some(answer),
            Err(_) if down => None,
            Err(refusal) => return Err(End::Broken(refusal.to_string())),
        };
        self.model.lenient = down;
        let rooms = life.rooms();
        self.coverage.deliveries += life.collect(&mut self.model)?;
        apply(&mut self.model, answer)?;
        self.model.check_quiet(&|connection| rooms[connection])?;
        if down { Err(End::Crash) } else { self.resume(life) }
    }

    /// Connections that were full have been read: their consumers go on.
    fn resume(&mut self, life: &mut Life) -> Outcome<()> {
        let reading = life.clients.iter().filter(|client| !client.inbox.is_paused());
        let stalled: Vec<_> = reading.flat_map(|client| client.connection.port.take_stalled()).collect();
        if stalled.is_empty() {
            return Ok(());
        }
        let mut batch = self.batch();
        life.broker.resume(stalled, &mut batch);
        life.broker.finish(&mut batch);
        self.after(life, Ok(()), |model, _| model.resume())
    }

    fn batch(&self) -> Batch {
        Batch::at(self.model.now_ms)
    }

    fn new_letter(&mut self) -> Letter {
        let number = self.next_number;
        self.next_number += 1;
        let len = match self.random.below(10) {
            0 => self.random.below(5000),
            1..4 => self.random.below(400),
            _ => self.random.below(30),
        };
        let (exchange, key) = match self.random.below(10) {
            0 => (FAN, String::new()),
            1..3 => (KEYS, draw_key(&mut self.random)),
            _ => ("", queue_name(self.random.below(QUEUES as u64 + 1) as usize)),
        };
        Letter {
            number,
            body_len: 8 + len as usize,
            exchange: exchange.to_owned(),
            key,
            persistent: self.random.chance(3, 4),
            priority: self.random.below(5) as u8,
            expiration_ms: self.random.chance(1, 5).then(|| self.random.below(3) * self.random.below(800)),
            deaths: Vec::new(),
            first: None,
            last: None,
            attempts: Attempts::default(),
        }
    }

    fn publish(&mut self, life: &mut Life) -> Outcome<()> {
        for _ in 0..1 + self.random.below(4) {
            self.publish_one(life)?;
        }
        Ok(())
    }

    fn publish_one(&mut self, life: &mut Life) -> Outcome<()> {
        let letter = self.new_letter();
        let mandatory = self.random.chance(1, 3);
        self.note(|| format!("publish {letter:?}"));
        let mut batch = self.batch();
        let sent = send(channel_of(life, (PUBLISHER, 1)), &letter, mandatory, &mut batch);
        life.broker.finish(&mut batch);
        let mut published = None;
        self.after(life, sent, |model, _| {
            published = Some(model.publish(&letter)?);
            Ok(())
        })?;
        let published = published.unwrap_or_default();
        let expected = if mandatory && !published.routed { vec![letter.number] } else { Vec::new() };
        let returned = std::mem::take(&mut life.returned);
        if returned != expected {
            return Err(End::Broken(format!("{returned:?} came back, not {expected:?}")));
        }
        self.coverage.returned += returned.len() as u64;
        life.awaits(published);
        self.judge(life)
    }

    fn judge(&mut self, life: &mut Life) -> Outcome<()> {
        let (confirmed, refused) = life.judge(&self.model.ledger)?;
        self.coverage.confirmed += confirmed;
        self.coverage.refused += refused;
        Ok(())
    }

    fn commit(&mut self, life: &mut Life) -> Outcome<()> {
        life.broker.store().commit().map_err(|error| self.failed(&error))?;
        self.committed(life)
    }

    fn committed(&mut self, life: &mut Life) -> Outcome<()> {
        self.note(|| "committed".into());
        life.broker.committed();
        if !life.broker.topology_is_durable() {
            return Err(End::Broken("P2: a commit did not make the topology durable".into()));
        }
        self.after(life, Ok(()), |model, _| {
            model.synced();
            Ok(())
        })?;
        self.judge(life)
    }

    /// A log file goes; the store commits before it does that.
    fn settle_log(&mut self, life: &mut Life) -> Outcome<()> {
        let settled = life.broker.settle_oldest().map_err(|error| self.failed(&error))?;
        self.coverage.settled += u64::from(settled);
        if settled { self.committed(life) } else { Ok(()) }
    }

    fn declare(&mut self, life: &mut Life, at: usize) -> Outcome<()> {
        let mut batch = self.batch();
        let is_new = self.model.queues[at].born.is_none();
        let declared = channel_of(life, (PUBLISHER, 1)).declare_queue(declare(&self.makes[at]), &mut batch);
        life.broker.finish(&mut batch);
        self.after(life, declared, |model, answer| {
            let (messages, consumers) = model.declare(at)?;
            match answer.filter(|answer| (answer.messages, answer.consumers) != (messages, consumers)) {
                None => Ok(()),
                Some(answer) => {
                    Err(format!("{answer:?}, there are {messages} messages, {consumers} consumers"))
                }
            }
        })?;
        if is_new { self.bind(life, at) } else { Ok(()) }
    }

    fn bind(&mut self, life: &mut Life, at: usize) -> Outcome<()> {
        for (exchange, key) in self.makes[at].bindings.clone() {
            let mut batch = self.batch();
            let binding = bind(exchange, &key, &self.makes[at].name);
            let bound = channel_of(life, (PUBLISHER, 1)).bind_queue(binding, &mut batch);
            life.broker.finish(&mut batch);
            self.after(life, bound, |_, _| Ok(()))?;
        }
        Ok(())
    }

    /// What went because nobody used it is made again; of the others the counts are compared.
    fn redeclare(&mut self, life: &mut Life) -> Outcome<()> {
        let at = self.any_queue();
        self.note(|| format!("declare q{at}"));
        let is_new = self.model.queues[at].born.is_none();
        self.declare(life, at)?;
        if is_new { self.commit(life) } else { Ok(()) }
    }

    fn any_queue(&mut self) -> usize {
        self.random.below(QUEUES as u64) as usize
    }

    /// A queue that there is.
    fn some_queue(&mut self) -> Option<usize> {
        let at = self.any_queue();
        self.model.queues[at].born.map(|_| at)
    }

    fn purge(&mut self, life: &mut Life) -> Outcome<()> {
        let Some(at) = self.some_queue() else { return Ok(()) };
        self.note(|| format!("purge q{at}"));
        let purged = channel_of(life, (PUBLISHER, 1)).purge_queue(&self.makes[at].name);
        self.after(life, purged, |model, purged| {
            let expected = model.purge(at);
            match purged.filter(|purged| *purged != expected) {
                None => Ok(()),
                Some(purged) => Err(format!("purged {purged}, not {expected}")),
            }
        })
    }

    /// Time passes; whenever a deadline comes the broker looks at it.
    fn pass_time(&mut self, life: &mut Life) -> Outcome<()> {
        let until_ms = self.model.now_ms + self.random.below(1200);
        self.note(|| format!("it becomes {until_ms}"));
        loop {
            let deadlines = [self.model.next_deadline_ms(), life.broker.deadlines.next_ms()];
            let next_ms = deadlines.into_iter().flatten().min();
            let Some(next_ms) = next_ms.filter(|next_ms| *next_ms <= until_ms) else { break };
            self.model.now_ms = self.model.now_ms.max(next_ms);
            let mut batch = self.batch();
            life.broker.meet_deadlines(&mut batch);
            life.broker.finish(&mut batch);
            self.after(life, Ok(()), |model, _| model.meet_deadlines())?;
        }
        self.model.now_ms = until_ms;
        Ok(())
    }
}

fn channel_of(life: &mut Life, (client, number): ChannelId) -> &mut Channel {
    life.clients[client]
        .channels
        .get_mut(&number)
        .expect("the program only names channels that it has opened")
}

fn send(channel: &mut Channel, letter: &Letter, mandatory: bool, batch: &mut Batch) -> Result<(), Refusal> {
    let (properties, body) = (letter.properties(), letter.body());
    let message = MessageView {
        exchange: &letter.exchange,
        routing_key: &letter.key,
        properties: RawProperties::from_validated(&properties),
        body: &body,
    };
    channel.publish(Publish { message, mandatory, immediate: false }, batch)
}
