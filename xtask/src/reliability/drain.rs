//! Empties the queues of the load one by one: what does not come out now is not there.

use std::collections::HashMap;
use std::net::SocketAddr;

use leveret_wire::method::QueueDeclare;

use super::client::{CALL_TIMEOUT, Client, Ended, Event};
use super::load::Load;
use super::message::{QUEUES, queue_name};

/// Messages asked for at a time.
const GETS: usize = 64;

/// Drains all queues. Nobody else may consume them meanwhile.
pub(super) fn drain(address: SocketAddr, load: &Load) -> Result<(), Ended> {
    for queue in 0..QUEUES {
        let mut client = Client::open(address)?;
        let name = queue_name(queue);
        let mut youngest = HashMap::new();
        while get_some(&mut client, load, queue, &mut youngest)? {}
        let left = client.call(QueueDeclare { queue: &name, passive: true, ..Default::default() })?;
        load.with_ledger(|ledger| {
            if left > 0 {
                ledger.fault("not drained", format!("queue {queue} counts {left} messages and gives none"));
            }
            ledger.drained(queue);
        });
    }
    Ok(())
}

/// Takes and acknowledges up to `GETS` messages; false when the queue is empty. `youngest` has the last message of each
/// publisher: they must come in the order they were sent (P6).
fn get_some(
    client: &mut Client,
    load: &Load,
    queue: usize,
    youngest: &mut HashMap<usize, u64>,
) -> Result<bool, Ended> {
    for _ in 0..GETS {
        client.get(&queue_name(queue))?;
    }
    client.flush()?;
    let mut last_tag = None;
    let mut empty = false;
    for _ in 0..GETS {
        match client.next(CALL_TIMEOUT)?.ok_or(Ended::Silent)? {
            Event::Delivery(delivery) => {
                last_tag = Some(delivery.tag);
                take(load, queue, &delivery, youngest);
            }
            Event::NothingToGet => empty = true,
            other => return Err(Ended::Garbled(format!("{other:?} in answer to a get"))),
        }
    }
    if let Some(tag) = last_tag {
        client.ack(tag, true);
        client.flush()?;
    }
    Ok(!empty)
}

fn take(load: &Load, queue: usize, delivery: &super::client::Delivery, youngest: &mut HashMap<usize, u64>) {
    let Some((_, id)) = load.receive(Some(queue), delivery) else { return };
    load.with_ledger(|ledger| {
        if let Some(seen) = ledger.seen(queue, id)
            && !seen.requeued
            && let Some(before) = youngest.insert(seen.publisher, id).filter(|before| *before > id)
        {
            ledger.fault("out of order", format!("{id:x} after {before:x} in queue {queue}"));
        }
        ledger.acked(queue, id);
    });
}
