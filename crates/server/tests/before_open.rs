//! What somebody costs who has not opened a virtual host: every method in every state before that, and 64 KiB at most.
//!
//! That each is refused with the right words is in the conformance suite; here the broker's allocations are counted.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use leveret_server::Broker;
use leveret_testkit::allocations::{Counted, live_bytes, peak_bytes_of, play_client};
use leveret_testkit::raw_client::message::Message;
use leveret_testkit::raw_client::spec::{self, MethodSpec};
use leveret_testkit::raw_client::{RawClient, Received, frame_bytes};

const CONNECTION_MAX_BYTES: isize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
/// Buffers that belong to threads are there after so many connections.
const WARM_UP: usize = 50;
/// What may be left of an ended connection while nothing else happens.
const LEFT_OVER_BYTES: isize = 4 << 10;
const METHOD: u8 = 1;
const FRAME_MAX: usize = 8192;
/// Of a frame that only somebody known may send.
const LARGE_FRAME_BYTES: usize = 100_000;

#[global_allocator]
static COUNTED: Counted = Counted;

/// The handshake, as far as there is no virtual host.
const STEPS: [&[u8]; 3] = [
    b"AMQP\0\0\x09\x01",
    b"\x01\0\0\0\0\0\x24\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US\xce",
    b"\x01\0\0\0\0\0\x0c\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\0\xce",
];

fn frame_of(method: &MethodSpec) -> Vec<u8> {
    frame_bytes(METHOD, 0, &Message::new(&method.name).unwrap().encode_method().unwrap())
}

/// A sound login whose client properties are an array of as many values as there is room for.
fn dense_login() -> Vec<u8> {
    let values = vec![b'V'; FRAME_MAX - 100];
    let mut table = vec![0, b'A'];
    table.extend((values.len() as u32).to_be_bytes());
    table.extend(values);
    let mut payload = vec![0, 10, 0, 11];
    payload.extend((table.len() as u32).to_be_bytes());
    payload.extend(table);
    payload.extend(b"\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US");
    frame_bytes(METHOD, 0, &payload)
}

/// Goes so many steps, says something, and hears what comes of it.
fn visit(broker: SocketAddr, steps: usize, words: &[u8]) -> Received {
    let mut client = RawClient::connect(broker).unwrap();
    let deadline = Instant::now() + PATIENCE;
    for step in &STEPS[..steps] {
        client.send(step);
        if step.starts_with(b"AMQP") || step[10] == 11 {
            assert!(matches!(client.receive(deadline), Received::Frame(_)), "{step:?}");
        }
    }
    client.send(words);
    client.receive(deadline)
}

fn until_quiet(live: isize) {
    let deadline = Instant::now() + PATIENCE;
    while live_bytes() > live + LEFT_OVER_BYTES {
        assert!(Instant::now() < deadline, "a connection leaves {} octets", live_bytes() - live);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_method_before_open_costs_little_and_does_nothing() {
    play_client();
    // One: a second may have its first read, and make its buffer, when connections are measured.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::builder().in_memory().any_port().start()).unwrap();
    let address = broker.addresses()[0];
    for _ in 0..WARM_UP {
        visit(address, 2, b"\x08\0\0\0\0\0\0\0");
    }
    std::thread::sleep(Duration::from_millis(200));
    let live = live_bytes();
    let check = |name: &str, steps: usize, words: &[u8]| {
        until_quiet(live);
        // What the one before has left counts too: this one may take its place, and would seem to cost nothing.
        let left_over = live_bytes() - live;
        let cost = left_over
            + peak_bytes_of(|| {
                let answer = visit(address, steps, words);
                assert_ne!(answer, Received::Silence, "{name} after {steps} steps");
            });
        assert!(cost > 0 && cost <= CONNECTION_MAX_BYTES, "{name} after {steps} steps: {cost} octets");
    };
    for method in spec::methods() {
        for steps in 0..=STEPS.len() {
            if steps == 2 && method.name == "connection.tune-ok" {
                continue; // right, and without an answer
            }
            check(&method.name, steps, &frame_of(method));
        }
    }
    // Its values would take a quarter of a mebibyte.
    check("a dense login", 1, &dense_login());
    // Fine for those who have agreed to it; of a stranger's nothing is kept, and what is missing is not waited for.
    let large = frame_bytes(METHOD, 0, &[0; LARGE_FRAME_BYTES]);
    check("a frame that is too large and has no end", 1, &large[..LARGE_FRAME_BYTES]);
    assert!(broker.rules().connections().is_empty(), "nobody got in");
    runtime.block_on(broker.stop()).unwrap();
}
