//! The load: confirming publishers and acknowledging consumers, at full speed until the broker is gone.

use anyhow::Result;
use leveret_testkit::random::Random;
use leveret_wire::method::BasicQos;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::client::{CALL_TIMEOUT, Client, Delivery, Ended, Event};
use super::ledger::Ledger;
use super::message::{Message, QUEUES, queue_name, queue_number};
use super::verdict::Verdict;

const PUBLISHERS: usize = 4;
const CONSUMERS: usize = 4;
/// Unconfirmed messages of one publisher.
const IN_FLIGHT_MAX: usize = 64;
const PREFETCH: u16 = 100;
/// Deliveries a consumer sits on, so that every kill finds some.
const KEPT_MAX: usize = 20;
/// Of all queues: a drain must not take longer than the load.
const BACKLOG_MAX: i64 = 20_000;
/// How long a silent broker is waited for before looking whether to stop.
const TICK: Duration = Duration::from_millis(50);
/// `connection-forced`: what an orderly stop says.
const CONNECTION_FORCED: u16 = 320;

/// What lasts over all runs of a campaign.
pub(super) struct Load {
    seed: u64,
    ledger: Mutex<Ledger>,
    last_id: AtomicU64,
    stop: AtomicBool,
    /// Publishers pause above this many messages in all queues.
    backlog_max: i64,
}

impl Load {
    pub(super) fn new(seed: u64) -> Load {
        Load::with_backlog_max(seed, BACKLOG_MAX)
    }

    /// One whose queues hardly ever hold more than `backlog_max` messages.
    pub(super) fn with_backlog_max(seed: u64, backlog_max: i64) -> Load {
        Load { backlog_max, ..Load::continued(seed, Ledger::new()) }
    }

    /// One that only takes out what `ledger` knows of.
    pub(super) fn continued(seed: u64, ledger: Ledger) -> Load {
        Load {
            seed,
            ledger: Mutex::new(ledger),
            last_id: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            backlog_max: BACKLOG_MAX,
        }
    }

    /// The ledger, for a moment.
    pub(super) fn with_ledger<T>(&self, use_it: impl FnOnce(&mut Ledger) -> T) -> T {
        use_it(&mut self.ledger.lock().expect("no thread panics while it holds the ledger"))
    }

    pub(super) fn into_verdict(self) -> Verdict {
        self.into_ledger().verdict()
    }

    pub(super) fn into_ledger(self) -> Ledger {
        self.ledger.into_inner().expect("no thread panics while it holds the ledger")
    }

