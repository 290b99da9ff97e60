//! What waits to be written to one connection.
//!
//! ```text
//!  publishers, acks, answers ──append──▶ filling ──swap──▶ leaving ──poll_write──▶ socket
//!                                        (lock 1)          (lock 2: whoever writes)
//! ```
//!
//! Appending encodes straight into the buffer. Whoever wants the lowest latency writes from its own thread
//! ([`Outbox::flush`]), with the waker of the connection's task: if the socket takes no more, the task is woken when
//! it does, and goes on. Otherwise the task writes everything that has gathered.
//!
//! Every octet has a number, counted from the first one of the connection; so whoever appended knows later whether
//! any of its octets has left.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::Notify;

use crate::error::{ChannelError, Closed};
use crate::message::Flush;

/// Buffers larger than this are given back when they are empty.
const SPARE_MAX_BYTES: usize = 2 << 20;

pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The unsent octets of one connection.
pub(crate) struct Outbox {
    filling: Mutex<Filling>,
    leaving: Mutex<Leaving>,
    /// Octets that ever left.
    written: AtomicU64,
    /// Octets ever appended.
    appended: AtomicU64,
    limit_bytes: usize,
    frame_max: u32,
    /// Of the connection's task.
    waker: Mutex<Option<Waker>>,
    room: Notify,
}

struct Filling {
    out: Vec<u8>,
    closed: Option<Closed>,
}

struct Leaving {
    octets: Vec<u8>,
    at: usize,
    /// The transport may hold octets back until it is flushed (TLS).
    unflushed: bool,
    writer: Option<Writer>,
}

impl Outbox {
    pub(crate) fn new(writer: Writer, limit_bytes: usize, frame_max: u32) -> Outbox {
        Outbox {
            filling: Mutex::new(Filling { out: Vec::new(), closed: None }),
            leaving: Mutex::new(Leaving {
                octets: Vec::new(),
                at: 0,
                unflushed: false,
                writer: Some(writer),
            }),
            written: AtomicU64::new(0),
            appended: AtomicU64::new(0),
            limit_bytes,
            frame_max,
            waker: Mutex::new(None),
            room: Notify::new(),
        }
    }

