//! The committer and those who wait for it.

use std::sync::Arc;

use leveret_broker::Batch;
use leveret_interleavings::{DiskThreads, House, Publisher, draw, explore, mark};
use parking_lot::{Condvar, Mutex};
use shuttle::thread;

/// So small that a program fills a few of them, and the settler has work.
const LOG_FILE_BYTES: u64 = 400;

/// P1, and no lost wake-up: whoever waits for a confirm gets it, after the flush.
#[test]
fn confirms_follow_their_flush_and_all_arrive() {
    explore("confirms", || {
        let house = House::open(LOG_FILE_BYTES);
        let threads = DiskThreads::start(&house, || {});
        let clients = [(0, "a"), (100, "a"), (200, "b")].map(|(first, queue)| {
            let mut publisher = Publisher::connect(&house, queue, first);
            thread::spawn(move || {
                for _ in 0..2 {
                    assert!(publisher.publish(1 + draw(2) as u32));
                    if draw(2) == 0 {
                        publisher.await_confirms();
                    }
                }
                publisher.await_confirms();
            })
        });
        for client in clients {
            client.join().expect("a panic has ended the run");
        }
        assert!(threads.stop().iter().all(Result::is_ok));
    });
}

/// A flush that fails is the last: what it should have carried is never confirmed, nor what comes later.
#[test]
fn a_failed_flush_confirms_nothing_and_ends_the_threads() {
    explore("failed flush", || {
        let house = House::open(LOG_FILE_BYTES);
        let publishers =
            [(0, "a"), (100, "b")].map(|(first, queue)| Publisher::connect(&house, queue, first));
        let told = Arc::new(publishers.each_ref().map(Publisher::giving_up));
        house.flushed.fail_after(draw(4));
        let threads = DiskThreads::start(&house, move || told.iter().for_each(|tell| tell()));
        let clients = publishers.map(|mut publisher| {
            thread::spawn(move || {
                while publisher.published() < 4 && publisher.publish(1) {
                    publisher.await_confirms();
                }
            })
        });
        for client in clients {
            client.join().expect("a panic has ended the run");
        }
        let ended = threads.stop();
        assert_eq!(house.flushed.has_failed(), ended.iter().any(Result::is_err), "{ended:?}");
    });
}

/// P3: what nobody waits for reaches the disk without being asked for.
#[test]
fn what_nobody_waits_for_reaches_the_disk() {
    explore("notice", || {
        let house = House::open(1 << 20);
        let threads = DiskThreads::start(&house, || {});
        let clients = [1, 2].map(|number| {
            let house = house.clone();
            thread::spawn(move || {
                let mut publisher = Publisher::without_confirms(&house, "a", true, number);
                assert!(publisher.publish(1));
                house.flushed.wait_for(number);
            })
        });
        for client in clients {
            client.join().expect("a panic has ended the run");
        }
        assert!(threads.stop().iter().all(Result::is_ok));
    });
}

/// P2: an `-ok` that waits for the log is not forgotten, and does not come before the flush.
#[test]
fn a_change_is_answered_after_its_flush() {
    explore("changes", || {
        let house = House::open(LOG_FILE_BYTES);
        let threads = DiskThreads::start(&house, || {});
        let clients = [1, 2].map(|number| {
            let house = house.clone();
            thread::spawn(move || {
                let mut batch = Batch::default();
                let mut client = Publisher::without_confirms(&house, "a", true, 0);
                house.declare(client.channel(), &mark(number), true, &mut batch);
                house.work.finish(&mut batch);
                let answered = Arc::new((Mutex::new(false), Condvar::new()));
                let (answer, flushed) = (answered.clone(), house.flushed.clone());
                house.broker.when_durable(house.broker.topology_position(), move || {
                    assert!(flushed.has(number), "P2: change {number} was answered before its flush");
                    *answer.0.lock() = true;
                    answer.1.notify_one();
                });
                house.work.hurry();
                let mut done = answered.0.lock();
                while !*done {
                    answered.1.wait(&mut done);
                }
            })
        });
        for client in clients {
            client.join().expect("a panic has ended the run");
        }
        assert!(threads.stop().iter().all(Result::is_ok));
    });
}
