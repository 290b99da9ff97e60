//! From a queue to its consumer's client: whoever publishes writes, until the socket is full or too much is unsent.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use leveret_broker::ops::consume::Consume;
use leveret_broker::ops::settle::Settlement;
use leveret_broker::{Batch, Channel, ConnectionPort};
use leveret_interleavings::{House, Marks, Pipe, Publisher, explore};
use leveret_server::interleavings::{Socket, Way};
use leveret_wire::FieldTable;
use parking_lot::Mutex;
use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

const QUEUE: &str = "q";
const PUBLISHERS: [u32; 2] = [100, 200];
const EACH: u32 = 3;
/// A third of what a connection may have unsent before it gets no more: six of them stall its consumer.
const LARGE_BYTES: usize = 400 << 10;
const SMALL_BYTES: usize = 8;
const SOCKET_BYTES: usize = 300 << 10;

/// A connection that consumes, and its task.
struct Consumer<S: 'static> {
    house: Arc<House>,
    way: Way<S>,
    port: Arc<ConnectionPort>,
    channel: Channel,
    client: Arc<Client>,
}

/// What the client asks for.
#[derive(Default)]
struct Client {
    acknowledged: Mutex<Vec<u64>>,
    is_done: Mutex<bool>,
    sent: Notify,
}

impl Client {
    fn acknowledge(&self, tag: u64) {
        self.acknowledged.lock().push(tag);
        self.sent.notify_one();
    }

    fn leave(&self) {
        *self.is_done.lock() = true;
        self.sent.notify_one();
    }
}

impl<S: Socket> Consumer<S> {
    fn start(house: &Arc<House>, way: Way<S>, prefetch: u16) -> Self {
        let port = house.port(way.outlet());
        let mut channel = house.channel(port.clone());
        let mut batch = Batch::default();
        house.declare(&mut channel, QUEUE, false, &mut batch);
        channel.limit_prefetch(0, prefetch, false, &mut batch).expect("a limit in messages is allowed");
        let no_ack = prefetch == 0;
        let consume = Consume {
            queue: QUEUE,
            consumer_tag: "c",
            no_ack,
            exclusive: false,
            arguments: FieldTable::default(),
        };
        channel.consume(consume, 0).expect("guest may consume");
        channel.start_deliveries("c", &mut batch).expect("the queue is in order");
        house.work.finish(&mut batch);
        Self { house: house.clone(), way, port, channel, client: Arc::default() }
    }

    /// What a connection's task does about output, and about acknowledgements; `room` says that the socket takes more.
    fn run(mut self, room: impl AsyncFn()) {
        loop {
            let stuck = self.way.is_stuck();
            let disturbed = block_on(async {
                let (mut woken, mut sent) = (pin!(self.way.woken()), pin!(self.client.sent.notified()));
                let mut room = pin!(room());
                poll_fn(|context| {
                    let is_woken = woken.as_mut().poll(context).is_ready()
                        || (stuck && room.as_mut().poll(context).is_ready());
                    match is_woken || sent.as_mut().poll(context).is_ready() {
                        true => Poll::Ready(is_woken),
                        false => Poll::Pending,
                    }
                })
                .await
            });
            let mut batch = Batch::default();
            if disturbed {
                if !self.way.resume() {
                    return assert!(*self.client.is_done.lock(), "nobody has hung up");
                }
                self.house.broker.resume(self.port.take_stalled(), &mut batch);
            } else {
                for tag in std::mem::take(&mut *self.client.acknowledged.lock()) {
                    self.channel.settle(tag, false, Settlement::Ack, &mut batch).expect("it is outstanding");
                }
            }
            self.house.work.finish(&mut batch);
            if *self.client.is_done.lock() {
                return self.way.close();
            }
        }
    }
}

fn publish_all(house: &Arc<House>, body_bytes: usize) -> [JoinHandle<()>; 2] {
    PUBLISHERS.map(|first| {
        let mut publisher =
            Publisher::without_confirms(house, QUEUE, false, first).with_bodies_of(body_bytes);
        thread::spawn(move || assert!((0..EACH).all(|_| publisher.publish(1))))
    })
}

/// Reads until every message has come once, those of each publisher in their order.
fn read_all(client: &Client, acknowledges: bool, mut read: impl FnMut() -> Vec<u8>) {
    let (mut marks, mut next) = (Marks::default(), PUBLISHERS);
    let mut tag = 0;
    while next != PUBLISHERS.map(|first| first + EACH) {
        for number in marks.find(&read()) {
            let publisher = next.iter().position(|expected| *expected == number);
            next[publisher.unwrap_or_else(|| panic!("P6: {number} came, expected one of {next:?}"))] += 1;
            tag += 1;
            if acknowledges {
                client.acknowledge(tag);
            }
        }
    }
    client.leave();
}

fn over_a_socket(prefetch: u16, body_bytes: usize, socket_bytes: usize) {
    let house = House::open(1 << 20);
    let pipe = Pipe::new(socket_bytes);
    let consumer = Consumer::start(&house, Way::direct(pipe.clone()), prefetch);
    let (client, socket) = (consumer.client.clone(), pipe.clone());
    let task = thread::spawn(move || consumer.run(async || socket.room.notified().await));
    let publishers = publish_all(&house, body_bytes);
    read_all(&client, prefetch > 0, || pipe.read());
    for thread in publishers.into_iter().chain([task]) {
        thread.join().expect("a panic has ended the run");
    }
}

/// The consumer stalls, is resumed, and nothing is forgotten on the way.
#[test]
fn a_full_socket_holds_nothing_back_for_ever() {
    explore("full socket", || over_a_socket(0, LARGE_BYTES, SOCKET_BYTES));
}

/// Every octet of its own: the writers' hand-over is seen at every point.
#[test]
fn writers_take_turns_in_order() {
    explore("turns", || over_a_socket(0, SMALL_BYTES, 64));
}

/// An acknowledgement lets the next message go, whoever is publishing meanwhile.
#[test]
fn acknowledgements_let_the_next_message_go() {
    explore("acknowledgements", || over_a_socket(1, SMALL_BYTES, 1 << 10));
}

/// As over TLS: a task of its own writes.
#[test]
fn a_task_that_writes_misses_nothing() {
    explore("writing task", || {
        let house = House::open(1 << 20);
        let way = Way::<Pipe>::through_a_task();
        let (mut near, far) = tokio::io::duplex(SOCKET_BYTES);
        let consumer = Consumer::start(&house, way.clone(), 0);
        let client = consumer.client.clone();
        let writer = thread::spawn(move || block_on(way.write_all(tokio::io::split(far).1)));
        let task = thread::spawn(move || consumer.run(async || std::future::pending().await));
        let publishers = publish_all(&house, LARGE_BYTES);
        // The client hangs up with the last mark: nobody reads what is left of that body.
        read_all(&client, false, move || {
            let mut octets = vec![0; SOCKET_BYTES];
            let count = block_on(near.read(&mut octets)).expect("memory does not fail");
            octets.truncate(count);
            octets
        });
        for thread in publishers.into_iter().chain([writer, task]) {
            thread.join().expect("a panic has ended the run");
        }
    });
}