    pub(crate) fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// Appends what `write` appends, if `admit` (called under the lock) lets it. Gives the number of the first
    /// octet. With [`Flush::Soon`] the connection's task will write it; with [`Flush::Now`] it is the caller's to
    /// [`Outbox::flush`] next.
    ///
    /// # Errors
    /// The connection is closed, `admit` refused, or a value has no form on the wire; nothing was appended.
    #[inline]
    pub(crate) fn append(
        &self,
        flush: Flush,
        admit: impl FnOnce() -> Result<(), Closed>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), ChannelError>,
    ) -> Result<u64, ChannelError> {
        let mut filling = self.filling.lock();
        if let Some(closed) = &filling.closed {
            return Err(closed.clone().into());
        }
        admit()?;
        let before = filling.out.len();
        if let Err(error) = write(&mut filling.out) {
            filling.out.truncate(before);
            return Err(error);
        }
        let grown = (filling.out.len() - before) as u64;
        let start = self.appended.fetch_add(grown, Ordering::Relaxed);
        drop(filling);
        if before == 0 && flush == Flush::Soon {
            self.wake();
        }
        Ok(start)
    }

    /// Appends frames for the connection's task, which will write them: also after the last word of everybody else.
    pub(crate) fn append_frames(&self, octets: &[u8]) {
        let mut filling = self.filling.lock();
        filling.out.extend_from_slice(octets);
        self.appended.fetch_add(octets.len() as u64, Ordering::Relaxed);
    }

    /// Appends the last word of everybody but the connection's task.
    pub(crate) fn seal(&self, octets: &[u8], closed: Closed) {
        let mut filling = self.filling.lock();
        filling.out.extend_from_slice(octets);
        self.appended.fetch_add(octets.len() as u64, Ordering::Relaxed);
        filling.closed.get_or_insert(closed);
        drop(filling);
        self.room.notify_waiters();
        self.wake();
    }

    /// Whether everything has left.
    pub(crate) fn is_empty(&self) -> bool {
        self.unsent_bytes() == 0
    }

    /// Whether any octet from this number on has left.
    pub(crate) fn has_left(&self, start: u64) -> bool {
        self.written() > start
    }

    /// Octets that ever left; a change is a sign of life to the peer.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// What was appended and has not left.
    pub(crate) fn unsent_bytes(&self) -> u64 {
        self.appended.load(Ordering::Relaxed).saturating_sub(self.written())
    }

    /// Whether a publisher may append without waiting.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.unsent_bytes() < self.limit_bytes as u64
    }

    /// Waits until there is room, or nothing is to be written any more.
    pub(crate) async fn room(&self) {
        while !self.has_room() {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.has_room() || self.filling.lock().closed.is_some() {
                return;
            }
            room.await;
        }
    }

    /// Whose waker writes are polled with.
    pub(crate) fn driven_by(&self, waker: &Waker) {
        let mut stored = self.waker.lock();
        if !stored.as_ref().is_some_and(|stored| stored.will_wake(waker)) {
            *stored = Some(waker.clone());
        }
    }

    /// Lets the connection's task look what there is to do.
    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Writes from this thread what the socket takes; the rest, and all errors, are for the connection's task.
    pub(crate) fn flush(&self) {
        let Some(waker) = self.waker.lock().clone() else { return };
        match self.leaving.try_lock() {
            Some(mut leaving) => {
                if !matches!(self.write(&mut leaving, &mut Context::from_waker(&waker)), Poll::Ready(Ok(())))
                {
                    waker.wake();
                }
            }
            // Whoever writes may have looked before we appended.
            None => waker.wake(),
        }
    }

    /// Writes all there is. For the connection's task.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(&mut self.leaving.lock(), cx)
    }

    /// Nothing more is appended or written; gives the writer back for the last words. Whoever asks
    /// [`Outbox::has_left`] after that gets the final answer.
    pub(crate) fn close(&self, closed: Closed) -> Option<Writer> {
        let mut filling = self.filling.lock();
        filling.closed.get_or_insert(closed);
        filling.out = Vec::new();
        drop(filling);
        let writer = self.leaving.lock().writer.take();
        *self.waker.lock() = None;
        self.room.notify_waiters();
        writer
    }

    fn write(&self, leaving: &mut Leaving, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Leaving { octets, at, unflushed, writer } = leaving;
        let Some(writer) = writer else { return Poll::Ready(Ok(())) };
        loop {
            if *at == octets.len() {
                recycle(octets);
                *at = 0;
                let mut filling = self.filling.lock();
                if filling.out.is_empty() {
                    break;
                }
                std::mem::swap(&mut filling.out, octets);
            }
            match Pin::new(&mut *writer).poll_write(cx, &octets[*at..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    *at += count;
                    *unflushed = true;
                    self.left(count);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if *unflushed {
            std::task::ready!(Pin::new(writer).poll_flush(cx))?;
            *unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn left(&self, count: usize) {
        self.written.fetch_add(count as u64, Ordering::Release);
        // At half the limit, so that a publisher that waited has something to do before it waits again.
        if self.unsent_bytes() <= self.limit_bytes as u64 / 2 {
            self.room.notify_waiters();
        }
    }
}

fn recycle(octets: &mut Vec<u8>) {
    if octets.capacity() > SPARE_MAX_BYTES {
        *octets = Vec::new();
    } else {
        octets.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use leveret_wire::EncodeError;

    use super::*;
    use crate::error::By;

    fn outbox(pipe_bytes: usize, limit_bytes: usize) -> (Outbox, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(pipe_bytes);
        (Outbox::new(Box::new(ours), limit_bytes, 4096), theirs)
    }

    fn put(outbox: &Outbox, octets: &'static [u8]) -> u64 {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(octets);
            Ok(())
        };
        outbox.append(Flush::Now, || Ok(()), write).unwrap()
    }

    #[tokio::test]
    async fn every_octet_has_a_number() {
        let (outbox, mut peer) = outbox(4, 100);
        assert_eq!((put(&outbox, b"abc"), put(&outbox, b"defg")), (0, 3));
        assert!(!outbox.has_left(0));
        let written = poll_fn(|cx| Poll::Ready(outbox.poll_write(cx).is_pending())).await;
        assert!(written, "the pipe takes four");
        assert!(outbox.has_left(0) && outbox.has_left(3) && !outbox.has_left(4));
        let mut octets = [0; 4];
        peer.read_exact(&mut octets).await.unwrap();
        poll_fn(|cx| outbox.poll_write(cx)).await.unwrap();
        assert!(outbox.has_left(6) && !outbox.has_left(7));
    }

    #[tokio::test]
    async fn publishers_wait_for_room_and_for_the_end() {
        let (outbox, _peer) = outbox(64, 4);
        put(&outbox, b"abcd");
        assert!(!outbox.has_room());
        let waiting = tokio::time::timeout(Duration::from_millis(20), outbox.room()).await;
        assert!(waiting.is_err());
        tokio::join!(outbox.room(), async {
            poll_fn(|cx| outbox.poll_write(cx)).await.unwrap();
        });
        put(&outbox, b"abcd");
        tokio::join!(outbox.room(), async {
            outbox.close(Closed::connection(By::Network, 0, "gone"));
        });
        assert!(outbox.append(Flush::Soon, || Ok(()), |_| Ok(())).is_err());
        assert!(!outbox.has_left(4), "what was not sent never will be");
    }

    #[test]
    fn what_cannot_be_encoded_leaves_nothing() {
        let (outbox, _peer) = outbox(64, 100);
        let write = |out: &mut Vec<u8>| {
            out.push(1);
            Err(EncodeError::TableTooDeep.into())
        };
        assert!(outbox.append(Flush::Now, || Ok(()), write).is_err());
        assert_eq!(put(&outbox, b"abc"), 0);
        let refused = outbox.append(Flush::Now, || Err(Closed::channel(By::Us, 200, "")), |_| Ok(()));
        assert!(matches!(refused, Err(ChannelError::Closed(_))));
    }
}
