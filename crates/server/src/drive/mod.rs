//! The task of one connection: carries bytes between its transport and its [`Session`], and keeps its times.

mod acknowledging;
mod heart;
mod tcp;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use leveret_broker::roster::{ConnectionState, Over, Traffic};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::chronicle;
use crate::lobby::Guest;
use crate::logins::Visitor;
use crate::outbox::{Flushed, Outbox};
use crate::peer::Peer;
use crate::session::{Session, Step};
use crate::shared::Shared;
use heart::{Beat, Heart};
pub(crate) use tcp::serve_tcp;
pub(crate) use transport::serve_stream;
#[cfg(feature = "interleavings")]
pub(crate) use transport::write_all;

/// How long a client may take to answer our `connection.close`.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(900);
/// How often a connection held back by a slow disk looks again.
const BEHIND_INTERVAL: Duration = Duration::from_millis(2);

/// What a connection's task has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Go on.
    Continue,
    /// Write what is left, then hang up.
    HangUp,
    /// Write what is left, then let the peer hang up.
    AwaitEnd,
    /// The peer is gone.
    Gone,
}

/// Everything of a connection that does not depend on its transport.
struct Driver {
    shared: Arc<Shared>,
    session: Session,
    outbox: Arc<Outbox>,
    /// Input that is not a whole frame yet, or must wait.
    partial: Vec<u8>,
    over: Over,
    visitor: Visitor,
    traffic: Arc<Traffic>,
    /// Its place among those who have not logged in yet.
    guest: Option<Guest>,
    waits: Waits,
    /// The log is durable past what was waited for.
    durable: Arc<Notify>,
    alarm: watch::Receiver<Option<&'static str>>,
    stopping: watch::Receiver<bool>,
    heart: Heart,
    /// When to give up on a handshake or a close.
    deadline: Option<Instant>,
}

/// Why input is not taken at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    for_log: bool,
    for_alarm: bool,
    for_disk: bool,
}

impl Waits {
    fn any(self) -> bool {
        self.for_log || self.for_alarm || self.for_disk
    }
}

