//! A message on its way through the broker.
//!
//! While it passes it is only a view into the publisher's read buffer ([`MessageView`]). It becomes a
//! [`Message`] of its own when it has to wait. Both have one serial form, which is also what the store keeps:
//!
//! ```text
//!  0          1          2                 6
//! ┌──────────┬──────────┬─────────────────┬──────────┬─────────────┬────────────┬──────┐
//! │ exchange │ routing  │ properties      │ exchange │ routing key │ properties │ body │
//! │ len (u8) │ len (u8) │ len (u32 LE)    │          │             │ as received│      │
//! └──────────┴──────────┴─────────────────┴──────────┴─────────────┴────────────┴──────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leveret_wire::RawProperties;

const HEAD_BYTES: usize = 6;

/// A message borrowed from wherever its bytes are.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// The exchange it was published to, at most 255 octets.
    pub exchange: &'a str,
    /// Its routing key, at most 255 octets.
    pub routing_key: &'a str,
    /// The property bytes as received.
    pub properties: RawProperties<'a>,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> MessageView<'a> {
    /// The fixed head of the serial form.
    pub fn head(&self) -> [u8; HEAD_BYTES] {
        let properties = (self.properties.as_bytes().len() as u32).to_le_bytes();
        let [a, b, c, d] = properties;
        [self.exchange.len() as u8, self.routing_key.len() as u8, a, b, c, d]
    }

    /// The serial form in pieces, to be written without another copy. `head` is [`Self::head`].
    pub fn parts<'b>(&self, head: &'b [u8; HEAD_BYTES]) -> [&'b [u8]; 5]
    where
        'a: 'b,
    {
        [head, self.exchange.as_bytes(), self.routing_key.as_bytes(), self.properties.as_bytes(), self.body]
    }

    /// Octets of the serial form.
    pub fn size_bytes(&self) -> usize {
        HEAD_BYTES
            + self.exchange.len()
            + self.routing_key.len()
            + self.properties.as_bytes().len()
            + self.body.len()
    }

    /// The serial form as one piece.
    pub fn to_payload(&self) -> Vec<u8> {
        let head = self.head();
        let mut payload = Vec::with_capacity(self.size_bytes());
        for part in self.parts(&head) {
            payload.extend_from_slice(part);
        }
        payload
    }

    /// Reads the serial form; `None` when it is not one.
    pub fn from_payload(payload: &'a [u8]) -> Option<Self> {
        let (head, rest) = payload.split_first_chunk::<HEAD_BYTES>()?;
        let [exchange_len, key_len, a, b, c, d] = *head;
        let (exchange, rest) = rest.split_at_checked(exchange_len as usize)?;
        let (routing_key, rest) = rest.split_at_checked(key_len as usize)?;
        let (properties, body) = rest.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)?;
        Some(Self {
            exchange: std::str::from_utf8(exchange).ok()?,
            routing_key: std::str::from_utf8(routing_key).ok()?,
            properties: RawProperties::from_validated(properties),
            body,
        })
    }
}

/// A message that waits: its serial form, counted against the broker's budget while it lives.
#[derive(Debug)]
pub struct Message {
    payload: Vec<u8>,
    resident: ResidentBytes,
}

impl Message {
    /// A copy of what `view` shows.
    pub fn copy_of(view: &MessageView<'_>, resident: &ResidentBytes) -> Self {
        Self::counted(view.to_payload(), resident)
    }

    /// A message read back from the store; `None` when the payload is not one (it was written by us and its
    /// checksum held, so this would be a defect of ours).
    pub fn from_payload(payload: Vec<u8>, resident: &ResidentBytes) -> Option<Self> {
        MessageView::from_payload(&payload)?;
        Some(Self::counted(payload, resident))
    }

    fn counted(payload: Vec<u8>, resident: &ResidentBytes) -> Self {
        resident.0.fetch_add(payload.len(), Ordering::Relaxed);
        Self { payload, resident: resident.clone() }
    }

    /// What it says.
    pub fn view(&self) -> MessageView<'_> {
        MessageView::from_payload(&self.payload).expect("checked when the message was made")
    }

    /// Octets of the serial form.
    pub fn size_bytes(&self) -> usize {
        self.payload.len()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.resident.0.fetch_sub(self.payload.len(), Ordering::Relaxed);
    }
}

/// How many octets of waiting messages are in memory, over all queues of one broker.
#[derive(Clone, Debug, Default)]
pub struct ResidentBytes(Arc<AtomicUsize>);

impl ResidentBytes {
    /// The count at this moment.
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'a>(exchange: &'a str, key: &'a str, body: &'a [u8]) -> MessageView<'a> {
        MessageView { exchange, routing_key: key, properties: RawProperties::default(), body }
    }

    #[test]
    fn the_serial_form_reads_back() {
        let check = |exchange: &str, key: &str, body: &[u8]| {
            let payload = view(exchange, key, body).to_payload();
            assert_eq!(payload.len(), view(exchange, key, body).size_bytes());
            let back = MessageView::from_payload(&payload).unwrap();
            assert_eq!((back.exchange, back.routing_key, back.body), (exchange, key, body));
        };
        check("", "", b"");
        check("amq.topic", "news.ohio", b"snow");
        check(&"x".repeat(255), &"é".repeat(127), &[0; 1000]);
    }

    #[test]
    fn cut_bytes_are_no_message() {
        let payload = view("amq.topic", "news.ohio", b"").to_payload();
        for end in 0..payload.len() {
            assert!(MessageView::from_payload(&payload[..end]).is_none(), "cut at {end}");
        }
    }

    #[test]
    fn residents_are_counted_while_they_live() {
        let resident = ResidentBytes::default();
        let message = Message::copy_of(&view("", "q", b"hello"), &resident);
        assert_eq!(resident.bytes(), message.size_bytes());
        drop(message);
        assert_eq!(resident.bytes(), 0);
    }
}
