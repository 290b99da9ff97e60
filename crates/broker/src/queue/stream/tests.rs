//! A stream over a store in memory: what each reader gets, whatever is settled, dropped or restarted meanwhile.

use std::sync::Arc;

use leveret_store::{MemDisk, Options, QueueId, Store};
use leveret_wire::RawProperties;

use super::*;
use crate::message::MessageView;
use crate::queue::Handed;

const STREAM: QueueId = QueueId(7);
/// When message n was published.
const STEP_MS: u64 = 100;

struct World {
    disk: MemDisk,
    store: Store,
    stream: StreamState<()>,
    now_ms: u64,
    settings: Arc<Settings>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let disk = MemDisk::new();
        let (store, _) = Store::open(Arc::new(disk.clone()), options()).unwrap();
        let settings = Arc::new(settings);
        Self { disk, store, stream: StreamState::new(settings.clone()), now_ms: 0, settings }
    }

    /// Publishes messages whose bodies are their numbers.
    fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let body = self.stream.log.next().to_le_bytes();
            let view = MessageView {
                exchange: "",
                routing_key: "s",
                properties: RawProperties::default(),
                body: &body,
            };
            let stamp = Stamp { expires_at_ms: NEVER_MS, published_at_ms: self.now_ms };
            let head = view.head();
            let id = self.store.publish(&[STREAM], false, &stamp.encode(), &view.parts(&head)).unwrap();
            let logged = (id, view.size_bytes() as u32);
            self.stream.append(logged, self.now_ms, &self.store).unwrap();
            self.now_ms += STEP_MS;
        }
        self.store.commit().unwrap();
    }

    fn settle(&mut self) {
        self.store.rotate();
        self.store.commit().unwrap();
        while let Some(span) = self.store.file_to_settle() {
            let alive = self.stream.alive_in(&span);
            let segments = self.stream.segments_mut(true).get_or_insert_with(|| Segments::new(STREAM, false));
            let mut writer = self.store.block_writer(STREAM, false, span.number, &segments.tail());
            let moved = alive.iter().map(|one| {
                let payload = self.store.read(one.place, STREAM).unwrap();
                (one.id, writer.push(one.pos, one.id, &one.stamp.encode(), &payload))
            });
            let moved: BTreeMap<_, _> = moved.collect();
            segments.add(writer.finish().unwrap());
            self.stream.settled(&moved);
            if let Some(segments) = self.stream.segments_mut(true) {
                segments.flush_acks(&self.store, span.number).unwrap();
            }
            self.store.retire(span.number).unwrap();
        }
    }

    /// The process ends and another one opens the same disk.
    fn restart(self) -> Self {
        let Self { disk, store, now_ms, settings, .. } = self;
        drop(store);
        let (store, recovery) = Store::open(Arc::new(disk.clone()), options()).unwrap();
        let found = recovery.queues.into_iter().find(|queue| queue.id == STREAM);
        let (segments, logged) = found.map_or((None, Vec::new()), |found| (Some(found.segments), found.log));
        let segments = segments.filter(|segments| !segments.is_empty());
        let first = segments.as_ref().and_then(|segments| segments.first_head(&store).unwrap());
        let first = first.map_or(0, |head| head.pos);
        let stream = StreamState::recovered(settings.clone(), segments, first, &logged);
        Self { disk, store, stream, now_ms, settings }
    }

    fn reader(&mut self, start: StartAt, prefetch: u32) -> ConsumerKey {
        let consumer = Consumer::new("t".into(), false, false, prefetch, ());
        self.stream.add_consumer(consumer.with_reading(Some(Reading { start, filter: None })))
    }

    /// Lets a reader read until it waits; answers the numbers it got.
    fn feed(&mut self, key: ConsumerKey) -> Vec<u64> {
        let mut got = Vec::new();
        self.stream.take_due();
        while let Some(mut turn) = self.stream.begin_turn(key, &self.store) {
            turn.run(&self.store, |_, message| {
                let number = u64::from_le_bytes(message.body.try_into().unwrap());
                let offset = message.properties.headers().unwrap().find("x-stream-offset");
                assert_eq!(offset.and_then(|offset| offset.as_i64()), Some(number as i64));
                got.push(number);
                Handed::Taken
            });
            if self.stream.end_turn(turn).unwrap() == TurnEnd::Waits {
                break;
            }
        }
        got
    }

    /// What a new reader with credit for everything gets.
    fn all_from(&mut self, start: StartAt) -> Vec<u64> {
        let key = self.reader(start, u32::MAX);
        let got = self.feed(key);
        self.stream.remove_consumer(key);
        got
    }
}

