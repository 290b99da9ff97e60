//! What the handles of a connection and its task have in common, and how everything on it ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use leveret_wire::method::ConnectionClose;
use leveret_wire::{Method, ReplyCode, write_method};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::call::Waiter;
use crate::channel::{Channel, ChannelHandle};
use crate::confirm::Book;
use crate::connection::ServerProperties;
use crate::error::{By, Closed};
use crate::message::{ConsumerEvent, Returned};
use crate::outbox::{Outbox, Writer};
use crate::session::{Ended, Session, Tokens};

/// The values of a session that lives in a process.
pub(crate) struct Live;

impl Tokens for Live {
    type Waiter = Waiter;
    type Consumer = Arc<ConsumerCell>;
    type Channel = Arc<ChannelCore>;
}

/// One connection. Locks are taken in this order: session, book, outbox; none while a callback runs.
pub(crate) struct Shared {
    pub(crate) session: Mutex<Session<Live>>,
    pub(crate) outbox: Outbox,
    pub(crate) server: ServerProperties,
    pub(crate) local_id: u64,
    pub(crate) gate: Arc<Gate>,
    pub(crate) blocked: watch::Sender<Option<Arc<str>>>,
    closing: AtomicBool,
    end: End,
}

/// Consumers that hold more than they should: while there is one, the socket is not read.
#[derive(Default)]
pub(crate) struct Gate(AtomicUsize);

/// One channel, as the connection's task knows it.
pub(crate) struct ChannelCore {
    pub(crate) number: u16,
    pub(crate) handle: OnceLock<Weak<ChannelHandle>>,
    /// Set once the channel is in confirm mode.
    pub(crate) confirms: OnceLock<Mutex<Book>>,
    pub(crate) on_return: Mutex<Option<OnReturn>>,
    end: End,
}

pub(crate) type OnReturn = Box<dyn FnMut(Returned) + Send>;
type OnEvent = Box<dyn FnMut(ConsumerEvent) + Send>;

/// A consumer's callback. Only the connection's task calls it.
pub(crate) struct ConsumerCell {
    on: Mutex<Option<OnEvent>>,
    pub(crate) no_ack: bool,
}

/// Something that ends once, for everybody.
struct End {
    closed: OnceLock<Closed>,
    is_set: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(
        session: Session<Live>,
        outbox: Outbox,
        server: ServerProperties,
        local_id: u64,
    ) -> Shared {
        Shared {
            session: Mutex::new(session),
            outbox,
            server,
            local_id,
            gate: Arc::default(),
            blocked: watch::Sender::new(None),
            closing: AtomicBool::new(false),
            end: End::new(),
        }
    }

    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.end.closed.get()
    }

    pub(crate) async fn until_closed(&self) -> Closed {
        self.end.wait().await
    }

    /// Says goodbye, after everything that was published so far. The task ends when it is answered.
    pub(crate) fn begin_close(&self) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.session.lock().closing();
        let reply_code = ReplyCode::REPLY_SUCCESS.0;
        let close = ConnectionClose { reply_code, reply_text: "closed", class_id: 0, method_id: 0 };
        let mut octets = Vec::new();
        if let Err(error) = write_method(&mut octets, 0, &Method::ConnectionClose(close)) {
            tracing::error!(%error, "connection.close could not be encoded");
        }
        self.outbox.seal(&octets, Closed::connection(By::Us, reply_code, "closed"));
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The end: nothing more is written, and everybody is told. Gives the writer back the first time.
    pub(crate) fn end(&self, closed: &Closed) -> Option<Writer> {
        let writer = self.outbox.close(closed.clone());
        let mut session = self.session.lock();
        if !self.end.close(closed) {
            return writer;
        }
        let ended = session.channels().abandon(closed);
        for channel in &ended {
            channel.channel.close(closed);
        }
        drop(session);
        for channel in ended {
            self.settle(channel);
        }
        self.blocked.send_replace(None);
        self.end.announce();
        writer
    }

    /// Tells everybody on a channel that it has ended. Not to be called with a lock held.
    pub(crate) fn settle(&self, ended: Ended<Live>) {
        let Ended { channel, closed, waiters, closer, consumers, candidates } = ended;
        channel.close(&closed);
        for waiter in waiters {
            waiter.fail(&closed);
        }
        if let Some(closer) = closer {
            closer.closed(&closed);
        }
        if let Some(book) = channel.confirms.get() {
            book.lock().fail_all(&closed, |start| self.outbox.has_left(start));
        }
        for consumer in consumers {
            consumer.finish(ConsumerEvent::Lost(closed.clone()));
        }
        drop(candidates);
        channel.on_return.lock().take();
        channel.end.announce();
    }
}

impl Gate {
    pub(crate) fn is_shut(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn shut(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ChannelCore {
    pub(crate) fn new(number: u16) -> Arc<ChannelCore> {
        Arc::new(ChannelCore {
            number,
            handle: OnceLock::new(),
            confirms: OnceLock::new(),
            on_return: Mutex::new(None),
            end: End::new(),
        })
    }

    /// The channel, while anybody uses it.
    pub(crate) fn channel(&self) -> Option<Channel> {
        self.handle.get()?.upgrade().map(Channel::from_handle)
    }

    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.end.closed.get()
    }

    /// What is still allowed on it: nothing, once it is closed.
    pub(crate) fn admit(&self) -> Result<(), Closed> {
        self.closed().map_or(Ok(()), |closed| Err(closed.clone()))
    }

    /// From now on nothing is appended for this channel. To be called with the session locked, before its number
    /// is free for others.
    pub(crate) fn close(&self, closed: &Closed) {
        self.end.close(closed);
    }

    pub(crate) async fn until_closed(&self) -> Closed {
        self.end.wait().await
    }

    /// Hands a returned message to who asked for such.
    pub(crate) fn returned(&self, returned: Returned) {
        let on_return = self.on_return.lock().take();
        let Some(mut on_return) = on_return else { return };
        on_return(returned);
        self.on_return.lock().get_or_insert(on_return);
    }
}

impl ConsumerCell {
    pub(crate) fn new(no_ack: bool, on: impl FnMut(ConsumerEvent) + Send + 'static) -> Arc<ConsumerCell> {
        Arc::new(ConsumerCell { on: Mutex::new(Some(Box::new(on))), no_ack })
    }

    pub(crate) fn call(&self, event: ConsumerEvent) {
        if let Some(on) = &mut *self.on.lock() {
            on(event);
        }
    }

    /// The last event; the callback and what it holds are dropped.
    pub(crate) fn finish(&self, event: ConsumerEvent) {
        let on = self.on.lock().take();
        if let Some(mut on) = on {
            on(event);
        }
    }

    /// Nothing more comes, as its owner wanted.
    pub(crate) fn forget(&self) {
        let on = self.on.lock().take();
        drop(on);
    }
}

impl End {
    fn new() -> End {
        End { closed: OnceLock::new(), is_set: watch::Sender::new(false) }
    }

    /// Whether this was the first time.
    fn close(&self, closed: &Closed) -> bool {
        self.closed.set(closed.clone()).is_ok()
    }

    /// Wakes who waits, after everything else was told.
    fn announce(&self) {
        self.is_set.send_replace(true);
    }

    async fn wait(&self) -> Closed {
        let mut is_set = self.is_set.subscribe();
        let _never_dropped = is_set.wait_for(|is_set| *is_set).await;
        match self.closed.get() {
            Some(closed) => closed.clone(),
            None => Closed::connection(By::Us, 0, "closed"),
        }
    }
}
