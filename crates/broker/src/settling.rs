//! Settling: what is still alive in a full log file moves into its queues' segments, then the file goes.
//!
//! Runs beside everything else. A queue is locked twice and briefly: to say what of it lives in the file, and
//! to learn its new place; the copying and syncing between happens without any lock. This is what bounds
//! memory (the log's part of a queue is indexed, segments are not) and recovery (only log files are read).

use std::sync::Arc;

use leveret_store::{CommitError, LogSpan, MetaChange, ReadError, SegmentTail, Segments};

use crate::broker::Broker;
use crate::life::Life;
use crate::queue::{Level, Settling};
use crate::records::{Key, encode_damage};
use crate::vhost::Queue;

impl Broker {
    /// Settles the oldest full log file; `false` when there is none.
    pub fn settle_oldest(&self) -> Result<bool, CommitError> {
        let Some(span) = self.store.file_to_settle() else { return Ok(false) };
        // Whoever logged into this file has put it into its queues once this was locked.
        drop(self.in_flight.write());
        for queue in self.vhosts().iter().flat_map(|vhost| vhost.queues()) {
            let levels = queue.lock().rule().map(|state| state.levels()).unwrap_or_default();
            for (level, durable) in levels.into_iter().flat_map(|level| [(level, true), (level, false)]) {
                self.settle_level(&queue, &span, level, durable)?;
            }
            self.note_damage(&queue)?;
        }
        self.store.retire(span.number)?;
        Ok(true)
    }

    /// A queue is found to be damaged when the log is read. Once the file that says so is set aside, this is what keeps the
    /// queue out of service (P7). Durable before the file goes, as everything that was appended before it.
    fn note_damage(&self, queue: &Queue) -> Result<(), CommitError> {
        let damage = match &*queue.lock() {
            Life::Damaged(what, _) if queue.spec.durable => encode_damage(what),
            _ => return Ok(()),
        };
        self.store.meta(&[MetaChange::Put(Key::Damaged(queue.id).encode(), damage)])?;
        Ok(())
    }

    fn settle_level(
        &self,
        queue: &Arc<Queue>,
        span: &LogSpan,
        level: Level,
        durable: bool,
    ) -> Result<(), CommitError> {
        let mut last = None;
        while let Some(portion) = self.next_portion(queue, span, (level, durable), last.as_ref()) {
            last = portion.alive.last().copied();
            self.settle_portion(queue, span, (level, durable), portion)?;
        }
        let mut life = queue.lock();
        let Some(state) = life.content() else { return Ok(()) };
        match state.segments_mut(level, durable) {
            Some(segments) => segments.flush_acks(&self.store, span.number),
            None => Ok(()),
        }
    }

    /// What is to be copied next, behind `last`; `None`: no more.
    fn next_portion(
        &self,
        queue: &Queue,
        span: &LogSpan,
        (level, durable): (Level, bool),
        last: Option<&Settling>,
    ) -> Option<Portion> {
        let mut life = queue.lock();
        let state = life.content()?;
        let alive = state.alive_in(span, level, durable, last);
        if alive.is_empty() {
            return None;
        }
        let segments = state.segments_mut(level, durable);
        let segments = segments.get_or_insert_with(|| Segments::new(queue.store_id(level), !durable));
        Some(Portion { alive, tail: segments.tail() })
    }

    fn settle_portion(
        &self,
        queue: &Queue,
        span: &LogSpan,
        (level, durable): (Level, bool),
        Portion { alive, tail }: Portion,
    ) -> Result<(), CommitError> {
        let id = queue.store_id(level);
        let mut writer = self.store.block_writer(id, !durable, span.number, &tail);
        let mut moved = Vec::with_capacity(alive.len());
        for settling in alive {
            match self.store.read(settling.place, id) {
                Ok(payload) => {
                    let place = writer.push(settling.pos, settling.id, &settling.stamp.encode(), &payload);
                    moved.push((settling, place));
                }
                // It stays where it is, in a log file that the store keeps.
                Err(damage) => give_up(queue, &settling, &damage),
            }
        }
        let blocks = writer.finish()?;
        let mut life = queue.lock();
        let Some(state) = life.content() else { return Ok(()) };
        let Some(segments) = state.segments_mut(level, durable) else { return Ok(()) };
        segments.add(blocks);
        state.settled(level, durable, moved);
        Ok(())
    }
}

/// Messages that settle together, and where their queue's segments end.
struct Portion {
    alive: Vec<Settling>,
    tail: SegmentTail,
}

/// P7: the queue goes offline; the store keeps the log file with the unreadable message when it is retired.
fn give_up(queue: &Queue, settling: &Settling, damage: &ReadError) {
    tracing::error!(queue = %queue.name, vhost = %queue.vhost, id = settling.id.0, %damage,
        "queue taken offline: a logged message cannot be read; its log file is kept");
    queue.lock().take_offline(damage.to_string());
}