fn options() -> Options {
    Options { log_file_bytes: 1 << 20, segment_bytes: 4096, gather_bytes: 1 << 20 }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn every_reader_gets_everything_from_where_it_starts() {
    let mut world = World::new(Settings::default());
    world.publish(300);
    world.settle();
    world.publish(150);
    world.settle();
    world.publish(50);
    let mut check = |start, from: u64| assert_eq!(world.all_from(start), numbers(from..500), "{start:?}");
    check(StartAt::First, 0);
    check(StartAt::Last, 499);
    check(StartAt::Next, 500);
    for offset in [0, 1, 299, 300, 301, 449, 450, 499, 500, 9999] {
        check(StartAt::Offset(offset), offset.min(500));
    }
    for number in [0, 1, 77, 299, 300, 301, 449, 450, 451, 499, 500] {
        check(StartAt::Time(number * STEP_MS), number);
        check(StartAt::Time((number * STEP_MS).saturating_sub(1)), number);
    }
}

#[test]
fn a_restart_changes_no_offset() {
    let mut world = World::new(Settings::default());
    for (settles, total) in [(false, 20), (true, 40), (false, 60), (true, 80), (true, 100)] {
        world.publish(20);
        if settles {
            world.settle();
        }
        world = world.restart();
        assert_eq!(world.all_from(StartAt::First), numbers(0..total));
        assert_eq!((world.stream.len(), world.stream.log.next()), (total, total));
    }
}

#[test]
fn a_reader_goes_on_when_what_it_reads_is_settled() {
    let mut world = World::new(Settings::default());
    world.publish(100);
    let key = world.reader(StartAt::First, 10);
    assert_eq!(world.feed(key), numbers(0..10));
    assert_eq!(world.feed(key), [], "no credit");
    world.settle();
    for round in 1..10 {
        (0..10).for_each(|_| world.stream.released(key));
        assert_eq!(world.feed(key), numbers(round * 10..round * 10 + 10));
    }
    (0..10).for_each(|_| world.stream.released(key));
    assert_eq!(world.feed(key), [], "the end");
    world.publish(5);
    world.stream.resume(key);
    assert_eq!(world.feed(key), numbers(100..105));
}

#[test]
fn only_what_is_on_the_disk_is_read() {
    let mut world = World::new(Settings::default());
    let key = world.reader(StartAt::First, 100);
    assert_eq!(world.feed(key), []);
    let view = MessageView {
        exchange: "",
        routing_key: "s",
        properties: RawProperties::default(),
        body: &0u64.to_le_bytes(),
    };
    let head = view.head();
    let id = world.store.publish(&[STREAM], false, &[0; 16], &view.parts(&head)).unwrap();
    world.stream.append((id, view.size_bytes() as u32), 0, &world.store).unwrap();
    world.stream.resume(key);
    assert_eq!(world.feed(key), []);
    let durable = world.store.durable();
    assert!(world.stream.awaits_commit(durable) && !world.stream.awaits_commit(durable));
    assert!(world.stream.tell_committed(durable, |_, _| panic!("nothing was committed")));
    world.store.commit().unwrap();
    let mut told = Vec::new();
    assert!(!world.stream.tell_committed(world.store.durable(), |key, _| told.push(key)));
    assert_eq!(told, [key]);
    world.stream.resume(key);
    assert_eq!(world.feed(key), [0]);
}

#[test]
fn a_stream_keeps_as_many_octets_as_it_may() {
    let mut world = World::new(Settings { size_bytes: Some(2000), ..Settings::default() });
    world.publish(200);
    let size_bytes = world.stream.size_bytes();
    assert!((1900..=2000).contains(&size_bytes), "{size_bytes} in the log");
    for _ in 0..20 {
        world.publish(100);
        world.settle();
        let size_bytes = world.stream.size_bytes();
        assert!((1900..2000 + 2 * 4096).contains(&size_bytes), "{size_bytes} settled");
        let first = world.stream.first;
        let next = world.stream.log.next();
        assert_eq!(world.all_from(StartAt::First), numbers(first..next));
        assert_eq!(world.all_from(StartAt::Offset(5)), numbers(first..next), "what is gone is passed over");
    }
    assert!(world.stream.first > 1500);
}

#[test]
fn old_messages_go_without_any_traffic() {
    let mut world = World::new(Settings { max_age_ms: Some(100 * STEP_MS), ..Settings::default() });
    world.publish(50);
    world.settle();
    world.publish(50);
    assert_eq!(world.stream.new_deadline_ms(&world.store), Some(149 * STEP_MS));
    assert_eq!(world.stream.new_deadline_ms(&world.store), None, "answered once");
    world.stream.deadline_came();
    world.stream.trim(149 * STEP_MS, &world.store).unwrap();
    assert_eq!(world.stream.len(), 50, "the segment was as old as its newest message");
    assert_eq!(world.stream.new_deadline_ms(&world.store), Some(150 * STEP_MS));
    world.stream.trim(175 * STEP_MS, &world.store).unwrap();
    assert_eq!(world.all_from(StartAt::First), numbers(76..100));
    world.stream.trim(10_000 * STEP_MS, &world.store).unwrap();
    assert!(world.stream.is_empty());
    assert_eq!(world.stream.size_bytes(), 0);
}

#[test]
fn an_offset_is_never_used_again_though_everything_was_dropped() {
    let mut world = World::new(Settings { max_age_ms: Some(1), ..Settings::default() });
    let mut total = 0;
    for settles in [1, 2, 3] {
        world.publish(30);
        total += 30;
        for _ in 0..settles {
            world.stream.trim(u64::MAX, &world.store).unwrap();
            assert!(world.stream.is_empty());
            world.settle();
        }
        world = world.restart();
        assert_eq!(world.stream.log.next(), total);
        world.stream.trim(u64::MAX, &world.store).unwrap();
        assert!(world.stream.is_empty());
    }
}

#[test]
fn a_consumer_without_room_loses_nothing() {
    let mut world = World::new(Settings::default());
    world.publish(10);
    let key = world.reader(StartAt::First, 100);
    let mut turn = world.stream.begin_turn(key, &world.store).unwrap();
    assert!(world.stream.begin_turn(key, &world.store).is_none(), "one turn at a time");
    let mut count = 0;
    turn.run(&world.store, |_, _| {
        count += 1;
        if count == 4 { Handed::NoRoom } else { Handed::Taken }
    });
    assert_eq!(world.stream.end_turn(turn).unwrap(), TurnEnd::Waits);
    assert_eq!((world.stream.in_flight(), world.feed(key)), (3, vec![]));
    world.stream.resume(key);
    assert_eq!(world.feed(key), numbers(3..10));
}
