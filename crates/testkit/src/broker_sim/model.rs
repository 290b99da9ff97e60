//! What the broker has to do: a second, simple telling of its rules, in step with it.
//!
//! Each operation is done to the broker first and then to the model, which is deterministic but for one thing: which of
//! several consumers gets a message. That the broker decides; the model only asks whether it might. Everything
//! else (which message, to whom it is refused, where it goes when it dies, what it says then, what is left) the
//! model knows beforehand.

use std::collections::{BTreeMap, VecDeque};

use super::client::Delivered;
pub(super) use super::consumers::ChannelId;
use super::consumers::{ChannelModel, Clients, ConsumerModel, Held};
use super::ledger::{Found, Ledger, Stop};
use super::letter::{Attempts, Letter, Reason};
use super::make::{FAN, KEYS, Make, Overflow};
use super::queue::{Copy, CopyId, QueueModel};

/// What became of a publish.
#[derive(Debug, Default)]
pub(super) struct Published {
    pub(super) routed: bool,
    /// Some queue was full: its publisher hears a nack.
    pub(super) refused: bool,
    /// What has to be durable before it may be confirmed.
    pub(super) copies: Vec<CopyId>,
}

/// What a client does with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ack,
    /// It comes back; that counts as a failure.
    Requeue,
    /// It comes back, unprocessed.
    Return,
    Discard,
}

/// A message that `basic.get` answered.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) letter: Letter,
    pub(super) redelivered: bool,
    pub(super) tag: u64,
    pub(super) remaining: u64,
}

/// A message given up, to be sent on when the operation is over.
#[derive(Clone, Debug)]
struct Dead {
    queue: usize,
    letter: Letter,
    /// It was in the queue; `None` when it was refused.
    copy: Option<CopyId>,
    reason: Reason,
}

/// The broker as it should be.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) now_ms: u64,
    pub(super) queues: Vec<QueueModel>,
    pub(super) clients: Clients,
    pub(super) ledger: Ledger,
    deaths: BTreeMap<Reason, u64>,
    /// The disk has crashed under the broker: what it did of this operation is unknown.
    pub(super) lenient: bool,
    /// What consumers have received during this operation, by queue.
    heard: BTreeMap<usize, VecDeque<Delivered>>,
    /// The queues of those in the broker's order: nobody's promise, but what they send on may meet in a third queue.
    heard_in_turn: Vec<usize>,
    buried: VecDeque<Dead>,
    next_copy: CopyId,
    next_born: u64,
}

impl Model {
    pub(super) fn new(makes: Vec<Make>, now_ms: u64) -> Self {
        Self { now_ms, queues: makes.into_iter().map(QueueModel::new).collect(), ..Self::default() }
    }

    /// A queue is declared: made, or only looked at. Answers how many messages and consumers it has.
    pub(super) fn declare(&mut self, at: usize) -> Result<(u64, u32), String> {
        if self.queues[at].born.is_none() {
            self.next_born += 1;
            self.queues[at].born = Some(self.next_born);
            self.queues[at].synced = false;
        }
        self.queues[at].used_at_ms = self.now_ms;
        self.pump(at)?;
        let counts = (self.queues[at].ready.len() as u64, self.queues[at].consumers.len() as u32);
        self.bury()?;
        Ok(counts)
    }

    /// What a consumer received; it is judged when the model gets there.
    pub(super) fn hear(&mut self, delivered: Delivered) -> Result<(), String> {
        let Some(consumer) = self.clients.consumers.get(&delivered.consumer) else {
            return Err(format!("a delivery for {}, which is no consumer", delivered.consumer));
        };
        let heard = self.heard.entry(consumer.queue).or_default();
        if heard.is_empty() {
            self.heard_in_turn.retain(|at| *at != consumer.queue);
            self.heard_in_turn.push(consumer.queue);
        }
        heard.push_back(delivered);
        Ok(())
    }

