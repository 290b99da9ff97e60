//! What waits to be written to one connection.
//!
//! Anybody may append: the connection's own task, publishers whose messages go to its consumers, the
//! committer with confirms. Whoever flushes writes to the socket at once, from its own thread, so that an idle
//! consumer gets its message without another task being woken. Only when the socket takes no more is the rest
//! left to the connection's task:
//!
//! ```text
//!   Idle ──flush──► Writing ──all written──► Idle
//!                      └──socket is full──► Stuck ──(task: socket writable)──► Writing
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use leveret_broker::roster::Traffic;
use leveret_broker::{Delivery, MessageView, Outlet, Verdict};
use leveret_wire::method::{BasicCancel, BasicNack, BasicReturn};
use leveret_wire::{
    INITIAL_FRAME_MAX, Method, ReplyCode, write_ack, write_content, write_deliver, write_heartbeat,
    write_method,
};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::{buffers, vigil};

/// Above this many unsent octets a connection gets no more deliveries (slow consumers stay bounded).
const DELIVERIES_MAX_BYTES: usize = 1 << 20;
/// Above this many unsent octets a connection's own requests are not read: it asks and does not listen.
const REPLIES_MAX_BYTES: usize = 8 << 20;

/// How often a closing connection looks whether its last words have left.
const DRAIN_INTERVAL: Duration = Duration::from_millis(2);

/// Takes octets without waiting: a socket.
pub(crate) trait WriteNow: Send + Sync {
    /// How many octets were taken; `WouldBlock` while it is full.
    fn write_now(self: &Arc<Self>, octets: &[u8]) -> io::Result<usize>;
}

impl WriteNow for TcpStream {
    fn write_now(self: &Arc<Self>, octets: &[u8]) -> io::Result<usize> {
        vigil::used(self);
        self.try_write(octets)
    }
}

/// The unsent octets of one connection.
#[derive(Debug)]
pub(crate) struct Outbox<S = TcpStream> {
    buffer: Mutex<Buffer>,
    unsent_bytes: AtomicUsize,
    traffic: Arc<Traffic>,
    frame_max: AtomicU32,
    cancel_notify: AtomicBool,
    /// Written to directly; `None`: a task of its own writes (TLS, in memory).
    socket: Option<Arc<S>>,
    /// The connection's task has something to do here: a stuck write, room for stalled consumers, channels to close.
    pub(crate) wake: Notify,
    /// There is something to write for a task that writes by itself.
    pub(crate) filled: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    /// Without capacity while it is empty, see [`buffers`].
    out: Vec<u8>,
    state: Writing,
}

#[derive(Debug, Default)]
enum Writing {
    #[default]
    Idle,
    /// Somebody is writing and will look again when done.
    Busy,
    /// The socket was full: these octets from here on.
    Stuck(Vec<u8>, usize),
    /// Nobody listens any more.
    Closed,
}

/// What a flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything is with the socket, or somebody else is at it.
    Done,
    /// The socket is full.
    Stuck,
    /// The socket is gone.
    Closed,
}

