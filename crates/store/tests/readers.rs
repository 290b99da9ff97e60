//! Readers beside the cursor, and windows on the log: each sees every message from wherever it starts.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use leveret_store::{
    LogFileNumber, LogWindow, MemDisk, MessageId, Place, ReadError, SegmentReader, SegmentSpan, Segments,
    Store,
};
use support::{Q1, Q2, open, publish};

fn body(pos: u64) -> Vec<u8> {
    vec![pos as u8; (pos * 7 % 400) as usize]
}

/// Messages 0 to 499 in several segments of several blocks.
fn settled(store: &Store) -> Segments {
    let mut segments = Segments::new(Q1, false);
    for settle in 0..10 {
        let mut writer = store.block_writer(Q1, false, LogFileNumber(1), &segments.tail());
        for pos in settle * 50..settle * 50 + 50 {
            writer.push(pos, MessageId(1000 + pos), &[(pos / 10) as u8; 16], &body(pos));
        }
        segments.add(writer.finish().unwrap());
    }
    assert!(segments.spans().count() > 5);
    segments
}

/// Reads from `pos` on to the end of all segments.
fn read_from(store: &Store, segments: &Segments, pos: u64) -> Vec<u64> {
    let mut found: Vec<u64> = Vec::new();
    while let Some(span) = segments.span_at(found.last().map_or(pos, |last| last + 1)) {
        let mut reader = SegmentReader::open(store, &span).unwrap();
        assert!(reader.is_in(&span) && reader.seek(&span, |head| head.pos < pos).unwrap());
        while let Some((head, payload)) = reader.peek(&span).unwrap() {
            assert_eq!(payload, body(head.pos));
            found.push(head.pos);
            reader.pass();
        }
    }
    found
}

#[test]
fn a_reader_starts_anywhere_and_misses_nothing() {
    let (store, _) = open(&MemDisk::new());
    let segments = settled(&store);
    for pos in [0, 1, 49, 50, 51, 123, 250, 498, 499] {
        assert_eq!(read_from(&store, &segments, pos), (pos..500).collect::<Vec<_>>());
    }
    assert!(segments.span_at(500).is_none());
}

#[test]
fn a_reader_starts_at_what_its_caller_looks_for() {
    let (store, _) = open(&MemDisk::new());
    let segments = settled(&store);
    let first = |wanted: u8| {
        segments.spans().find_map(|span: SegmentSpan| {
            let mut reader = SegmentReader::open(&store, &span).unwrap();
            let found = reader.seek(&span, |head| head.attributes[0] < wanted).unwrap();
            found.then(|| reader.peek(&span).unwrap().unwrap().0.pos)
        })
    };
    assert_eq!([first(0), first(7), first(25)], [Some(0), Some(70), Some(250)]);
    assert_eq!(first(50), None);
}

#[test]
fn a_removed_segment_is_read_to_its_end() {
    let (store, _) = open(&MemDisk::new());
    let mut segments = settled(&store);
    let (len, bytes) = (segments.ready_len(), segments.ready_bytes());
    let span = segments.spans().next().unwrap();
    let last = SegmentReader::last_head(&store, &span).unwrap().unwrap();
    assert_eq!(last.pos, span.last_pos());
    let mut reader = SegmentReader::open(&store, &span).unwrap();
    assert!(segments.forget_oldest());
    assert_eq!(segments.ready_len(), len - u64::from(span.count()));
    assert_eq!(segments.ready_bytes(), bytes - span.payload_bytes());
    segments.flush_acks(&store, LogFileNumber(1)).unwrap();
    assert_eq!(segments.span_at(0).unwrap().last_pos(), segments.spans().next().unwrap().last_pos());
    let mut count = 0;
    while reader.peek(&span).unwrap().is_some() {
        reader.pass();
        count += 1;
    }
    assert_eq!(count, span.count());
    while segments.forget_oldest() {}
    assert_eq!((segments.ready_len(), segments.ready_bytes()), (0, 0));
}

#[test]
fn a_window_shows_what_reading_one_by_one_shows() {
    let (store, _) = open(&MemDisk::new());
    let mut ids = Vec::new();
    for pos in 0..200 {
        let queues = if pos % 3 == 0 { vec![Q1, Q2] } else { vec![Q1] };
        ids.push((publish(&store, &queues, &body(pos)), body(pos)));
        if pos % 40 == 39 {
            store.commit().unwrap();
        }
    }
    let mut window = LogWindow::default();
    for (id, body) in ids.iter().chain(ids.iter().rev().step_by(7)) {
        let len = body.len() as u32;
        assert_eq!(window.read(&store, *id, len).unwrap(), body);
        assert_eq!(store.read(Place::Log { id: *id, len }, Q1).unwrap(), *body);
    }
    let wrong = window.read(&store, ids[3].0, 1);
    assert!(matches!(wrong, Err(ReadError::Damaged { what: "the record has another length", .. })));
}
