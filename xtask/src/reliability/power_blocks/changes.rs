//! Changes and transactions while the load goes on, on a connection of their own (P2, P3).
//!
//! ```text
//!   queues        made 1, made 2, made 3, … removed 1, …      answered: there, or gone; asked for only: either
//!   transactions  take token n, publish token n + 1, commit   at any moment exactly one token, not older than the last commit-ok
//! ```

use leveret_testkit::random::Random;
use leveret_wire::Properties;
use leveret_wire::method::{BasicPublish, QueueDeclare, QueueDelete, TxCommit, TxSelect};
use std::net::SocketAddr;

use super::super::client::{Client, Ended};
use super::super::journal::Clock;
use super::super::metadata::Probe;
use super::super::verdict::Verdict;

const TOKENS: &str = "reliability.tokens";
/// Queues that are left standing.
const QUEUES_MAX: u64 = 8;
/// Of those removed, how many are looked for: each costs a connection.
const REMOVED_SOUGHT: usize = 3;

/// What was asked for and answered, each at an entry of the disk's log.
pub(super) struct Changes {
    clock: Clock,
    last_made: u64,
    last_removed: u64,
    notes: Vec<Note>,
}

#[derive(Debug, Clone, Copy)]
struct Note {
    position: usize,
    change: Change,
    answered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Make(u64),
    Remove(u64),
    /// The token gets this number.
    Pass(u64),
}

impl Changes {
    pub(super) fn new(clock: Clock) -> Changes {
        Changes { clock, last_made: 0, last_removed: 0, notes: Vec::new() }
    }

    /// The first token. Nothing is recorded before it is there.
    pub(super) fn begin(&mut self, address: SocketAddr) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        client.call(QueueDeclare { queue: TOKENS, durable: true, ..Default::default() })?;
        client.call(TxSelect)?;
        publish_token(&mut client, 0)?;
        client.call(TxCommit).map(drop)
    }

    /// Goes on until the broker is gone.
    ///
    /// # Errors
    /// The broker does something else than vanish.
    pub(super) fn run(&mut self, address: SocketAddr, mut random: Random) -> Result<(), Ended> {
        match self.run_until_the_end(address, &mut random) {
            Err(Ended::Gone) | Ok(()) => Ok(()),
            Err(ended) => Err(ended),
        }
    }

    fn run_until_the_end(&mut self, address: SocketAddr, random: &mut Random) -> Result<(), Ended> {
        let mut maker = Client::open(address)?;
        let mut passer = Client::open(address)?;
        passer.call(TxSelect)?;
        loop {
            let standing = self.last_made - self.last_removed;
            match random.below(4) {
                0 if standing < QUEUES_MAX => self.make(&mut maker)?,
                0 | 1 if standing > 1 => self.remove(&mut maker)?,
                _ => self.pass(&mut passer)?,
            }
        }
    }

    fn make(&mut self, client: &mut Client) -> Result<(), Ended> {
        // Its outcome is unknown if it is never answered, so the number is taken.
        self.last_made += 1;
        let number = self.last_made;
        self.note(Change::Make(number), false);
        client.call(QueueDeclare { queue: &name(number), durable: true, ..Default::default() })?;
        self.note(Change::Make(number), true);
        Ok(())
    }

    fn remove(&mut self, client: &mut Client) -> Result<(), Ended> {
        self.last_removed += 1;
        let number = self.last_removed;
        self.note(Change::Remove(number), false);
        client.call(QueueDelete { queue: &name(number), ..Default::default() })?;
        self.note(Change::Remove(number), true);
        Ok(())
    }

    fn pass(&mut self, client: &mut Client) -> Result<(), Ended> {
        let (number, tag) =
            client.get_numbered(TOKENS)?.ok_or_else(|| Ended::Garbled("there is no token".to_owned()))?;
        client.ack(tag, false);
        publish_token(client, number + 1)?;
        self.note(Change::Pass(number + 1), false);
        client.call(TxCommit)?;
        self.note(Change::Pass(number + 1), true);
        Ok(())
    }

    fn note(&mut self, change: Change, answered: bool) {
        let position = (self.clock)();
        self.notes.push(Note { position, change, answered });
    }

    pub(super) fn close(self) -> Answers {
        Answers(self.notes)
    }
}

/// The notes of one recording.
pub(super) struct Answers(Vec<Note>);

impl Answers {
    /// What a broker made of them, `until` entries having been asked for.
    pub(super) fn look_up(
        &self,
        until: usize,
        address: SocketAddr,
        verdict: &mut Verdict,
    ) -> Result<(), Ended> {
        let known: Vec<Note> = self.0.iter().copied().filter(|note| note.position <= until).collect();
        let has =
            |change, answered| known.iter().any(|note| (note.change, note.answered) == (change, answered));
        let mut probe = Probe::open(address)?;
        let made = known.iter().filter_map(|note| match note.change {
            Change::Make(number) if note.answered => Some(number),
            _ => None,
        });
        for number in made.filter(|number| !has(Change::Remove(*number), false)) {
            verdict.demand(probe.has_queue(&name(number))?, "an answered queue is missing", number);
        }
        let removed = known.iter().rev().filter_map(|note| match note.change {
            Change::Remove(number) if note.answered => Some(number),
            _ => None,
        });
        for number in removed.take(REMOVED_SOUGHT) {
            verdict.demand(!probe.has_queue(&name(number))?, "a removed queue is back", number);
        }
        let newest = |wanted: bool| {
            let passed = known.iter().filter_map(|note| match note.change {
                Change::Pass(number) if note.answered == wanted => Some(number),
                _ => None,
            });
            passed.max().unwrap_or(0)
        };
        let tokens = tokens(address)?;
        let range = newest(true)..=newest(false);
        let case = format!("tokens {tokens:?}, not one of {range:?}");
        verdict.demand(matches!(tokens[..], [one] if range.contains(&one)), "half a transaction", case);
        Ok(())
    }
}

fn name(number: u64) -> String {
    format!("reliability.made.{number}")
}

fn publish_token(client: &mut Client, number: u64) -> Result<(), Ended> {
    let publish = BasicPublish { routing_key: TOKENS, ..Default::default() };
    let properties = Properties {
        delivery_mode: Some(2),
        message_id: Some(format!("{number:x}").into_bytes()),
        ..Default::default()
    };
    client.publish(publish, &properties, b"token")
}

fn tokens(address: SocketAddr) -> Result<Vec<u64>, Ended> {
    let mut client = Client::open(address)?;
    let mut found = Vec::new();
    while let Some((number, _)) = client.get_numbered(TOKENS)? {
        found.push(number);
    }
    Ok(found)
}