impl<S: WriteNow> Outbox<S> {
    pub(crate) fn new(socket: Option<Arc<S>>, traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self {
            buffer: Mutex::default(),
            unsent_bytes: AtomicUsize::new(0),
            traffic,
            frame_max: AtomicU32::new(INITIAL_FRAME_MAX),
            cancel_notify: AtomicBool::new(false),
            socket,
            wake: Notify::new(),
            filled: Notify::new(),
        })
    }

    /// What was agreed with the client.
    pub(crate) fn agreed(&self, frame_max: u32, cancel_notify: bool) {
        self.frame_max.store(frame_max, Ordering::Relaxed);
        self.cancel_notify.store(cancel_notify, Ordering::Relaxed);
    }

    /// Appends a method. A method that has no form on the wire is our mistake and is reported.
    pub(crate) fn send(&self, channel: u16, method: &Method<'_>) {
        self.append(|out, _| {
            if let Err(error) = write_method(out, channel, method) {
                tracing::error!(%error, method = method.name(), "method could not be encoded");
            }
        });
    }

    /// Appends a method with a content.
    pub(crate) fn send_content(&self, channel: u16, method: &Method<'_>, message: &MessageView<'_>) {
        self.append(|out, frame_max| {
            if let Err(error) =
                write_content(out, channel, method, message.properties, message.body, frame_max)
            {
                tracing::error!(%error, method = method.name(), "content could not be encoded");
            }
        });
    }

    /// Appends octets as they are.
    pub(crate) fn send_raw(&self, octets: &[u8]) {
        self.append(|out, _| out.extend_from_slice(octets));
    }

    /// Appends a heartbeat.
    pub(crate) fn send_heartbeat(&self) {
        self.append(|out, _| write_heartbeat(out));
    }

    /// Octets that ever left; a change is a sign of life to the peer.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.traffic.sent_bytes()
    }

    /// Whether the client asks for more than it reads.
    pub(crate) fn is_overfull(&self) -> bool {
        self.unsent_bytes.load(Ordering::Relaxed) > REPLIES_MAX_BYTES
    }

    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent_bytes.load(Ordering::Relaxed) == 0
    }

    /// Whether nothing more will be written.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.buffer.lock().state, Writing::Closed)
    }

    /// Nothing more will be written.
    pub(crate) fn close(&self) {
        let mut buffer = self.buffer.lock();
        buffer.state = Writing::Closed;
        buffer.out = Vec::new();
        self.unsent_bytes.store(0, Ordering::Relaxed);
    }

    /// Lets what was appended leave: at once, from this thread, if the socket takes it.
    pub(crate) fn flush(&self) {
        match self.socket {
            Some(_) => self.flush_directly(),
            None => self.filled.notify_one(),
        }
    }

    /// Whether the socket was full and the connection's task has to go on.
    pub(crate) fn is_stuck(&self) -> bool {
        matches!(self.buffer.lock().state, Writing::Stuck(..))
    }

    /// Waits until everything has left.
    pub(crate) async fn drained(&self) {
        while !self.is_empty() {
            tokio::time::sleep(DRAIN_INTERVAL).await;
        }
    }

    /// Continues a write that had found the socket full. For the connection's task.
    pub(crate) fn resume(&self) -> Flushed {
        let mut buffer = self.buffer.lock();
        match std::mem::replace(&mut buffer.state, Writing::Busy) {
            Writing::Stuck(octets, at) => {
                drop(buffer);
                self.write(octets, at)
            }
            other => {
                let closed = matches!(other, Writing::Closed);
                buffer.state = other;
                if closed { Flushed::Closed } else { Flushed::Done }
            }
        }
    }

    /// Takes everything unsent, for a task that writes by itself. `None`: nothing, or closed.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let mut buffer = self.buffer.lock();
        if buffer.out.is_empty() || matches!(buffer.state, Writing::Closed) {
            return None;
        }
        Some(std::mem::take(&mut buffer.out))
    }

    /// Such a task has written.
    pub(crate) fn written(&self, octets: usize) {
        let unsent = |now: usize| Some(now.saturating_sub(octets)); // it may have been closed meanwhile
        let before =
            self.unsent_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, unsent).unwrap_or(0);
        self.traffic.sent(octets);
        if before >= DELIVERIES_MAX_BYTES {
            self.wake.notify_one(); // mutation: wake-stalled
        }
    }

    fn append(&self, write: impl FnOnce(&mut Vec<u8>, u32)) {
        let mut buffer = self.buffer.lock();
        if matches!(buffer.state, Writing::Closed) {
            return;
        }
        if buffer.out.capacity() == 0 {
            buffer.out = buffers::take();
        }
        let before = buffer.out.len();
        write(&mut buffer.out, self.frame_max.load(Ordering::Relaxed));
        let grown = buffer.out.len() - before;
        self.unsent_bytes.fetch_add(grown, Ordering::Relaxed);
    }

    fn flush_directly(&self) {
        let mut buffer = self.buffer.lock();
        if buffer.out.is_empty() || !matches!(buffer.state, Writing::Idle) {
            return;
        }
        buffer.state = Writing::Busy;
        let octets = std::mem::take(&mut buffer.out);
        drop(buffer);
        if self.write(octets, 0) != Flushed::Done {
            self.wake.notify_one();
        }
    }

    fn write(&self, mut octets: Vec<u8>, mut at: usize) -> Flushed {
        let Some(socket) = &self.socket else { return Flushed::Done };
        loop {
            match socket.write_now(&octets[at..]) {
                Ok(0) => return self.broken(),
                Ok(count) => {
                    at += count;
                    self.written(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut buffer = self.buffer.lock();
                    if !matches!(buffer.state, Writing::Closed) {
                        buffer.state = Writing::Stuck(octets, at);
                    }
                    return Flushed::Stuck;
                }
                Err(_) => return self.broken(),
            }
            if at < octets.len() {
                continue;
            }
            let mut buffer = self.buffer.lock();
            let more = std::mem::take(&mut buffer.out);
            if more.is_empty() && !matches!(buffer.state, Writing::Closed) {
                buffer.state = Writing::Idle;
            }
            drop(buffer);
            buffers::put_back(std::mem::replace(&mut octets, more));
            if octets.is_empty() {
                return Flushed::Done;
            }
            at = 0;
        }
    }

    fn broken(&self) -> Flushed {
        self.close();
        Flushed::Closed
    }
}

