//! The one task of a connection: it reads, tells everybody, and writes.
//!
//! ```text
//!   ┌▶ read all there is ─▶ session ─▶ waiters, consumers' callbacks ─▶ write what gathered ─┐
//!   └────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! While a consumer holds more than it should ([`Gate`](crate::shared::Gate)) nothing is read, so the broker stops
//! sending; writing and heartbeats go on. When the task ends, however it ends, everything in flight is told.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use leveret_wire::method::ConnectionClose;
use leveret_wire::{FRAME_METHOD, Method, ReplyCode, WireError, split_frame, write_heartbeat, write_method};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use crate::call::Waiter;
use crate::channel::delivery;
use crate::error::{By, Closed};
use crate::message::ConsumerEvent;
use crate::session::{Answer, Event, Incoming, Step};
use crate::shared::{ChannelCore, ConsumerCell, Live, Shared};
use crate::transport::Reader;

/// Octets to read at a time. The buffer grows to hold a whole frame besides.
const READ_BYTES: usize = 64 << 10;
/// Unsent octets that are worth a system call of their own.
const COMPANY_MAX_BYTES: u64 = 32 << 10;
/// How long an answer to connection.close may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of a stream may take, when all is said.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Looks per heartbeat interval: who has sent nothing since the last one sends a heartbeat.
const LOOKS_PER_HEARTBEAT: u32 = 2;
/// Looks without a sign of life after which the peer is lost: two intervals.
const SILENT_LOOKS_MAX: u32 = 2 * LOOKS_PER_HEARTBEAT;

/// The task's state.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    reader: Reader,
    /// Received octets that are not done with: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// What the session wants answered at once.
    replies: Vec<u8>,
    pulse: Option<Pulse>,
    closing: Option<Pin<Box<Sleep>>>,
    /// Others have had their turn since something was there to write.
    has_yielded: bool,
    write_error: Option<io::Error>,
}

/// Signs of life, ours and theirs.
struct Pulse {
    looks: Interval,
    interval_s: u16,
    silent_looks: u32,
    has_received: bool,
    written_bytes: u64,
}

impl Driver {
    /// `received` is what came with the last octets of the handshake.
    pub(crate) fn new(shared: Arc<Shared>, reader: Reader, received: Vec<u8>, heartbeat_s: u16) -> Driver {
        let end = received.len();
        let mut buffer = received;
        buffer.resize(end + READ_BYTES, 0);
        let pulse = (heartbeat_s > 0).then(|| Pulse::new(heartbeat_s));
        Driver {
            shared,
            reader,
            buffer,
            start: 0,
            end,
            replies: Vec::new(),
            pulse,
            closing: None,
            has_yielded: false,
            write_error: None,
        }
    }

    /// Runs the connection until its end.
    pub(crate) async fn run(mut self) {
        let closed = poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!(local_id = self.shared.local_id, %closed, "connection ended");
        if let Some(mut writer) = self.shared.end(&closed)
            && closed.by != By::Network
        {
            let _best_effort = tokio::time::timeout(SHUTDOWN_TIMEOUT, writer.shutdown()).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        self.shared.outbox.driven_by(cx.waker());
        loop {
            let dispatched = match self.dispatch() {
                Ok(None) => Dispatched::All,
                Ok(Some(ended)) => ended,
                Err(error) => return Poll::Ready(self.give_up(&error, cx)),
            };
            if matches!(dispatched, Dispatched::Closed(_)) || !self.lets_others_go_first(cx) {
                self.write(cx);
            }
            match dispatched {
                Dispatched::Closed(closed) => return Poll::Ready(closed),
                Dispatched::Stalled => break,
                Dispatched::All => {}
            }
            match self.read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(self.lost("the broker closed the socket")),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(self.lost(&error.to_string())),
                Poll::Pending => break,
            }
        }
        if let Some(error) = &self.write_error {
            // Nothing to read that would say more.
            return Poll::Ready(self.lost(&error.to_string()));
        }
        self.poll_timers(cx)
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        if self.shared.is_closing() {
            let deadline = self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
            if deadline.as_mut().poll(cx).is_ready() {
                let code = ReplyCode::REPLY_SUCCESS.0;
                return Poll::Ready(Closed::connection(By::Us, code, "closed without an answer"));
            }
        }
        let is_stalled = self.shared.gate.is_shut();
        let Some(pulse) = &mut self.pulse else { return Poll::Pending };
        let mut has_beaten = false;
        while pulse.looks.poll_tick(cx).is_ready() {
            if let Err(text) = pulse.look(&self.shared, is_stalled) {
                return Poll::Ready(Closed::connection(By::Network, 0, &text));
            }
            has_beaten = true;
        }
        if has_beaten {
            self.write(cx);
        }
        Poll::Pending
    }