    pub(super) fn publish(&mut self, letter: &Letter) -> Result<Published, String> {
        let published = self.offer(letter, None)?;
        self.bury()?;
        Ok(published)
    }

    /// Publishes and settlements become real together.
    pub(super) fn commit(
        &mut self,
        letters: &[Letter],
        settled: Vec<(Vec<Held>, Verdict)>,
    ) -> Result<(), String> {
        let transaction = self.next_copy;
        for letter in letters {
            self.offer(letter, Some(transaction))?;
        }
        for (held, verdict) in settled {
            self.apply(held, verdict)?;
        }
        self.bury()
    }

    pub(super) fn settle(&mut self, held: Vec<Held>, verdict: Verdict) -> Result<(), String> {
        self.apply(held, verdict)?;
        self.bury()
    }

    /// `basic.get`: what it has to answer is compared with what it did.
    pub(super) fn get(
        &mut self,
        (channel, at): (ChannelId, usize),
        no_ack: bool,
        got: Option<Fetched>,
    ) -> Result<(), String> {
        self.queues[at].used_at_ms = self.now_ms;
        self.queues[at].bring_back(self.now_ms);
        self.expire(at);
        match (self.queues[at].ready.pop_first(), got) {
            (None, None) => {}
            (Some((rank, copy)), None) => {
                let number = copy.letter.number;
                self.queues[at].ready.insert(rank, copy);
                self.unless_lenient(format!("q{at} gave nothing, message {number} should wait there"))?;
            }
            (None, Some(got)) => return Err(format!("q{at} should be empty and gave {got:?}")),
            (Some((_, copy)), Some(got)) => {
                let left = self.queues[at].ready.len() as u64;
                check_copy(at, &copy, (&got.letter, got.redelivered))?;
                if got.remaining != left {
                    return Err(format!("q{at} says that {} wait, not {left}", got.remaining));
                }
                self.handed((channel, got.tag), at, copy, None, no_ack)?;
            }
        }
        self.pump(at)?;
        self.bury()
    }

    /// Everything that waits is dropped; answers how many messages that are.
    pub(super) fn purge(&mut self, at: usize) -> u64 {
        let ready = std::mem::take(&mut self.queues[at].ready).into_values();
        let waiting = std::mem::take(&mut self.queues[at].waiting).into_values();
        let purged = ready.chain(waiting).map(|copy| self.ledger.ended(copy.id, Vec::new()));
        purged.count() as u64
    }

    pub(super) fn add_consumer(&mut self, tag: &str, consumer: ConsumerModel) {
        let queue = &mut self.queues[consumer.queue];
        queue.consumers.push(tag.to_owned());
        if queue.make.single_active {
            queue.active.get_or_insert_with(|| tag.to_owned());
        }
        self.clients.consumers.insert(tag.to_owned(), consumer);
    }

    /// A new consumer may have what waits.
    pub(super) fn start(&mut self, at: usize) -> Result<(), String> {
        self.pump(at)?;
        self.bury()
    }

    /// `basic.qos`: a limit for single consumers ends the one for the channel.
    pub(super) fn limit(&mut self, id: ChannelId, count: u64, global: bool) -> Result<(), String> {
        if let Some(channel) = self.clients.channels.get_mut(&id) {
            channel.limit = if global { count } else { 0 };
            channel.prefetch = if global { channel.prefetch } else { count };
        }
        self.resume()
    }

    pub(super) fn cancel(&mut self, tag: &str) -> Result<(), String> {
        self.remove_consumer(tag)?;
        self.bury()
    }

    /// What the channel had goes back, then its consumers end.
    pub(super) fn close_channel(&mut self, id: ChannelId) -> Result<(), String> {
        let channel = self.clients.channels.remove(&id).unwrap_or_default();
        self.apply(channel.outstanding.into_values().collect(), Verdict::Requeue)?;
        let tags: Vec<String> = self.clients.consumers.keys().cloned().collect();
        for tag in tags {
            if self.clients.consumers.get(&tag).is_some_and(|consumer| consumer.channel == id) {
                self.remove_consumer(&tag)?;
            }
        }
        self.bury()
    }

