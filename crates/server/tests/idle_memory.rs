//! What an idle connection costs: one with a channel, a queue and a consumer, before anything happened and after it has had
//! something to do.
//!
//! Counted are the octets that the broker asks its allocator for. How much memory is resident for them is measured by
//! `cargo xtask bench`, with the allocator of the binary.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use leveret_server::Broker;
use leveret_testkit::allocations::{Counted, live_bytes, play_client};
use leveret_testkit::raw_client::message::{Content, Message, decode_header, encode_header};
use leveret_testkit::raw_client::value::Value;
use leveret_testkit::raw_client::{Frame, RawClient, Received, frame_bytes};

/// A little more than there was last, 5,866.
const IDLE_MAX_BYTES: isize = 6400;
/// The route of its last publish stays, too; and the buffers of the broker's threads, shared by all, may have grown meanwhile.
const ONCE_BUSY_MAX_BYTES: isize = 10_000;
const CONNECTIONS: isize = 200;
/// Buffers that belong to threads, and tables that grow in steps, are there after so many connections.
const WARM_UP: isize = 230;
/// Larger than a read of the broker and than what it keeps of buffers.
const BODY_BYTES: usize = 100 << 10;
const PATIENCE: Duration = Duration::from_secs(10);
/// For the broker's threads to finish what no answer tells of.
const SETTLE: Duration = Duration::from_millis(300);
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const BASIC: u16 = 60;

#[global_allocator]
static COUNTED: Counted = Counted;

/// A connection with a channel, a queue of its own and a consumer.
struct Idler {
    client: RawClient,
    queue: String,
}

impl Idler {
    fn connect(broker: SocketAddr) -> Self {
        let mut client = RawClient::connect(broker).unwrap();
        client.send(b"AMQP\0\0\x09\x01");
        expect(&mut client, "connection.start");
        let mut idler = Self { client, queue: String::new() };
        let login = Message::new("connection.start-ok").unwrap().with("mechanism", Value::text("PLAIN"));
        idler.send(
            0,
            &login.with("response", Value::text("\0guest\0guest")).with("locale", Value::text("en_US")),
        );
        expect(&mut idler.client, "connection.tune");
        let agreed = Message::new("connection.tune-ok").unwrap().with("channel-max", int(2047));
        idler.send(0, &agreed.with("frame-max", int(131_072)));
        let open = Message::new("connection.open").unwrap().with("virtual-host", Value::text("/"));
        idler.call(0, &open, "connection.open-ok");
        idler.call(1, &Message::new("channel.open").unwrap(), "channel.open-ok");
        let declare = Message::new("queue.declare").unwrap().with("exclusive", Value::Bool(true));
        let declared = idler.call(1, &declare, "queue.declare-ok");
        idler.queue = declared.field("queue").and_then(Value::as_text).unwrap().to_owned();
        let qos = Message::new("basic.qos").unwrap().with("prefetch-count", int(1));
        idler.call(1, &qos, "basic.qos-ok");
        let consume = Message::new("basic.consume").unwrap().with("queue", Value::text(&idler.queue));
        idler.call(1, &consume, "basic.consume-ok");
        idler
    }

    fn send(&mut self, channel: u16, message: &Message) {
        self.client.send(&frame_bytes(METHOD, channel, &message.encode_method().unwrap()));
    }

    fn call(&mut self, channel: u16, message: &Message, answer: &str) -> Message {
        self.send(channel, message);
        expect(&mut self.client, answer)
    }

    /// Publishes to its own queue, consumes that and acknowledges it.
    fn work(&mut self) {
        let publish = Message::new("basic.publish").unwrap().with("routing-key", Value::text(&self.queue));
        self.send(1, &publish);
        let Content { properties, body } = Content { body: vec![b'x'; BODY_BYTES], ..Content::default() };
        let header = encode_header(BASIC, BODY_BYTES as u64, &properties).unwrap();
        self.client.send(&frame_bytes(HEADER, 1, &header));
        self.client.send(&frame_bytes(BODY, 1, &body));
        let delivered = expect(&mut self.client, "basic.deliver");
        let header = next(&mut self.client);
        assert_eq!(decode_header(&header.payload).unwrap().0, BODY_BYTES as u64);
        assert_eq!(next(&mut self.client).payload, body);
        let tag = delivered.field("delivery-tag").unwrap().clone();
        self.send(1, &Message::new("basic.ack").unwrap().with("delivery-tag", tag));
    }
}

fn int(value: i128) -> Value {
    Value::Int { tag: b'I', value }
}

fn next(client: &mut RawClient) -> Frame {
    match client.receive(Instant::now() + PATIENCE) {
        Received::Frame(frame) => frame,
        other => panic!("{other:?} instead of a frame"),
    }
}

fn expect(client: &mut RawClient, method: &str) -> Message {
    let message = Message::decode_method(&next(client).payload).unwrap();
    assert_eq!(message.method, method);
    message
}

#[test]
fn an_idle_connection_costs_little_and_a_busy_one_that_is_idle_again_hardly_more() {
    play_client();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = runtime.block_on(Broker::builder().in_memory().any_port().start()).unwrap();
    let connect =
        |count| -> Vec<Idler> { (0..count).map(|_| Idler::connect(broker.addresses()[0])).collect() };
    let mut warm_up = connect(WARM_UP);
    warm_up.iter_mut().for_each(Idler::work);
    std::thread::sleep(SETTLE);
    let before = live_bytes();
    let each = || (live_bytes() - before) / CONNECTIONS;
    let mut idlers = connect(CONNECTIONS);
    std::thread::sleep(SETTLE);
    let idle = each();
    idlers.iter_mut().for_each(Idler::work);
    std::thread::sleep(SETTLE);
    let once_busy = each();
    println!("octets allocated for a connection: {idle} when it is idle, {once_busy} when it is again");
    assert!(idle <= IDLE_MAX_BYTES, "{idle} octets for an idle connection");
    assert!(once_busy <= ONCE_BUSY_MAX_BYTES, "{once_busy} octets for a connection that is idle again");
    drop((warm_up, idlers));
    runtime.block_on(broker.stop()).unwrap();
}
