//! One client's side of the protocol, without a socket: bytes in, effects through the outbox.
//!
//! Each phase is a type; a method of an open connection cannot be reached before there is one:
//!
//! ```text
//!   Header ─► StartOk ─► (credentials checked outside) ─► TuneOk ─► Open ─► Running ─► Closing ─► Closed
//! ```
//!
//! Whatever cannot be answered at once (a password to be hashed, a change to reach the disk) ends
//! [`Session::receive`] with a [`Step`]; the connection's task does it and calls back.

mod dispatch;
mod handshake;
mod running;
mod slots;

use std::sync::Arc;

use leveret_broker::roster::{ConnectionState, Over};
use leveret_broker::{Batch, Refusal};
use leveret_wire::method::{ConnectionClose, ConnectionCloseOk};
use leveret_wire::{Method, RawFrame, ReplyCode, WireError, split_frame};

use crate::chronicle::{self, Ending};
use crate::logins::Claim;
use crate::outbox::Outbox;
use crate::peer::Peer;
use crate::shared::{Shared, now_us};
use handshake::Greeting;
use running::Running;

/// What has to happen before more bytes are received.
#[derive(Debug)]
pub(crate) enum Step {
    /// More bytes.
    More,
    /// The credentials are checked, then [`Session::authenticated`] is called.
    Authenticate(Claim),
    /// The log becomes durable past this position, then [`Session::made_durable`] is called.
    AwaitDurable(u64),
    /// What is in the outbox is written, then the socket is closed.
    Close,
    /// What is in the outbox is written, then the client, who said goodbye, closes the socket. RabbitMQ leaves
    /// that to it, and some clients take an end of file before their reader saw `close-ok` for an error.
    AwaitEnd,
}

/// A client's connection.
pub(crate) struct Session {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    /// How the client reaches us.
    over: Over,
    phase: Phase,
}

enum Phase {
    /// Apart, as it is over soon.
    Greeting(Box<Greeting>),
    Running(Box<Running>),
    /// We have said `connection.close`; only its answer counts, and at a shutdown late settlements.
    Closing(Option<Box<Running>>),
    Closed,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, peer: Peer) -> Self {
        Self { shared, outbox, over: peer.over, phase: Phase::Greeting(Box::new(Greeting::new(peer))) }
    }

    /// Takes what was read; answers how much of it is done with and what comes next. Everything it set in
    /// motion has left, or is with the outboxes, when it returns.
    pub(crate) fn receive(&mut self, input: &[u8]) -> (usize, Step) {
        let mut batch = Batch::at_us(now_us());
        let received = self.receive_all(input, &mut batch);
        self.finish(&mut batch);
        received
    }

    fn receive_all(&mut self, input: &[u8], batch: &mut Batch) -> (usize, Step) {
        let mut consumed = 0;
        loop {
            let rest = &input[consumed..];
            match self.receive_one(rest, batch) {
                Ok(Received::Frame(octets)) => consumed += octets,
                Ok(Received::Step(octets, step)) => return (consumed + octets, step),
                Ok(Received::Incomplete) => return (consumed, Step::More),
                Err(error) => {
                    let step =
                        self.refuse(&error.code, &error.text, (error.class_id, error.method_id), batch);
                    return (input.len(), step);
                }
            }
        }
    }

    fn receive_one(&mut self, rest: &[u8], batch: &mut Batch) -> Result<Received, WireError> {
        match &mut self.phase {
            Phase::Greeting(greeting) => {
                let received = greeting.receive(rest, &self.shared, &self.outbox);
                if let Some(opened) = greeting.take_opened() {
                    let running = Running::new(opened, self.shared.clone(), self.outbox.clone());
                    chronicle::opened(running.connection.record());
                    self.phase = Phase::Running(Box::new(running));
                }
                received
            }
            Phase::Running(running) => {
                let received = running.receive(rest, batch)?;
                if let Received::Step(_, Step::AwaitEnd) = received {
                    self.end(&Ending::Goodbye, batch);
                }
                Ok(received)
            }
            Phase::Closing(late) => receive_closing(rest, late.as_deref_mut(), &self.outbox, batch),
            Phase::Closed => Ok(Received::Step(rest.len(), Step::Close)),
        }
    }

    /// The outcome of [`Step::Authenticate`].
    pub(crate) fn authenticated(&mut self, login: Result<Arc<leveret_broker::users::User>, Refusal>) -> Step {
        let Phase::Greeting(greeting) = &mut self.phase else { return Step::Close };
        match greeting.authenticated(login, &self.shared, &self.outbox) {
            Ok(step) => step,
            Err(refusal) => {
                let text = refusal.explanation;
                self.refuse(&refusal.code, &text, NO_METHOD, &mut Batch::at_us(now_us()))
            }
        }
    }

    /// The outcome of [`Step::AwaitDurable`]: what was held back leaves.
    pub(crate) fn made_durable(&mut self) {
        if let Phase::Running(running) = &mut self.phase {
            let mut batch = Batch::at_us(now_us());
            running.release_held(&mut batch);
            self.outbox.flush();
            self.shared.finish(&mut batch);
        }
    }

    /// Whether the handshake is over.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// Whether we wait for the client's `close-ok`.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// The heartbeat interval in seconds; 0: none.
    pub(crate) fn heartbeat_s(&self) -> u16 {
        match &self.phase {
            Phase::Running(running) => running.heartbeat_s(),
            _ => 0,
        }
    }

    /// Whether the client publishes and so has to stop while an alarm is on.
    pub(crate) fn publishes(&self) -> bool {
        matches!(&self.phase, Phase::Running(running) if running.publishes())
    }

    /// Tells a publishing client why it is not read, or that it is again.
    pub(crate) fn blocked(&mut self, reason: Option<&str>) {
        if let Phase::Running(running) = &mut self.phase {
            running.blocked(reason);
        }
        self.outbox.flush();
    }

    /// The outbox has room: consumers that were held back go on. Or there are channels to be closed, or all of it
    /// is, or the user may do less than before.
    pub(crate) fn wake_up(&mut self) -> Step {
        let Phase::Running(running) = &mut self.phase else { return Step::More };
        let mut batch = Batch::at_us(now_us());
        let step = match running.check_access(&mut batch) {
            Ok(()) => {
                running.resume_consumers(&mut batch);
                running.close_doomed(&mut batch);
                Step::More
            }
            Err(refusal) => self.refuse(&refusal.code, &refusal.explanation, NO_METHOD, &mut batch),
        };
        self.finish(&mut batch);
        step
    }

    /// Shows what the connection is doing.
    pub(crate) fn show(&self, state: ConnectionState) {
        if let Phase::Running(running) = &self.phase {
            running.connection.record().set_state(state);
        }
    }

    /// Closes from our side with a reason of ours, e.g. at shutdown.
    pub(crate) fn force_close(&mut self, reason: &str) -> Step {
        let mut batch = Batch::at_us(now_us());
        let text = format!("broker forced connection closure with reason '{reason}'");
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let step = if let Phase::Running(running) = phase {
            running.connection.record().set_state(ConnectionState::Closing);
            self.say_close(ReplyCode::CONNECTION_FORCED, &text, NO_METHOD);
            self.phase = Phase::Closing(Some(running));
            Step::More
        } else {
            self.phase = phase;
            self.refuse(&ReplyCode::CONNECTION_FORCED, &text, NO_METHOD, &mut batch)
        };
        self.finish(&mut batch);
        step
    }

    /// The socket is gone: the connection's channels, consumers and exclusive queues end.
    pub(crate) fn disconnected(&mut self) {
        let mut batch = Batch::at_us(now_us());
        self.outbox.close();
        let stops = matches!(self.phase, Phase::Closing(_));
        self.end(if stops { &Ending::Stop } else { &Ending::Gone }, &mut batch);
        self.finish(&mut batch);
    }

    /// Says `connection.close` and ends everything the connection had.
    fn refuse(&mut self, code: &ReplyCode, text: &str, method: (u16, u16), batch: &mut Batch) -> Step {
        let said = match &self.phase {
            Phase::Greeting(greeting) => greeting.may_be_told(),
            Phase::Running(_) => true,
            Phase::Closing(_) | Phase::Closed => false,
        };
        if let Phase::Greeting(_) = &self.phase {
            chronicle::turned_away(self.over, *code, text);
        }
        self.end(&Ending::Closed(*code, text), batch);
        if !said {
            return Step::Close;
        }
        self.say_close(*code, text, method);
        self.phase = Phase::Closing(None);
        Step::More
    }

    fn say_close(&self, code: ReplyCode, text: &str, (class_id, method_id): (u16, u16)) {
        let reply_text = Refusal::new(code, text).reply_text();
        let close = ConnectionClose { reply_code: code.0, reply_text: &reply_text, class_id, method_id };
        self.outbox.send(0, &Method::ConnectionClose(close));
    }

    fn end(&mut self, why: &Ending<'_>, batch: &mut Batch) {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        if let Phase::Running(running) | Phase::Closing(Some(running)) = phase {
            chronicle::ended(running.connection.record(), why);
            running.close(batch);
        }
    }

    fn finish(&mut self, batch: &mut Batch) {
        if let Phase::Running(running) = &mut self.phase {
            running.hold_cancelled(batch);
        }
        self.shared.finish(batch);
        self.outbox.flush();
    }
}