    pub(super) fn open_channel(&mut self, id: ChannelId) {
        self.clients.channels.insert(id, ChannelModel::default());
    }

    /// Somebody may go on who had no room or no credit.
    pub(super) fn resume(&mut self) -> Result<(), String> {
        self.pump_heard()?;
        self.bury()
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.queues.iter().filter_map(QueueModel::deadline_ms).min()
    }

    /// The clock has come to deadlines: the earliest first, of two at a time the queue that was declared first.
    pub(super) fn meet_deadlines(&mut self) -> Result<(), String> {
        let mut due: Vec<(u64, Option<u64>, usize)> = Vec::new();
        for (at, queue) in self.queues.iter().enumerate() {
            let deadline_ms = queue.deadline_ms().filter(|at_ms| *at_ms <= self.now_ms);
            due.extend(deadline_ms.map(|at_ms| (at_ms, queue.born, at)));
        }
        due.sort_unstable();
        for (_, _, at) in due {
            let unused = self.queues[at].unused_at_ms().is_some_and(|at_ms| at_ms <= self.now_ms);
            self.pump(at)?;
            if unused {
                self.delete(at);
            }
        }
        self.bury()
    }

    /// Nothing more happens: all deliveries were right, and nobody is left who could have one more. `has_room`
    /// says whether a connection takes more.
    pub(super) fn check_quiet(&mut self, has_room: &dyn Fn(usize) -> bool) -> Result<(), String> {
        if self.lenient {
            return self.forgive();
        }
        let more = self.heard.iter().find_map(|(at, heard)| Some((at, heard.front()?)));
        if let Some((at, Delivered { consumer, tag, body, .. })) = more {
            let number = body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let waiting: Vec<_> = self.queues[*at].ready.values().map(|copy| copy.letter.number).collect();
            return Err(format!(
                "{consumer} got {number} as {tag} from q{at}, which should not be; there wait {waiting:?}"
            ));
        }
        for at in 0..self.queues.len() {
            let Some((_, copy)) = self.queues[at].ready.first_key_value() else { continue };
            let has_room = |tag: &String| has_room(self.clients.consumers[tag].channel.0);
            if let Some(tag) = self.takers(at).find(|tag| has_room(tag)) {
                return Err(format!(
                    "message {} of q{at} waits, although {tag} could take it",
                    copy.letter.number
                ));
            }
        }
        Ok(())
    }

    /// The broker stopped and was looked at. `found` is what each queue holds, `None` where there is none.
    pub(super) fn restarted(&mut self, found: &[Option<Vec<Found>>], stop: Stop) -> Result<(), String> {
        for (at, found) in found.iter().enumerate() {
            let queue = &mut self.queues[at];
            let should_be = queue.born.is_some() && queue.make.durable;
            let synced = queue.synced || !queue.make.durable || stop == Stop::Clean;
            if synced && should_be != found.is_some() {
                return Err(format!("P2: q{at} exists: {}, and should: {should_be}", found.is_some()));
            }
            if found.is_none() {
                self.delete(at);
            } else if self.queues[at].born.is_none() {
                self.next_born += 1;
                self.queues[at].born = Some(self.next_born);
            }
        }
        let copies = self.ledger.recover(found, stop)?;
        for (queue, copies) in self.queues.iter_mut().zip(copies) {
            queue.ready = copies.into_iter().map(|copy| (copy.rank, copy)).collect();
            queue.unacked.clear();
            queue.waiting.clear();
            queue.consumers.clear();
            queue.active = None;
        }
        self.clients = Clients::default();
        Ok(())
    }

    /// How many messages were rejected, expired, too many and failed too often.
    pub(super) fn deaths(&self) -> [u64; 4] {
        Reason::ALL.map(|reason| self.deaths.get(&reason).copied().unwrap_or_default())
    }

    /// A commit has made everything durable.
    pub(super) fn synced(&mut self) {
        self.ledger.synced();
        self.queues.iter_mut().for_each(|queue| queue.synced = true);
    }

