//! The cursor and its counts against a plain list, through random settling, holding, acking and purging.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use leveret_store::{LogFileNumber, MemDisk, MessageId, Place, SegmentHead, Segments, Store};
use proptest::prelude::*;
use support::{Q1, open};

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Settles so many messages, of growing length.
    Settle(u8),
    Next,
    Skip,
    /// Acks or holds one of all records ever settled.
    Ack(usize),
    Hold(usize),
    Purge,
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..60u8).prop_map(Step::Settle),
        Just(Step::Next),
        Just(Step::Next),
        Just(Step::Skip),
        any::<usize>().prop_map(Step::Ack),
        any::<usize>().prop_map(Step::Ack),
        any::<usize>().prop_map(Step::Hold),
        Just(Step::Purge),
        Just(Step::Flush),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Ready,
    Taken,
    Gone,
}

/// The list: place, length and fate of everything that was settled.
#[derive(Default)]
struct Model(Vec<(Place, u32, Fate)>);

impl Model {
    fn first_ready(&mut self) -> Option<(usize, &mut (Place, u32, Fate))> {
        self.0.iter_mut().enumerate().find(|(_, record)| record.2 == Fate::Ready)
    }

    fn ready(&self) -> (u64, u64) {
        let ready = self.0.iter().filter(|record| record.2 == Fate::Ready);
        (ready.clone().count() as u64, ready.map(|record| u64::from(record.1)).sum())
    }
}

fn body(index: usize) -> Vec<u8> {
    vec![index as u8; index * 7 % 400]
}

fn settle(store: &Store, segments: &mut Segments, model: &mut Model, count: u8) {
    let mut writer = store.block_writer(Q1, false, LogFileNumber(1), &segments.tail());
    for _ in 0..count {
        let index = model.0.len();
        let place = writer.push(index as u64, MessageId(index as u64 + 1), &[0; 16], &body(index));
        model.0.push((place, body(index).len() as u32, Fate::Ready));
    }
    segments.add(writer.finish().unwrap());
}

fn check_head(model: &mut Model, head: Option<SegmentHead>) -> Option<usize> {
    let first = model.first_ready();
    assert_eq!(
        head.map(|head| (head.place, head.pos)),
        first.map(|(index, record)| (record.0, index as u64))
    );
    head.map(|head| head.pos as usize)
}

fn run(store: &Store, segments: &mut Segments, model: &mut Model, step: Step) {
    let count = model.0.len();
    match step {
        Step::Settle(count) => settle(store, segments, model, count),
        Step::Next => {
            let next = segments.next(store).unwrap();
            if let Some(index) = check_head(model, next.as_ref().map(|(head, _)| *head)) {
                assert_eq!(next.unwrap().1, body(index));
                model.0[index].2 = Fate::Taken;
            }
        }
        Step::Skip => {
            let head = segments.peek(store).unwrap();
            assert_eq!(segments.skip(store).unwrap(), head.is_some());
            if let Some(index) = check_head(model, head) {
                model.0[index].2 = Fate::Taken;
            }
        }
        Step::Ack(index) if count > 0 => {
            let record = &mut model.0[index % count];
            record.2 = Fate::Gone;
            segments.ack(record.0);
        }
        Step::Hold(index) if count > 0 => {
            let record = &mut model.0[index % count];
            if record.2 == Fate::Ready {
                record.2 = Fate::Taken;
            }
            segments.hold(record.0);
        }
        Step::Ack(_) | Step::Hold(_) => {}
        Step::Purge => {
            assert_eq!(segments.purge_ready(), model.ready().0);
            model
                .0
                .iter_mut()
                .filter(|record| record.2 == Fate::Ready)
                .for_each(|record| record.2 = Fate::Gone);
        }
        Step::Flush => segments.flush_acks(store, LogFileNumber(1)).unwrap(),
    }
    assert_eq!((segments.ready_len(), segments.ready_bytes()), model.ready(), "after {step:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cursor_yields_what_is_ready_in_order(steps in proptest::collection::vec(step(), 1..80)) {
        let disk = MemDisk::new();
        let (store, _) = open(&disk);
        let (mut segments, mut model) = (Segments::new(Q1, false), Model::default());
        for step in steps {
            run(&store, &mut segments, &mut model, step);
        }
    }
}
