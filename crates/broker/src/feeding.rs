//! Feeding the readers of streams.
//!
//! Each reads in turns on the task of its own connection, while the stream is unlocked. What was committed is not handed
//! out by the committer: it only tells those who wait, and their connections' tasks do the rest.
//!
//! ```text
//!   publish ─► append ─► somebody waits? ─► awaiting_streams
//!                                               │ committed
//!   ack, room ─► due ─► feed: turns ◄─ resume ◄─┴ tell: the connection's task is woken
//! ```

use std::sync::Arc;

use crate::broker::{Broker, Carrier, quarantine};
use crate::port::{Batch, ChannelPort};
use crate::queue::stream::{Turn, TurnEnd};
use crate::queue::{ConsumerKey, Courier, Rule};
use crate::vhost::Queue;

/// After so many turns a reader pauses: its connection has other work too.
const TURNS_MAX: usize = 8;

impl Broker {
    /// Lets readers read until they have to wait.
    pub(crate) fn feed(&self, queue: &Arc<Queue>, due: Vec<ConsumerKey>, batch: &mut Batch) {
        for key in due {
            self.feed_one(queue, key, batch);
        }
    }

    fn feed_one(&self, queue: &Arc<Queue>, key: ConsumerKey, batch: &mut Batch) {
        for _ in 0..TURNS_MAX {
            let Some(mut turn) = self.begin_turn(queue, key) else { return };
            turn.run(&self.store, |consumer, message| {
                Carrier::new(self, queue, batch).deliver(consumer, key, key, false, message)
            });
            if self.end_turn(queue, turn, batch) == TurnEnd::Waits {
                return;
            }
        }
        let paused = queue.lock().rule().and_then(Rule::stream).and_then(|stream| stream.pause(key));
        if let Some(consumer) = paused {
            consumer.port.connection.resume_later(queue, key);
        }
    }

    fn begin_turn(&self, queue: &Arc<Queue>, key: ConsumerKey) -> Option<Turn<Arc<ChannelPort>>> {
        let mut life = queue.lock();
        let stream = life.rule().and_then(Rule::stream)?;
        let turn = stream.begin_turn(key, &self.store);
        let awaits = turn.is_none() && stream.awaits_commit(self.store.durable());
        drop(life);
        if awaits {
            self.await_commit(queue);
        }
        turn
    }

    fn end_turn(&self, queue: &Arc<Queue>, turn: Turn<Arc<ChannelPort>>, batch: &mut Batch) -> TurnEnd {
        let mut life = queue.lock();
        let Some(stream) = life.rule().and_then(Rule::stream) else { return TurnEnd::Waits };
        stream.end_turn(turn).unwrap_or_else(|damage| {
            quarantine(&mut life, queue, &damage, batch);
            TurnEnd::Waits
        })
    }

    /// Readers of a stream wait for what was just logged.
    pub(crate) fn await_commit(&self, queue: &Arc<Queue>) {
        self.awaiting_streams.lock().push(queue.clone());
        // A commit that ended a moment ago has not seen the entry.
        self.tell_readers();
    }

    /// Tells readers who wait that there is something to read.
    pub(crate) fn tell_readers(&self) {
        // What is taken out here another commit does not see: it may have come meanwhile.
        while !self.tell_readers_up_to(self.store.durable()) {}
    }

    /// Answers whether the log has not grown on the disk meanwhile.
    fn tell_readers_up_to(&self, durable: u64) -> bool {
        let streams = std::mem::take(&mut *self.awaiting_streams.lock());
        let tell = |queue: &Arc<Queue>| {
            let mut life = queue.lock();
            let Some(stream) = life.rule().and_then(Rule::stream) else { return false };
            stream.tell_committed(durable, |key, consumer| {
                consumer.port.connection.resume_later(queue, key);
            })
        };
        let still: Vec<_> = streams.into_iter().filter(tell).collect();
        let is_done = still.is_empty();
        self.awaiting_streams.lock().extend(still);
        is_done || self.store.durable() == durable
    }
}