    /// The next message.
    pub(super) fn next_message(&self) -> Message {
        Message::new(self.seed, self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Loads the broker while `during` goes on, which has to end the broker.
    ///
    /// # Errors
    /// Those of `during`.
    pub(super) fn run<T>(&self, address: SocketAddr, during: impl FnOnce() -> Result<T>) -> Result<T> {
        self.stop.store(false, Ordering::Relaxed);
        let run_seed = self.seed ^ self.last_id.load(Ordering::Relaxed);
        std::thread::scope(|scope| {
            for publisher in 0..PUBLISHERS {
                scope.spawn(move || self.note_end("publisher", self.publish(address, publisher)));
            }
            for consumer in 0..CONSUMERS {
                let random = Random::new(run_seed ^ (consumer as u64) << 56);
                scope.spawn(move || self.note_end("consumer", self.consume(address, consumer, random)));
            }
            let outcome = during();
            self.stop.store(true, Ordering::Relaxed);
            outcome
        })
    }

    fn note_end(&self, who: &str, end: Result<(), Ended>) {
        match end {
            Ok(()) | Err(Ended::Gone | Ended::Closed { code: CONNECTION_FORCED, .. }) => {}
            Err(ended) => {
                self.with_ledger(|ledger| ledger.fault("a client was let down", format!("{who}: {ended}")))
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn publish(&self, address: SocketAddr, publisher: usize) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        client.select_confirms()?;
        let mut unconfirmed = Unconfirmed::default();
        while !self.stopped() {
            while unconfirmed.len() < IN_FLIGHT_MAX && self.may_publish() {
                let message = self.next_message();
                self.with_ledger(|ledger| ledger.sent(message, publisher));
                message.publish(&mut client)?;
                unconfirmed.push(message.id);
            }
            client.flush()?;
            let mut event = client.next(TICK)?;
            while let Some(arrived) = event {
                self.confirm(&mut unconfirmed, &arrived);
                event = client.next_buffered()?;
            }
        }
        Ok(())
    }

    /// Publishes one message and waits for its confirm. The channel has no other under way: a new one, or one that is used for
    /// nothing else.
    pub(super) fn publish_and_wait(&self, client: &mut Client) -> Result<(), Ended> {
        let message = self.next_message();
        self.with_ledger(|ledger| ledger.sent(message, 0));
        message.publish(client)?;
        client.flush()?;
        match client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
            Event::Confirm { kept: true, .. } => self.with_ledger(|ledger| ledger.confirmed(message.id)),
            other => return Err(Ended::Garbled(format!("{other:?} instead of a confirm"))),
        }
        Ok(())
    }

    fn may_publish(&self) -> bool {
        self.with_ledger(|ledger| ledger.backlog() < self.backlog_max)
    }

    fn confirm(&self, unconfirmed: &mut Unconfirmed, event: &Event) {
        let Event::Confirm { tag, multiple, kept } = *event else { return };
        self.with_ledger(|ledger| {
            for id in unconfirmed.take(tag, multiple) {
                if kept {
                    ledger.confirmed(id);
                } else {
                    ledger.fault("a publish was refused", format!("message {id:x}"));
                }
            }
        });
    }

    fn consume(&self, address: SocketAddr, consumer: usize, random: Random) -> Result<(), Ended> {
        let mut client = Client::open(address)?;
        client.prefetch(PREFETCH)?;
        // Every queue has two consumers.
        for queue in [consumer, consumer + CONSUMERS, consumer + 1, consumer + 1 + CONSUMERS] {
            client.consume(&queue_name(queue % QUEUES))?;
        }
        let ended = self.consume_until_stopped(&mut client, random);
        self.read_the_rest(&mut client);
        ended
    }

    fn consume_until_stopped(&self, client: &mut Client, random: Random) -> Result<(), Ended> {
        let mut hand = Hand { random, kept: VecDeque::new(), acked: Vec::new(), maybe_read: Vec::new() };
        while !self.stopped() {
            let mut event = client.next(TICK)?;
            while let Some(arrived) = event {
                self.consume_event(client, &mut hand, &arrived)?;
                event = client.next_buffered()?;
            }
            if hand.maybe_read.is_empty() && !hand.acked.is_empty() {
                // It changes nothing but is answered.
                client.send(BasicQos { prefetch_count: PREFETCH, ..Default::default() })?;
                hand.maybe_read = std::mem::take(&mut hand.acked);
            }
            client.flush()?;
        }
        Ok(())
    }

    /// What was delivered in the broker's last moments is still in the socket when the broker has ended.
    fn read_the_rest(&self, client: &mut Client) {
        while let Ok(Some(event)) = client.next(TICK) {
            if let Event::Delivery(delivery) = event {
                self.receive(queue_number(&delivery.consumer), &delivery);
            }
        }
    }

    fn consume_event(&self, client: &mut Client, hand: &mut Hand, event: &Event) -> Result<(), Ended> {
        match event {
            Event::Delivery(delivery) => {
                let received = self.receive(queue_number(&delivery.consumer), delivery);
                let Some((queue, id)) = received else { return Ok(()) };
                self.answer(client, hand, Held { queue, id, tag: delivery.tag })
            }
            Event::Answer { .. } => {
                let read = std::mem::take(&mut hand.maybe_read);
                self.with_ledger(|ledger| read.iter().for_each(|held| ledger.ack_read(held.queue, held.id)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Books a delivery; `None` if it is not what was sent.
    pub(super) fn receive(&self, queue: Option<usize>, delivery: &Delivery) -> Option<(usize, u64)> {
        let checked = queue.zip(Message::id_of(&delivery.message_id));
        let Some((queue, id)) =
            checked.filter(|(_, id)| Message::new(self.seed, *id).body() == delivery.body)
        else {
            self.with_ledger(|ledger| {
                ledger.fault("altered", format!("{checked:x?} in {:?}", delivery.consumer))
            });
            return None;
        };
        self.with_ledger(|ledger| ledger.delivered(queue, id, delivery.redelivered)).then_some((queue, id))
    }

    /// Mostly acknowledges; some are given back, some kept for a while.
    fn answer(&self, client: &mut Client, hand: &mut Hand, held: Held) -> Result<(), Ended> {
        match hand.random.below(100) {
            0..4 => {
                self.with_ledger(|ledger| ledger.requeued(held.queue, held.id));
                client.nack(held.tag, true)
            }
            4 => {
                self.settle(hand, held);
                client.nack(held.tag, false)
            }
            5..10 => {
                hand.kept.push_back(held);
                let kept_enough = hand.kept.len() > KEPT_MAX;
                if let Some(oldest) = kept_enough.then(|| hand.kept.pop_front()).flatten() {
                    self.acknowledge(client, hand, oldest);
                }
                Ok(())
            }
            _ => {
                self.acknowledge(client, hand, held);
                Ok(())
            }
        }
    }

    fn acknowledge(&self, client: &mut Client, hand: &mut Hand, held: Held) {
        self.settle(hand, held);
        client.ack(held.tag, false);
    }

    /// Booked before it is sent: what is sent may have been received.
    fn settle(&self, hand: &mut Hand, held: Held) {
        self.with_ledger(|ledger| ledger.acked(held.queue, held.id));
        hand.acked.push(held);
    }
}

/// What a consumer has in hand.
struct Hand {
    random: Random,
    kept: VecDeque<Held>,
    /// Acknowledged since the broker was last asked for an answer.
    acked: Vec<Held>,
    /// Acknowledged before: read when the answer comes.
    maybe_read: Vec<Held>,
}

/// A delivery that has no answer yet.
#[derive(Debug, Clone, Copy)]
struct Held {
    queue: usize,
    id: u64,
    tag: u64,
}

/// The messages of a confirming channel, by the numbers that its confirms will carry.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    last_tag: u64,
    waiting: VecDeque<(u64, u64)>,
}

impl Unconfirmed {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, id: u64) {
        self.last_tag += 1;
        self.waiting.push_back((self.last_tag, id));
    }

    /// The messages that one confirm is about.
    pub(super) fn take(&mut self, tag: u64, multiple: bool) -> Vec<u64> {
        let is_meant = |found: u64| if multiple { found <= tag } else { found == tag };
        let meant = self.waiting.iter().filter(|(found, _)| is_meant(*found)).map(|(_, id)| *id).collect();
        self.waiting.retain(|(found, _)| !is_meant(*found));
        meant
    }
}

/// Publishes messages on a confirming channel and waits until all are confirmed.
pub(super) fn publish_all(
    client: &mut Client,
    numbers: std::ops::Range<u64>,
    in_flight_max: usize,
    mut publish: impl FnMut(&mut Client, u64) -> Result<(), Ended>,
) -> Result<(), Ended> {
    let mut unconfirmed = Unconfirmed::default();
    let mut numbers = numbers.peekable();
    while numbers.peek().is_some() || unconfirmed.len() > 0 {
        while unconfirmed.len() < in_flight_max
            && let Some(number) = numbers.next()
        {
            publish(client, number)?;
            unconfirmed.push(number);
        }
        client.flush()?;
        let mut event = Some(client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)?);
        while let Some(arrived) = event {
            match arrived {
                Event::Confirm { tag, multiple, kept: true } => drop(unconfirmed.take(tag, multiple)),
                other => return Err(Ended::Garbled(format!("{other:?} instead of a confirm"))),
            }
            event = client.next_buffered()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_find_their_messages() {
        let mut unconfirmed = Unconfirmed::default();
        for id in [10, 20, 30, 40] {
            unconfirmed.push(id);
        }
        assert_eq!(unconfirmed.take(2, false), [20]);
        assert_eq!(unconfirmed.take(3, true), [10, 30]);
        assert_eq!(unconfirmed.take(9, false), [0; 0]);
        assert_eq!(unconfirmed.len(), 1);
    }
}