impl Driver {
    fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, peer: Peer, guest: Option<Guest>) -> Self {
        Self {
            over: peer.over,
            visitor: peer.visitor(),
            traffic: peer.traffic.clone(),
            session: Session::new(shared.clone(), outbox.clone(), peer),
            outbox,
            partial: Vec::new(),
            guest,
            waits: Waits::default(),
            durable: Arc::new(Notify::new()),
            alarm: shared.alarm.clone(),
            stopping: shared.stopping.clone(),
            heart: Heart::default(),
            deadline: Some(Instant::now() + shared.config().handshake_timeout),
            shared,
        }
    }

    fn may_read(&self) -> bool {
        !self.waits.any() && !self.outbox.is_overfull()
    }

    /// A read returned so many octets.
    fn received(&mut self, octets: usize) {
        self.heart.heard();
        self.traffic.received(octets);
        self.shared.received(octets);
    }

    /// Takes input (what was kept from before is in front of it).
    fn receive(&mut self, input: &[u8]) -> Step {
        let (used, step) = self.session.receive(input);
        self.partial = input[used..].to_vec(); // no capacity is kept: idle connections have no buffers
        step
    }

    /// Does what the session asks for, until it only wants more bytes.
    async fn follow(&mut self, mut step: Step) -> Flow {
        loop {
            step = match step {
                Step::More => {
                    self.after_input();
                    return Flow::Continue;
                }
                Step::Close => return Flow::HangUp,
                Step::AwaitEnd => return Flow::AwaitEnd,
                Step::AwaitDurable(position) => {
                    self.await_durable(position);
                    return Flow::Continue;
                }
                Step::Authenticate(claim) => {
                    // Apart, since every connection would have the room for it for ever.
                    let login = Box::pin(self.shared.logins.check(claim, self.visitor)).await;
                    if login.is_ok() {
                        self.guest = None;
                    }
                    match self.session.authenticated(login) {
                        Step::More => self.receive_kept(),
                        other => other,
                    }
                }
            };
        }
    }

    fn receive_kept(&mut self) -> Step {
        let kept = std::mem::take(&mut self.partial);
        self.receive(&kept)
    }

    fn await_durable(&mut self, position: u64) {
        self.waits.for_log = true;
        let durable = self.durable.clone();
        self.shared.broker.when_durable(position, move || durable.notify_one());
        self.shared.committer.hurry();
    }

    /// Publishers wait while an alarm is on or the disk is behind; the others are not disturbed.
    fn after_input(&mut self) {
        if self.session.is_closing() {
            self.waits = Waits::default(); // its answer is to be read
            // A handshake has more time left; who is refused in it does not get that.
            let close = Instant::now() + CLOSE_TIMEOUT;
            self.deadline = Some(self.deadline.map_or(close, |deadline| deadline.min(close)));
        } else if self.session.is_running() && self.deadline.take().is_some() {
            self.heart = Heart::every(self.session.heartbeat_s());
        }
        if self.session.publishes() {
            self.waits.for_disk = self.shared.disk_is_behind();
            self.check_alarm();
        }
    }

    fn check_alarm(&mut self) {
        let reason = *self.alarm.borrow_and_update();
        self.waits.for_alarm = reason.is_some() && self.session.publishes();
        self.session.blocked(if self.waits.for_alarm { reason } else { None });
        self.session.show(match (self.waits, reason) {
            (Waits { for_alarm: true, .. }, _) => ConnectionState::Blocked,
            (_, Some(_)) => ConnectionState::Blocking,
            (Waits { for_disk: true, .. }, None) => ConnectionState::Flow,
            (_, None) => ConnectionState::Running,
        });
    }

    /// Waits for whatever is not input or output.
    async fn disturbed(&mut self) -> Disturbance {
        let timer = [self.deadline, self.heart.next(), self.behind_timer()].into_iter().flatten().min();
        tokio::select! {
            () = self.outbox.wake.notified() => Disturbance::Outbox,
            () = self.durable.notified(), if self.waits.for_log => Disturbance::Durable,
            Ok(()) = self.alarm.changed() => Disturbance::Alarm,
            Ok(()) = self.stopping.changed() => Disturbance::Stop,
            () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                Disturbance::Timer
            }
        }
    }

    fn behind_timer(&self) -> Option<Instant> {
        self.waits.for_disk.then(|| Instant::now() + BEHIND_INTERVAL)
    }

    async fn handle(&mut self, disturbance: Disturbance) -> Flow {
        match disturbance {
            Disturbance::Outbox => {
                if self.outbox.resume() == Flushed::Closed {
                    return Flow::Gone;
                }
                let step = self.session.wake_up();
                self.follow(step).await
            }
            Disturbance::Durable => {
                self.waits.for_log = false;
                self.session.made_durable();
                let step = self.receive_kept();
                self.follow(step).await
            }
            Disturbance::Alarm => {
                self.check_alarm();
                Flow::Continue
            }
            Disturbance::Stop => {
                let step = self.session.force_close("shutdown");
                self.waits = Waits::default();
                self.follow(step).await
            }
            Disturbance::Timer => self.on_timer(),
        }
    }

    fn on_timer(&mut self) -> Flow {
        if self.waits.for_disk {
            self.waits.for_disk = self.shared.disk_is_behind();
            self.check_alarm();
        }
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            chronicle::timed_out(self.over);
            return Flow::Gone;
        }
        match self.heart.beat(self.outbox.sent_bytes(), !self.may_read()) {
            Beat::None => {}
            Beat::Send => {
                self.outbox.send_heartbeat();
                self.outbox.flush();
            }
            Beat::PeerIsDead => {
                tracing::warn!(peer = ?self.over, "missed heartbeats from client");
                return Flow::Gone;
            }
        }
        Flow::Continue
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.session.disconnected();
        self.shared.connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Outbox,
    Durable,
    Alarm,
    Stop,
    Timer,
}
