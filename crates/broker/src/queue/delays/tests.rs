//! A delay queue against a sorted list, through random publishing, sending on, settling, purging and restarts.

use std::sync::Arc;

use leveret_store::{MemDisk, Options, QueueId, Store};
use leveret_wire::RawProperties;
use proptest::prelude::*;

use super::*;
use crate::message::{MessageView, ResidentBytes};
use crate::queue::{Consumer, ConsumerKey, Content, Handed, Level, Pos};

const QUEUE: QueueId = QueueId(1);
const PORTION: usize = 3;

/// The store below the queue. Nobody consumes.
struct Desk {
    store: Store,
    resident: ResidentBytes,
}

impl Courier<()> for Desk {
    fn deliver(
        &mut self,
        _consumer: &Consumer<()>,
        _key: ConsumerKey,
        _pos: Pos,
        _redelivered: bool,
        _message: MessageView<'_>,
    ) -> Handed {
        Handed::NoRoom
    }

    fn keep(&mut self, incoming: &mut Incoming<'_>, _waits: bool) -> Content {
        Content::Memory(Arc::new(Message::copy_of(&incoming.view, &self.resident)))
    }

    fn put_aside(&mut self, incoming: &Incoming<'_>) -> Option<Stored> {
        let id = self.store.publish(&[QUEUE], true, &incoming.stamp.encode(), &[&incoming.view.to_payload()]);
        let place = |id| Place::Log { id, len: incoming.view.size_bytes() as u32 };
        id.ok().map(|id| Stored { id, place: place(id), durable: false, cached: None })
    }