    /// Tells everybody what has come.
    fn dispatch(&mut self) -> Result<Option<Dispatched>, WireError> {
        loop {
            if self.shared.gate.is_shut() && !self.anybody_waits() {
                return Ok(Some(Dispatched::Stalled));
            }
            let mut session = self.shared.session.lock();
            let step = session.receive(&self.buffer[self.start..self.end], &mut self.replies)?;
            if let Step::Took(_, Some(Event::ChannelEnded(ended))) = &step {
                // Before the number is free for others, which it is when the answer is in the outbox.
                ended.channel.close(&ended.closed);
            }
            if !self.replies.is_empty() {
                self.shared.outbox.append_frames(&self.replies);
                self.replies.clear();
            }
            drop(session);
            let Step::Took(size_bytes, event) = step else {
                self.make_room();
                return Ok(None);
            };
            self.start += size_bytes;
            match event {
                None => {}
                Some(Event::Closed(closed)) => return Ok(Some(Dispatched::Closed(closed))),
                Some(event) => self.tell(event)?,
            }
        }
    }

    #[inline]
    fn tell(&self, event: Event<Live>) -> Result<(), WireError> {
        match event {
            Event::Delivered { channel, consumer, incoming } => self.deliver(&channel, &consumer, incoming),
            Event::Settled { channel, delivery_tag, multiple, ack } => {
                if let Some(book) = channel.confirms.get() {
                    book.lock().settle(delivery_tag, multiple, ack)?;
                }
            }
            Event::Returned { channel, returned } => {
                let returned = match channel.confirms.get() {
                    Some(book) => book.lock().returned(returned),
                    None => Some(returned),
                };
                if let Some(returned) = returned {
                    channel.returned(returned);
                }
            }
            Event::Answered { channel, waiter, answer, dropped } => {
                if let Some(consumer) = dropped {
                    consumer.forget();
                }
                answered(&channel, waiter, answer);
            }
            Event::Cancelled { consumer } => consumer.finish(ConsumerEvent::Cancelled),
            Event::ChannelEnded(ended) => self.shared.settle(ended),
            Event::Blocked(reason) => drop(self.shared.blocked.send_replace(Some(reason))),
            Event::Unblocked => drop(self.shared.blocked.send_replace(None)),
            Event::Closed(_) => {}
        }
        Ok(())
    }

    #[inline]
    fn deliver(&self, core: &Arc<ChannelCore>, consumer: &Arc<ConsumerCell>, incoming: Incoming) {
        // Nobody has the channel any more: it is about to be closed, and the broker takes the message back.
        let Some(channel) = core.channel() else { return };
        let batch_left = self.another_follows(core.number, &incoming.consumer_tag);
        let delivery = delivery(channel, incoming, consumer.no_ack, batch_left);
        consumer.call(ConsumerEvent::Delivery(delivery));
    }

    /// Whether the next frame is there and starts another delivery for the consumer.
    fn another_follows(&self, channel: u16, consumer_tag: &str) -> bool {
        let rest = &self.buffer[self.start..self.end];
        let Ok(Some((frame, size_bytes))) = split_frame(rest, self.shared.outbox.frame_max()) else {
            return false;
        };
        let of_delivery = frame.kind == FRAME_METHOD && frame.channel == channel;
        let Some(tag) = frame.payload.strip_prefix(&[0, 60, 0, 60]).filter(|_| of_delivery) else {
            return false;
        };
        let is_ours = tag
            .split_first()
            .is_some_and(|(&size, tag)| tag.get(..usize::from(size)) == Some(consumer_tag.as_bytes()));
        let limits = (self.shared.outbox.frame_max(), u64::MAX);
        is_ours && leveret_wire::whole_content(&rest[size_bytes..], channel, 60, limits.0, limits.1).is_some()
    }

    /// Whether somebody waits for what is still in the socket.
    fn anybody_waits(&self) -> bool {
        let mut session = self.shared.session.lock();
        let channels = session.channels();
        let of_book =
            |core: &Arc<ChannelCore>| core.confirms.get().is_some_and(|book| book.lock().anybody_waits());
        channels.anybody_waits() || channels.tokens().any(of_book) || self.shared.is_closing()
    }