    fn route(&self, letter: &Letter) -> Vec<usize> {
        let leads = |at: &usize| match letter.exchange.as_str() {
            "" => letter.key == self.queues[*at].make.name,
            FAN => self.queues[*at].make.bindings.iter().any(|(exchange, _)| *exchange == FAN),
            KEYS => self.queues[*at].make.bindings.contains(&(KEYS, letter.key.clone())),
            _ => false,
        };
        let mut targets: Vec<usize> =
            (0..self.queues.len()).filter(|at| self.queues[*at].born.is_some()).filter(leads).collect();
        targets.sort_by_key(|at| self.queues[*at].born);
        targets
    }

    fn offer(&mut self, letter: &Letter, transaction: Option<u64>) -> Result<Published, String> {
        let targets = self.route(letter);
        let mut published = Published { routed: !targets.is_empty(), ..Published::default() };
        for at in targets {
            match self.arrive(at, letter, transaction)? {
                Some(copy) => published.copies.push(copy),
                None => published.refused = true,
            }
        }
        Ok(published)
    }

    /// A message comes to a queue; `None` when that is full and refuses it.
    fn arrive(
        &mut self,
        at: usize,
        letter: &Letter,
        transaction: Option<u64>,
    ) -> Result<Option<CopyId>, String> {
        let queue = &mut self.queues[at];
        if queue.refuses(letter) {
            if queue.make.overflow == Overflow::RejectDeadLetter {
                let reason = Reason::MaxLen;
                self.buried.push_back(Dead { queue: at, letter: letter.clone(), copy: None, reason });
            }
            return Ok(None);
        }
        self.next_copy += 1;
        let id = self.next_copy;
        let copy = queue.copy(id, letter.clone(), self.now_ms);
        if queue.make.durable && (letter.persistent || queue.make.quorum) {
            self.ledger.begun(at, &copy, transaction);
        }
        let Some(copy) = self.hand(at, copy)? else { return Ok(Some(id)) };
        // A message that may not wait at all expires at once, wherever in the queue it would stand.
        if copy.expires_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.die(at, copy, Reason::Expired);
            return Ok(Some(id));
        }
        self.queues[at].ready.insert(copy.rank, copy);
        self.drop_excess(at);
        self.expire(at);
        Ok(Some(id))
    }

    fn drop_excess(&mut self, at: usize) {
        while let Some(copy) = self.queues[at].take_excess() {
            self.die(at, copy, Reason::MaxLen);
        }
    }

    fn expire(&mut self, at: usize) {
        while let Some(copy) = self.queues[at].take_expired(self.now_ms) {
            self.die(at, copy, Reason::Expired);
        }
    }

    fn die(&mut self, at: usize, copy: Copy, reason: Reason) {
        self.buried.push_back(Dead { queue: at, letter: copy.letter, copy: Some(copy.id), reason });
    }

    /// Sends on what queues have given up during the operation, oldest death first.
    fn bury(&mut self) -> Result<(), String> {
        while let Some(dead) = self.buried.pop_front() {
            *self.deaths.entry(dead.reason).or_default() += 1;
            let heirs = self.send_on(&dead)?;
            if let Some(copy) = dead.copy {
                self.ledger.ended(copy, heirs);
            }
        }
        Ok(())
    }

    fn send_on(&mut self, dead: &Dead) -> Result<Vec<CopyId>, String> {
        let make = self.queues[dead.queue].make.clone();
        let Some((exchange, key)) = &make.dead_letters else { return Ok(Vec::new()) };
        let letter = dead.letter.dies(&make.name, dead.reason, self.now_ms, (exchange, key.as_deref()));
        let mut heirs = Vec::new();
        for at in self.route(&letter) {
            let goes_round =
                dead.reason != Reason::Rejected && letter.has_gone_round(&self.queues[at].make.name);
            if !goes_round {
                heirs.extend(self.arrive(at, &letter, None)?);
            }
        }
        // What does not outlive the process is no heir to what does.
        heirs.retain(|heir| self.ledger.knows(*heir));
        Ok(heirs)
    }

    /// Hands out what waits to those that can take it.
    fn pump(&mut self, at: usize) -> Result<(), String> {
        self.queues[at].bring_back(self.now_ms);
        self.drop_excess(at);
        self.expire(at);
        while let Some((rank, copy)) = self.queues[at].ready.pop_first() {
            match self.hand(at, copy)? {
                None => self.expire(at),
                Some(copy) => {
                    self.queues[at].ready.insert(rank, copy);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Queues that the operation did not name, but whose consumers got something: a limit of a channel was lifted.
    fn pump_heard(&mut self) -> Result<(), String> {
        let heard = &self.heard;
        self.heard_in_turn.retain(|at| heard.get(at).is_some_and(|heard| !heard.is_empty()));
        self.heard_in_turn.clone().into_iter().try_for_each(|at| self.pump(at))
    }

    /// Gives a message to the consumer that got it, and back when there is none: whether that was right is judged when
    /// all is quiet, since those that could have it may have no room, or get it a moment later.
    fn hand(&mut self, at: usize, copy: Copy) -> Result<Option<Copy>, String> {
        let next = self.heard.get(&at).and_then(VecDeque::front).cloned();
        let Some(delivered) = next.filter(|next| self.takers(at).any(|tag| *tag == next.consumer)) else {
            return Ok(Some(copy));
        };
        let Delivered { channel, tag, consumer, redelivered, exchange, key, properties, body } = &delivered;
        let letter = Letter::read(exchange, key, properties, body)?;
        if let Err(wrong) = check_copy(at, &copy, (&letter, *redelivered)) {
            self.unless_lenient(format!("{consumer} on {channel:?}: {wrong}"))?;
            return Ok(Some(copy));
        }
        self.heard.get_mut(&at).map(VecDeque::pop_front);
        let no_ack = self.clients.consumers[consumer].no_ack;
        self.handed((*channel, *tag), at, copy, Some(consumer), no_ack)?;
        Ok(None)
    }

    fn handed(
        &mut self,
        (channel, tag): (ChannelId, u64),
        at: usize,
        copy: Copy,
        consumer: Option<&String>,
        no_ack: bool,
    ) -> Result<(), String> {
        let queue = &mut self.queues[at];
        self.ledger.delivered(copy.id);
        if no_ack {
            self.ledger.ended(copy.id, Vec::new());
            return self.clients.tagged(channel, tag, None);
        }
        let born = queue.born.unwrap_or_default();
        let held = Held { queue: at, born, rank: copy.rank, consumer: consumer.cloned() };
        queue.unacked.insert(copy.rank, copy);
        if let Some(consumer) = consumer.and_then(|tag| self.clients.consumers.get_mut(tag)) {
            consumer.in_flight += 1;
        }
        self.clients.tagged(channel, tag, Some(held))
    }

    /// The consumers of a queue that can take a message, as far as limits go.
    fn takers(&self, at: usize) -> impl Iterator<Item = &String> {
        let queue = &self.queues[at];
        let is_served = move |tag: &&String| !queue.make.single_active || queue.active.as_ref() == Some(*tag);
        queue.consumers.iter().filter(is_served).filter(|tag| self.clients.has_credit(tag))
    }

    fn remove_consumer(&mut self, tag: &str) -> Result<(), String> {
        let Some(consumer) = self.clients.consumers.remove(tag) else { return Ok(()) };
        let queue = &mut self.queues[consumer.queue];
        queue.consumers.retain(|other| other != tag);
        queue.used_at_ms = self.now_ms;
        if queue.active.as_deref() == Some(tag) {
            queue.active = self.clients.next_active(&queue.consumers);
        }
        self.pump(consumer.queue)
    }

    /// Settles deliveries, those of one queue at a time.
    fn apply(&mut self, mut held: Vec<Held>, verdict: Verdict) -> Result<(), String> {
        if matches!(verdict, Verdict::Requeue | Verdict::Return) {
            held.sort_by_key(|held| (held.born, held.rank.0.0, held.rank.1));
        }
        for run in held.chunk_by(|a, b| (a.queue, a.born) == (b.queue, b.born)) {
            let at = run[0].queue;
            if self.queues[at].born != Some(run[0].born) {
                continue; // the queue is gone, and its messages with it
            }
            run.iter().for_each(|held| self.apply_one(held, verdict));
            self.pump(at)?;
        }
        self.pump_heard()
    }

    fn apply_one(&mut self, held: &Held, verdict: Verdict) {
        self.clients.released(held);
        let queue = &mut self.queues[held.queue];
        let Some(copy) = queue.unacked.remove(&held.rank) else { return };
        match verdict {
            Verdict::Ack => self.ledger.ended(copy.id, Vec::new()),
            Verdict::Discard => self.die(held.queue, copy, Reason::Rejected),
            Verdict::Requeue => self.comes_back(held.queue, copy, true),
            Verdict::Return => self.comes_back(held.queue, copy, false),
        }
    }

    /// A delivery came to nothing: the message is ready again, has to wait, or has failed too often.
    fn comes_back(&mut self, at: usize, mut copy: Copy, failed: bool) {
        let queue = &mut self.queues[at];
        copy.redelivered = true;
        if !queue.make.counts() {
            queue.ready.insert(copy.rank, copy);
            return;
        }
        let Attempts { failed: failures, acquired } = &mut copy.letter.attempts;
        *acquired += 1;
        *failures += i64::from(failed);
        let failures = *failures;
        if queue.make.failures_max().is_some_and(|max| failures > max) {
            return self.die(at, copy, Reason::DeliveryLimit);
        }
        self.ledger.counted(copy.id, copy.letter.attempts);
        match queue.make.retry.and_then(|retry| retry.delay_ms(failures, failed)) {
            None => {
                queue.ready.insert(copy.rank, copy);
            }
            Some(delay_ms) => {
                let due_ms = (self.now_ms + delay_ms).min(copy.expires_at_ms.unwrap_or(u64::MAX));
                queue.waiting.insert((due_ms, copy.rank), copy);
            }
        }
    }

    /// A queue goes with all it holds.
    fn delete(&mut self, at: usize) {
        let queue = &mut self.queues[at];
        let ready = std::mem::take(&mut queue.ready).into_values();
        let waiting = std::mem::take(&mut queue.waiting).into_values();
        for copy in ready.chain(waiting).chain(std::mem::take(&mut queue.unacked).into_values()) {
            self.ledger.ended(copy.id, Vec::new());
        }
        if queue.born.take().is_some() {
            queue.synced = false;
        }
    }

    fn unless_lenient(&self, what: String) -> Result<(), String> {
        if self.lenient { Ok(()) } else { Err(what) }
    }

    /// What was received while the disk crashed and does not fit: it may have been the end of a message.
    fn forgive(&mut self) -> Result<(), String> {
        for (at, heard) in std::mem::take(&mut self.heard) {
            for Delivered { exchange, key, properties, body, .. } in heard {
                let letter = Letter::read(&exchange, &key, &properties, &body)?;
                let same = self.queues[at].ready.values().find(|copy| copy.letter == letter);
                if let Some(id) = same.map(|copy| copy.id) {
                    self.ledger.delivered(id);
                    self.ledger.ended(id, Vec::new());
                }
            }
        }
        Ok(())
    }
}

fn check_copy(at: usize, copy: &Copy, (letter, redelivered): (&Letter, bool)) -> Result<(), String> {
    if copy.letter != *letter {
        return Err(format!("q{at} gave\n    {letter:?}\n  instead of\n    {:?}", copy.letter));
    }
    if copy.redelivered != redelivered {
        return Err(format!("P4: q{at} gave {} with the flag {redelivered}", letter.number));
    }
    Ok(())
}
