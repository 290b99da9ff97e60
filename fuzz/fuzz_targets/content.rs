//! Frames after a basic.publish, in any order: the assembler against the fast path.
//!
//! Finds: a body longer or shorter than announced, memory reserved on the word of the peer, frames
//! after which the two ways disagree.
#![no_main]

use leveret_wire::{
    Assembler, Content, FRAME_BODY, FRAME_HEADER, Progress, parse_header, split_frame, whole_content,
};
use libfuzzer_sys::fuzz_target;

const FRAME_MAX: u32 = 4096;
const MAX_BODY_BYTES: u64 = 1 << 20;

fuzz_target!(|octets: &[u8]| {
    let slow = assemble(octets);
    let Some((header, body, size_bytes)) = whole_content(octets, 1, 60, FRAME_MAX, MAX_BODY_BYTES) else {
        return;
    };
    let (content, used) = slow.expect("what the fast path takes, the slow one takes");
    assert_eq!((content.body.as_slice(), used), (body, size_bytes));
    assert_eq!(content.properties, header.properties.as_bytes());
});

fn assemble(octets: &[u8]) -> Option<(Content<()>, usize)> {
    let mut assembler = Assembler::start((), 60);
    let mut announced = 0;
    let mut used = 0;
    loop {
        let (frame, size_bytes) = split_frame(&octets[used..], FRAME_MAX).ok()??;
        used += size_bytes;
        if frame.channel != 1 {
            return None;
        }
        let progress = match frame.kind {
            FRAME_HEADER => {
                announced = parse_header(frame.payload).ok()?.body_size;
                assembler.header(frame.payload, MAX_BODY_BYTES)
            }
            FRAME_BODY => assembler.body(frame.payload),
            _ => Err(assembler.unexpected()),
        };
        match progress.ok()? {
            Progress::More(more) => assembler = more,
            Progress::Done(content) => {
                assert_eq!(content.body.len() as u64, announced);
                assert!(content.body.capacity() <= 2 * octets.len() + 64 * 1024);
                return Some((content, used));
            }
        }
    }
}
