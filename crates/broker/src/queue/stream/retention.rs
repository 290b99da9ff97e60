//! What a stream drops: the oldest messages, because of its size (`x-max-length-bytes`) or their age (`x-max-age`).
//!
//! From the segments whole ones go, so up to one segment more than the limit stays; the log is cut message by message.
//! Nothing is written about it: a segment that was dropped is left out when the next log file is retired, a message
//! in the log is not settled. After a crash before that they are back, and dropped again.

use leveret_store::{ReadError, SegmentSpan, Segments, Store};

use super::turn::last_published_ms;
use super::{Offset, StreamState};
use crate::stamp::NEVER_MS;

impl<P: Clone> StreamState<P> {
    /// Drops what is too much or too old.
    ///
    /// # Errors
    /// When the age of a segment cannot be read.
    pub fn trim(&mut self, now_ms: u64, store: &Store) -> Result<(), ReadError> {
        if self.settings.size_bytes.is_none() && self.settings.max_age_ms.is_none() {
            return Ok(());
        }
        loop {
            match self.oldest_span() {
                Some(span) if self.is_span_too_much(&span, now_ms, store)? => {
                    self.first = span.last_pos() + 1;
                    self.forget_dropped_segments();
                }
                None if self.is_message_too_much(now_ms) => self.drop_from_log(),
                _ => return Ok(()),
            }
        }
    }

    /// When something will be too old; `None` if that was answered before, or never.
    pub fn new_deadline_ms(&mut self, store: &Store) -> Option<u64> {
        let max_age_ms = self.settings.max_age_ms?;
        let oldest_ms = match self.oldest_span() {
            Some(span) => self.last_published_ms(&span, store).ok()?,
            None => self.log.published_ms(self.first)?,
        };
        let deadline_ms = oldest_ms.saturating_add(max_age_ms);
        if deadline_ms >= self.deadline_ms {
            return None;
        }
        self.deadline_ms = deadline_ms;
        Some(deadline_ms)
    }

    /// The time that [`Self::new_deadline_ms`] named has come; [`Self::trim`] afterwards.
    pub fn deadline_came(&mut self) {
        self.deadline_ms = NEVER_MS;
    }

    /// Drops segments without a living message, but not the last one, which says where the stream goes on.
    pub(super) fn forget_dropped_segments(&mut self) {
        let Some(segments) = &mut self.settled else { return };
        let last_pos = segments.last_pos();
        while segments.span_at(0).is_some_and(|span| span.last_pos() < self.first.min(last_pos)) {
            segments.forget_oldest();
        }
    }

    /// The oldest segment with a message that was not dropped.
    fn oldest_span(&self) -> Option<SegmentSpan> {
        self.settled.as_ref().and_then(|segments: &Segments| segments.span_at(self.first))
    }

    fn is_span_too_much(
        &mut self,
        span: &SegmentSpan,
        now_ms: u64,
        store: &Store,
    ) -> Result<bool, ReadError> {
        let left_bytes = self.size_bytes().saturating_sub(span.payload_bytes());
        if self.settings.size_bytes.is_some_and(|max| left_bytes >= max) {
            return Ok(true);
        }
        let Some(max_age_ms) = self.settings.max_age_ms else { return Ok(false) };
        Ok(self.last_published_ms(span, store)?.saturating_add(max_age_ms) <= now_ms)
    }

    /// The newest message stays whatever its size.
    fn is_message_too_much(&self, now_ms: u64) -> bool {
        let Some(published_ms) = self.log.published_ms(self.first) else { return false };
        let is_old = |max_age_ms: u64| published_ms.saturating_add(max_age_ms) <= now_ms;
        self.settings.size_bytes.is_some_and(|max| self.log_bytes > max) && self.len() > 1
            || self.settings.max_age_ms.is_some_and(is_old)
    }

    fn drop_from_log(&mut self) {
        if let Some(logged) = self.log.get(self.first) {
            self.log_bytes -= u64::from(logged.size_bytes);
        }
        self.first += 1;
    }

    fn last_published_ms(&mut self, span: &SegmentSpan, store: &Store) -> Result<u64, ReadError> {
        let last_pos: Offset = span.last_pos();
        if let Some((known, published_ms)) = self.oldest_settled
            && known == last_pos
        {
            return Ok(published_ms);
        }
        let published_ms = last_published_ms(store, span)?;
        self.oldest_settled = Some((last_pos, published_ms));
        Ok(published_ms)
    }
}
