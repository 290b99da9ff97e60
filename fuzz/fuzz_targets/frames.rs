//! A stream of frames as a server or client first sees it: cut, decode, encode again.
//!
//! Finds: panics in the splitter and in any method's arguments; a method that does not come back as
//! it was after encoding; a splitter that waits for more octets than a frame may have.
#![no_main]

use leveret_wire::{
    FRAME_HEADER, FRAME_METHOD, FRAME_OVERHEAD, Method, RawFrame, parse_header, split_frame, write_method,
};
use libfuzzer_sys::fuzz_target;

const FRAME_MAX: u32 = 4096;

fuzz_target!(|octets: &[u8]| {
    let mut rest = octets;
    loop {
        match split_frame(rest, FRAME_MAX) {
            Ok(Some((frame, size_bytes))) => {
                assert_eq!(size_bytes, frame.payload.len() + FRAME_OVERHEAD);
                take(frame);
                rest = &rest[size_bytes..];
            }
            Ok(None) => {
                assert!(rest.len() < FRAME_MAX as usize + FRAME_OVERHEAD, "waits for more than a frame");
                break;
            }
            Err(error) => {
                assert!(error.reply_text().len() <= 255);
                break;
            }
        }
    }
});

fn take(frame: RawFrame<'_>) {
    assert!(frame.unknown().reply_text().len() <= 255);
    match frame.kind {
        FRAME_METHOD => match Method::decode(frame.payload) {
            Ok(method) => check_round_trip(frame.channel, &method),
            Err(error) => assert!(error.reply_text().len() <= 255),
        },
        FRAME_HEADER => drop(parse_header(frame.payload)),
        _ => {}
    }
}

/// Octets may differ (unused bits are dropped), the value may not.
fn check_round_trip(channel: u16, method: &Method<'_>) {
    let mut out = Vec::new();
    write_method(&mut out, channel, method).expect("what was decoded can be encoded");
    let (frame, size_bytes) = split_frame(&out, u32::MAX).expect("sound").expect("complete");
    assert_eq!((frame.channel, size_bytes), (channel, out.len()));
    assert_eq!(Method::decode(frame.payload).as_ref(), Ok(method));
}
