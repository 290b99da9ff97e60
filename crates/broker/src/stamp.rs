//! What the store keeps beside a message: when it stops being worth delivering.

use leveret_store::Attributes;

/// A point in time that never comes.
pub(crate) const NEVER_MS: u64 = u64::MAX;

/// When a message was published and when its publisher gives it up. Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher's own limit (`expiration`); [`NEVER_MS`]: none.
    pub expires_at_ms: u64,
    /// From here a queue counts its own limit; 0: already counted in.
    pub published_at_ms: u64,
}

impl Stamp {
    /// A message published now that may wait `ttl_ms`.
    pub fn new(now_ms: u64, ttl_ms: Option<u64>) -> Self {
        Self {
            expires_at_ms: ttl_ms.map_or(NEVER_MS, |ttl| now_ms.saturating_add(ttl)),
            published_at_ms: now_ms,
        }
    }

    /// What a queue keeps: its own limit is counted in.
    pub fn counted(expires_at_ms: u64) -> Self {
        Self { expires_at_ms, published_at_ms: 0 }
    }

    /// What a delay queue keeps: when the message is to be sent on.
    pub fn due_at(at_ms: u64) -> Self {
        Self::counted(at_ms)
    }

    /// When a delay queue sends it on.
    pub fn due_ms(&self) -> u64 {
        self.expires_at_ms
    }

    /// When it expires in a queue that lets messages wait `queue_ttl_ms`: the lower limit wins.
    pub fn expires_at_ms(&self, queue_ttl_ms: Option<u64>) -> u64 {
        match (queue_ttl_ms, self.published_at_ms) {
            (Some(ttl), at) if at > 0 => self.expires_at_ms.min(at.saturating_add(ttl)),
            _ => self.expires_at_ms,
        }
    }

    /// The form in the store.
    pub fn encode(&self) -> Attributes {
        let mut attributes = [0; 16];
        attributes[..8].copy_from_slice(&self.expires_at_ms.to_le_bytes());
        attributes[8..].copy_from_slice(&self.published_at_ms.to_le_bytes());
        attributes
    }

    /// Reads the form in the store.
    pub fn decode(attributes: &Attributes) -> Self {
        let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7] = *attributes;
        Self {
            expires_at_ms: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            published_at_ms: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_limit_wins() {
        let check = |message: Option<u64>, queue: Option<u64>, expected: u64| {
            let stamp = Stamp::decode(&Stamp::new(1000, message).encode());
            assert_eq!(stamp.expires_at_ms(queue), expected, "{message:?} {queue:?}");
        };
        check(None, None, NEVER_MS);
        check(Some(5), None, 1005);
        check(None, Some(7), 1007);
        check(Some(5), Some(7), 1005);
        check(Some(9), Some(7), 1007);
        check(Some(u64::MAX), None, NEVER_MS);
    }

    #[test]
    fn a_queues_limit_is_counted_once() {
        assert_eq!(Stamp::counted(1007).expires_at_ms(Some(7)), 1007);
        assert_eq!(Stamp::counted(NEVER_MS).expires_at_ms(Some(7)), NEVER_MS);
    }
}
