//! What queues still know after the broker has been stopped, in order or not: a scenario before, one after.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use leveret_server::Broker;
use leveret_store::MemDisk;
use leveret_testkit::scenario::{self, Target};

/// Plays `before`, ends the broker, starts it again on the same disk and plays `after`.
fn check(before: &str, after: &str) {
    for stops_in_order in [true, false] {
        let disk = MemDisk::new();
        live(&disk, before, stops_in_order);
        live(&disk, after, true);
    }
}

fn live(disk: &MemDisk, steps: &str, stops_in_order: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let builder = Broker::builder().disk(std::sync::Arc::new(disk.clone())).any_port();
    let broker = runtime.block_on(builder.start()).unwrap();
    let target = Target::new(broker.addresses()[0], false);
    let scenarios = scenario::parse("restarts", &format!("scenario restarts\n{steps}")).unwrap();
    let played = scenario::check_and_leave(&scenarios[0], &target, "x");
    if stops_in_order {
        runtime.block_on(broker.stop()).unwrap();
    }
    played.unwrap_or_else(|failure| panic!("stops in order: {stops_in_order}\n{failure}"));
}

#[test]
fn failed_deliveries_are_still_counted() {
    check(
        "1: queue.declare queue=%q durable arguments={x-queue-type=quorum}
         1: confirm.select
         1> basic.publish routing-key=%q body=transient
         1 acked 1..1
         1> basic.get queue=%q
         1< basic.get-ok delivery-tag=1 routing-key=%q body=transient
         1> basic.reject delivery-tag=1 requeue
         1> basic.get queue=%q
         1< basic.get-ok delivery-tag=2 redelivered routing-key=%q props={headers={x-delivery-count=l:1, x-acquired-count=l:1}} body=transient
         1> basic.reject delivery-tag=2 requeue
         1: queue.declare queue=%durable durable",
        "1> basic.get queue=%q
         1< basic.get-ok delivery-tag=1 redelivered routing-key=%q props={headers={x-delivery-count=l:2, ...}} body=transient
         1> basic.ack delivery-tag=1",
    );
}

#[test]
fn a_delayed_retry_still_waits() {
    check(
        "1: queue.declare queue=%q durable arguments={x-delayed-retry-type=all, x-delayed-retry-min=60000}
         1: confirm.select
         1> basic.publish routing-key=%q props={delivery-mode=2} body=a
         1 acked 1..1
         1> basic.get queue=%q
         1< basic.get-ok delivery-tag=1 routing-key=%q props={delivery-mode=2} body=a
         1> basic.nack delivery-tag=1 requeue
         1> basic.publish routing-key=%q props={delivery-mode=2} body=b
         1 acked 2..2",
        "1> basic.get queue=%q
         1< basic.get-ok delivery-tag=1 routing-key=%q props={delivery-mode=2} body=b ...
         1> basic.get queue=%q
         1< basic.get-empty
         1> queue.purge queue=%q
         1< queue.purge-ok message-count=1",
    );
}