    fn read(&self, _level: Level, place: Place) -> Result<Vec<u8>, ReadError> {
        self.store.read(place, QUEUE)
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn bounces(&self) -> bool {
        false
    }

    fn is_orphan(&self, _message: &MessageView<'_>) -> bool {
        false
    }

    fn now_ms(&self) -> u64 {
        0
    }

    fn resident(&self) -> &ResidentBytes {
        &self.resident
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A message of that many octets, due then.
    Publish {
        due_ms: u64,
        size_bytes: u16,
        durable: bool,
    },
    /// Takes what is due then.
    Take(u64),
    /// All that is leaving has been sent on, or has not.
    Leave(bool),
    Settle,
    Purge,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let publish = (1..50_u64, 0..300_u16, prop::bool::weighted(0.8));
    prop_oneof![
        8 => publish.prop_map(|(due_ms, size_bytes, durable)| Step::Publish { due_ms, size_bytes, durable }),
        3 => (0..50_u64).prop_map(Step::Take),
        3 => prop::bool::weighted(0.8).prop_map(Step::Leave),
        1 => Just(Step::Settle),
        1 => prop::bool::weighted(0.3).prop_map(|purge| if purge { Step::Purge } else { Step::Settle }),
        1 => Just(Step::Restart),
    ]
}

/// Name, whether it is durable, body.
type Waiting = Vec<(Due, bool, Vec<u8>)>;

struct Story {
    disk: MemDisk,
    desk: Desk,
    queue: DelayState,
    waiting: Waiting,
    leaving: Waiting,
    next_body: u8,
}

fn open(disk: &MemDisk) -> (Desk, DelayState) {
    let options = Options { log_file_bytes: 4096, segment_bytes: 2048, gather_bytes: 1 << 20 };
    let (store, recovery) = Store::open(Arc::new(disk.clone()), options).unwrap();
    assert_eq!(recovery.damage, []);
    let content = recovery.queues.into_iter().find(|queue| queue.id == QUEUE);
    let (queue, damage) = content.map(|content| DelayState::recovered(content, &store)).unwrap_or_default();
    assert!(damage.is_none());
    (Desk { store, resident: ResidentBytes::default() }, queue)
}

impl Story {
    fn new() -> Self {
        let disk = MemDisk::new();
        let (desk, queue) = open(&disk);
        Self { disk, desk, queue, waiting: Vec::new(), leaving: Vec::new(), next_body: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Publish { due_ms, size_bytes, durable } => self.publish(due_ms, size_bytes, durable),
            Step::Take(now_ms) => self.take(now_ms),
            Step::Leave(sent_on) => self.leave(sent_on),
            Step::Settle => self.settle(),
            Step::Purge => self.purge(),
            Step::Restart => self.restart(),
        }
        assert_eq!(self.queue.len(), (self.waiting.len() + self.leaving.len()) as u64);
        assert_eq!(self.queue.is_empty(), self.queue.size_bytes() == 0);
    }

    fn publish(&mut self, due_ms: u64, size_bytes: u16, durable: bool) {
        let body = vec![self.next_body; size_bytes.into()];
        self.next_body = self.next_body.wrapping_add(1);
        let view = MessageView {
            exchange: "x",
            routing_key: "k",
            properties: RawProperties::default(),
            body: &body,
        };
        let (stamp, size_bytes) = (Stamp::due_at(due_ms), view.size_bytes() as u32);
        let logged = durable.then(|| {
            let payload = view.to_payload();
            let id = self.desk.store.publish(&[QUEUE], false, &stamp.encode(), &[&payload]).unwrap();
            (id, Place::Log { id, len: size_bytes })
        });
        let mut incoming = Incoming { view, stamp, level: 0, logged, shared: None };
        assert!(self.queue.publish(&mut incoming, &mut self.desk));
        let is_new = |due: &&Due| self.waiting.iter().all(|(known, ..)| known != *due);
        let due = *self.queue.index.keys().find(is_new).unwrap();
        assert_eq!(due.at_ms, due_ms);
        self.waiting.push((due, durable, body));
        self.waiting.sort();
    }

    fn take(&mut self, now_ms: u64) {
        let taken = self.queue.take_due(now_ms, &self.desk).unwrap();
        let due = self.waiting.iter().take_while(|(due, ..)| due.at_ms <= now_ms).count();
        let expected: Waiting = self.waiting.drain(..due.min(TAKEN_MAX)).collect();
        let found = |one: Leaving| (one.due, one.durable, one.message.view().body.to_vec());
        assert_eq!(taken.into_iter().map(found).collect::<Waiting>(), expected);
        self.leaving.extend(expected);
    }

    fn leave(&mut self, sent_on: bool) {
        let names: Vec<Due> = self.leaving.iter().map(|(due, ..)| *due).collect();
        if !sent_on {
            self.queue.stayed(names);
            self.waiting.append(&mut self.leaving);
            self.waiting.sort();
            return;
        }
        let durable: Vec<_> = self.leaving.iter().filter(|one| one.1).map(|one| one.0.id).collect();
        self.desk.store.ack(QUEUE, &durable).unwrap();
        self.queue.left(names);
        self.leaving.clear();
    }

    fn purge(&mut self) {
        assert_eq!(self.queue.purge(), self.waiting.len() as u64);
        let up_to = MessageId(self.desk.store.appended());
        self.desk.store.purge(QUEUE, up_to, &self.queue.leaving_ids()).unwrap();
        self.waiting.clear();
    }

    fn settle(&mut self) {
        self.desk.store.rotate();
        self.desk.store.commit().unwrap();
        while let Some(span) = self.desk.store.file_to_settle() {
            for durable in [true, false] {
                self.settle_kind(&span, durable);
            }
            self.desk.store.retire(span.number).unwrap();
        }
    }

    fn settle_kind(&mut self, span: &LogSpan, durable: bool) {
        let (store, mut after) = (&self.desk.store, None);
        loop {
            let alive = self.queue.alive_in(span, durable, after, PORTION);
            let segments = self.queue.segments_mut(durable);
            let segments = segments.get_or_insert_with(|| Segments::new(QUEUE, !durable));
            let mut writer = store.block_writer(QUEUE, !durable, span.number, &segments.tail());
            let moved: Vec<_> = alive
                .iter()
                .map(|one| {
                    let payload = store.read(one.place, QUEUE).unwrap();
                    (*one, writer.push(one.pos, one.id, &one.stamp.encode(), &payload))
                })
                .collect();
            segments.add(writer.finish().unwrap());
            self.queue.settled(durable, moved);
            after = alive.last().map(Settling::due);
            if after.is_none() {
                break;
            }
        }
        let segments = self.queue.segments_mut(durable).as_mut().unwrap();
        segments.flush_acks(store, span.number).unwrap();
    }

    /// What was leaving when the process died is due again; what was transient is gone.
    fn restart(&mut self) {
        self.desk.store.commit().unwrap();
        let nothing = Desk { store: open(&MemDisk::new()).0.store, resident: ResidentBytes::default() };
        drop(std::mem::replace(&mut self.desk, nothing));
        (self.desk, self.queue) = open(&self.disk);
        self.waiting.append(&mut self.leaving);
        self.waiting.retain(|(_, durable, _)| *durable);
        self.waiting.sort();
    }
}

proptest! {
    #[test]
    fn a_delay_queue_is_a_list_sorted_by_time(steps in prop::collection::vec(step(), 0..150)) {
        let mut story = Story::new();
        steps.into_iter().for_each(|one| story.step(one));
        story.step(Step::Leave(true));
        while !story.queue.is_empty() {
            story.step(Step::Take(u64::MAX));
            story.step(Step::Leave(true));
        }
    }
}

#[test]
fn a_deadline_is_named_once() {
    let mut story = Story::new();
    let mut check = |due_ms: u64, expected: Option<u64>| {
        story.step(Step::Publish { due_ms, size_bytes: 1, durable: true });
        assert_eq!(story.queue.new_deadline_ms(), expected, "{due_ms}");
    };
    check(NEVER_MS, None);
    check(20, Some(20));
    check(30, None);
    check(10, Some(10));
    story.queue.deadline_came();
    story.step(Step::Take(10));
    assert_eq!(story.queue.new_deadline_ms(), Some(20));
}
