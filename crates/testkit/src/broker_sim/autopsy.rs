//! What a disk holds: every queue is taken apart, without limits, clock or consumers changing anything on the way.

use std::sync::Arc;

use leveret_broker::queue::{
    Aftermath, Consumer, ConsumerKey, Content, Courier, Handed, Incoming, Level, Pos, Stored,
};
use leveret_broker::vhost::Queue;
use leveret_broker::{Message, MessageView, ResidentBytes};
use leveret_store::{Place, ReadError, Store};

use super::ledger::Found;
use super::letter::Letter;
use super::life::open;
use super::make::Make;
use crate::faulty_disk::FaultyDisk;

/// What each queue holds; `None`: there is no such queue.
pub(super) fn contents(disk: &FaultyDisk, makes: &[Make]) -> Result<Vec<Option<Vec<Found>>>, String> {
    let broker = open(disk).map_err(|error| format!("P1: does not start: {error}"))?;
    let vhost = broker.vhost("/").ok_or("P2: the virtual host is gone")?;
    let content = |queue: Arc<Queue>| content(&queue, broker.store().clone());
    makes.iter().map(|make| vhost.queue(&make.name).map(content).transpose()).collect()
}

fn content(queue: &Arc<Queue>, store: Arc<Store>) -> Result<Vec<Found>, String> {
    let mut reader = Reader { queue: queue.clone(), store, resident: ResidentBytes::default() };
    let mut life = queue.lock();
    let rule = life.alive(queue).map_err(|refusal| format!("P7: {refusal}"))?;
    let mut found = Vec::new();
    let mut aftermath = Aftermath::default();
    while let Some(fetched) =
        rule.fetch(false, &mut reader, &mut aftermath).map_err(|damage| format!("P7: {damage}"))?
    {
        let message = fetched.message.view();
        let properties = message.properties.as_bytes();
        let letter = Letter::read(message.exchange, message.routing_key, properties, message.body)?;
        found.push(Found { letter, redelivered: fetched.redelivered });
    }
    Ok(found)
}

/// Reads for a queue at the beginning of time, when nothing has expired.
struct Reader {
    queue: Arc<Queue>,
    store: Arc<Store>,
    resident: ResidentBytes,
}

impl<P> Courier<P> for Reader {
    fn deliver(&mut self, _: &Consumer<P>, _: ConsumerKey, _: Pos, _: bool, _: MessageView<'_>) -> Handed {
        Handed::NoRoom
    }

    fn keep(&mut self, incoming: &mut Incoming<'_>, _waits: bool) -> Content {
        Content::Memory(Arc::new(Message::copy_of(&incoming.view, &self.resident)))
    }

    fn put_aside(&mut self, _incoming: &Incoming<'_>) -> Option<Stored> {
        None
    }

    fn read(&self, level: Level, place: Place) -> Result<Vec<u8>, ReadError> {
        self.store.read(place, self.queue.store_id(level))
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn bounces(&self) -> bool {
        false
    }

    fn is_orphan(&self, _message: &MessageView<'_>) -> bool {
        false
    }

    fn now_ms(&self) -> u64 {
        0
    }

    fn resident(&self) -> &ResidentBytes {
        &self.resident
    }
}