/// A heartbeat carries nothing and belongs to no channel.
fn check_heartbeat(frame: &RawFrame<'_>) -> Result<(), WireError> {
    match (frame.payload.is_empty(), frame.channel) {
        (true, 0) => Ok(()),
        (true, _) => Err(frame.unexpected()),
        (false, _) => Err(frame.unknown()),
    }
}

/// What is blamed when no method is.
const NO_METHOD: (u16, u16) = (0, 0);

/// What one look at the input came to.
enum Received {
    /// A frame of so many octets was dealt with.
    Frame(usize),
    /// So many octets were dealt with and something else has to happen.
    Step(usize, Step),
    /// There is no whole frame.
    Incomplete,
}

/// After our `connection.close` everything is discarded but its answer and the client's own close. At a shutdown
/// (`late`) the client has done nothing wrong: what it settled before it read our word still counts (P3).
fn receive_closing(
    rest: &[u8],
    late: Option<&mut Running>,
    outbox: &Outbox,
    batch: &mut Batch,
) -> Result<Received, WireError> {
    let (frame, octets) = match split_frame(rest, 0) {
        Ok(Some(split)) => split,
        Ok(None) => return Ok(Received::Incomplete),
        // What follows a broken frame cannot be cut into frames; the connection's task gives up after a while.
        Err(_) => return Ok(Received::Frame(rest.len())),
    };
    if let Some(running) = late {
        running.settle_late(&frame, batch);
    }
    match control_method(&frame) {
        Some(Method::ConnectionCloseOk(_)) => Ok(Received::Step(octets, Step::Close)),
        Some(Method::ConnectionClose(_)) => {
            outbox.send(0, &Method::ConnectionCloseOk(ConnectionCloseOk));
            Ok(Received::Frame(octets))
        }
        _ => Ok(Received::Frame(octets)),
    }
}

fn control_method<'a>(frame: &RawFrame<'a>) -> Option<Method<'a>> {
    if frame.kind != leveret_wire::FRAME_METHOD || frame.channel != 0 {
        return None;
    }
    Method::decode(frame.payload).ok()
}