    /// Whoever wakes this task to write is seldom alone: those who are ready to run get their turn first, once, so that
    /// one system call takes what they all have to say.
    fn lets_others_go_first(&mut self, cx: &mut Context<'_>) -> bool {
        let unsent_bytes = self.shared.outbox.unsent_bytes();
        if self.has_yielded || unsent_bytes == 0 || unsent_bytes >= COMPANY_MAX_BYTES {
            self.has_yielded = false;
            return false;
        }
        self.has_yielded = true;
        cx.waker().wake_by_ref();
        true
    }

    fn write(&mut self, cx: &mut Context<'_>) {
        if self.write_error.is_none()
            && let Poll::Ready(Err(error)) = self.shared.outbox.poll_write(cx)
        {
            // The broker's last words may be there to be read.
            self.write_error = Some(error);
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut free = ReadBuf::new(&mut self.buffer[self.end..]);
        std::task::ready!(Pin::new(&mut self.reader).poll_read(cx, &mut free))?;
        let count = free.filled().len();
        self.end += count;
        if let Some(pulse) = &mut self.pulse {
            pulse.has_received |= count > 0;
        }
        Poll::Ready(Ok(count))
    }

    /// What is left of a frame goes to the front; the rest of the buffer is for what comes.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end + READ_BYTES / 2 > self.buffer.len() {
            // Bounded: what is left is less than a frame, and that was checked against frame_max.
            self.buffer.resize(self.end + READ_BYTES, 0);
        } else if self.end == 0 && self.buffer.len() > 4 * READ_BYTES {
            self.buffer = vec![0; READ_BYTES];
        }
    }

    /// The broker broke the protocol: it is told, as far as the socket takes it.
    fn give_up(&mut self, error: &WireError, cx: &mut Context<'_>) -> Closed {
        let text = error.reply_text();
        let WireError { code, class_id, method_id, .. } = *error;
        let close = ConnectionClose { reply_code: code.0, reply_text: &text, class_id, method_id };
        let mut octets = Vec::new();
        if write_method(&mut octets, 0, &Method::ConnectionClose(close)).is_ok() {
            self.shared.outbox.append_frames(&octets);
            self.write(cx);
        }
        tracing::warn!(local_id = self.shared.local_id, %error, "the broker broke the protocol");
        Closed::connection(By::Us, code.0, &text)
    }

    fn lost(&self, text: &str) -> Closed {
        if self.shared.is_closing() {
            return Closed::connection(By::Us, ReplyCode::REPLY_SUCCESS.0, "closed");
        }
        Closed::connection(By::Network, 0, text)
    }
}

/// How far the received octets were told.
enum Dispatched {
    All,
    Stalled,
    Closed(Closed),
}

/// Also if a callback panics or the runtime goes: whoever waits must not wait for ever.
impl Drop for Driver {
    fn drop(&mut self) {
        if self.shared.closed().is_none() {
            self.shared.end(&Closed::connection(By::Network, 0, "the connection's task was stopped"));
        }
    }
}

impl Pulse {
    fn new(interval_s: u16) -> Pulse {
        let period = Duration::from_secs(interval_s.into()) / LOOKS_PER_HEARTBEAT;
        let mut looks = tokio::time::interval_at(Instant::now() + period, period);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pulse { looks, interval_s, silent_looks: 0, has_received: false, written_bytes: 0 }
    }

    /// Sends a heartbeat if nothing else was sent.
    ///
    /// # Errors
    /// The peer has been silent for two intervals.
    fn look(&mut self, shared: &Shared, is_stalled: bool) -> Result<(), String> {
        let written_bytes = shared.outbox.written();
        if written_bytes == self.written_bytes && shared.outbox.is_empty() {
            let mut octets = Vec::new();
            write_heartbeat(&mut octets);
            shared.outbox.append_frames(&octets);
        }
        self.written_bytes = written_bytes;
        // Who does not listen cannot say that the other is silent.
        let heard = std::mem::take(&mut self.has_received) || is_stalled;
        self.silent_looks = if heard { 0 } else { self.silent_looks + 1 };
        if self.silent_looks >= SILENT_LOOKS_MAX {
            return Err(format!("no sign of life from the broker for {} s", 2 * u32::from(self.interval_s)));
        }
        Ok(())
    }
}

/// An answer that nobody takes any more is undone.
fn answered(core: &Arc<ChannelCore>, waiter: Waiter, answer: Answer) {
    if let (Some((answer, undo)), Some(channel)) = (waiter.answer(answer), core.channel()) {
        undo.apply(&channel, &answer);
    }
}