/// The outlet of a connection, for the broker.
pub(crate) struct SocketOutlet<S = TcpStream>(pub(crate) Arc<Outbox<S>>);

impl<S: WriteNow> Outlet for SocketOutlet<S> {
    fn deliver(&self, delivery: &Delivery<'_>) {
        let message = &delivery.message;
        self.0.append(|out, frame_max| {
            write_deliver(
                out,
                delivery.channel,
                delivery.consumer_tag,
                delivery.delivery_tag,
                delivery.redelivered,
                message.exchange,
                message.routing_key,
                message.properties,
                message.body,
                frame_max,
            );
        });
    }

    fn returned(&self, channel: u16, code: ReplyCode, message: &MessageView<'_>) {
        let method = Method::BasicReturn(BasicReturn {
            reply_code: code.0,
            reply_text: code.name(),
            exchange: message.exchange,
            routing_key: message.routing_key,
        });
        self.0.send_content(channel, &method, message);
    }

    fn confirm(&self, channel: u16, delivery_tag: u64, multiple: bool, verdict: Verdict) {
        match verdict {
            Verdict::Ack => self.0.append(|out, _| write_ack(out, channel, delivery_tag, multiple)),
            Verdict::Nack => {
                let nack = BasicNack { delivery_tag, multiple, requeue: false };
                self.0.send(channel, &Method::BasicNack(nack));
            }
        }
    }

    fn consumer_cancelled(&self, channel: u16, consumer_tag: &str) {
        if self.takes_cancel() {
            self.0.send(channel, &Method::BasicCancel(BasicCancel { consumer_tag, nowait: true }));
        }
    }

    fn has_room(&self) -> bool {
        self.0.unsent_bytes.load(Ordering::Relaxed) < DELIVERIES_MAX_BYTES
    }

    fn flush(&self) {
        self.0.flush();
    }

    fn takes_cancel(&self) -> bool {
        self.0.cancel_notify.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        self.0.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_room_gets_no_deliveries_but_replies() {
        let outbox = <Outbox>::new(None, Arc::default());
        let outlet = SocketOutlet(outbox.clone());
        assert!(outlet.has_room());
        outbox.send_raw(&vec![0; DELIVERIES_MAX_BYTES]);
        assert!(!outlet.has_room() && !outbox.is_overfull());
        let taken = outbox.take().unwrap();
        outbox.written(taken.len());
        assert!(outlet.has_room() && outbox.is_empty());
    }

    #[test]
    fn nothing_is_kept_for_a_closed_connection() {
        let outbox = <Outbox>::new(None, Arc::default());
        outbox.send_raw(b"abc");
        outbox.close();
        outbox.send_raw(b"def");
        assert!(outbox.is_empty() && outbox.take().is_none());
    }
}
