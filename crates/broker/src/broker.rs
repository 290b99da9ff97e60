//! The broker: everything that all its connections share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use leveret_store::{MessageId, MetaChange, Place, QueueId, ReadError, Store, StoreFailed};
use leveret_wire::FieldTable;
use parking_lot::{Mutex, RwLock};

use crate::attempts::Attempts;
use crate::counts::{Churn, QueueCounters, QueueCounts};
use crate::deadlines::Deadlines;
use crate::error::Refusal;
use crate::message::{Message, MessageView, ResidentBytes};
use crate::parameters::Parameters;
use crate::policies::InForce;
use crate::port::{Batch, ChannelPort, ConnectionId};
use crate::queue::{
    Aftermath, Consumer, ConsumerKey, Content, Courier, Ended, Handed, Incoming, Level, Note, Pos, Rule,
    Stored, StreamState,
};
use crate::quotas::{AllUserQuotas, UserLimits};
use crate::records::Key;
use crate::reply_token::ReplyTokens;
use crate::roster::Roster;
use crate::services::Services;
use crate::settings::{QueueKind, Settings};
use crate::users::Users;
use crate::vhost::{Life, Queue, VHost};

/// Limits of a broker. Each has a name and a default; see the documentation of the configuration file.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Octets a message body may have. The default is RabbitMQ 3's, as clients send bodies above RabbitMQ 4's 16 MiB.
    pub message_size_bytes: u64,
    /// Octets of waiting messages kept in memory over all queues; what exceeds it is only on disk.
    pub resident_bytes: usize,
    /// Consumers one channel may have.
    pub consumers_per_channel: usize,
    /// Whether requests and their answers are counted (see [`services`](crate::services)).
    pub request_statistics: bool,
    /// Whether messages are counted (see [`counts`](crate::counts)).
    pub message_statistics: bool,
    /// Passwords that may be wrong in a minute for one user from one source; see [`attempts`](crate::attempts). 0: any
    /// number.
    pub login_failures_max: u32,
    /// How long a delivery may stay unacknowledged where nothing else is said; `None`: for ever.
    pub consumer_timeout_ms: Option<u64>,
}

impl Limits {
    /// The settings in force of a queue that was declared with `arguments`.
    pub(crate) fn settings(&self, kind: QueueKind, arguments: &FieldTable, policies: &InForce) -> Settings {
        let mut settings = Settings::of_arguments(kind, &policies.queue_arguments(kind, arguments));
        settings.consumer_timeout_ms = settings.consumer_timeout_ms.or(self.consumer_timeout_ms);
        settings
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_size_bytes: 128 << 20,
            resident_bytes: 8 << 20,
            consumers_per_channel: 10_000,
            request_statistics: true,
            message_statistics: true,
            login_failures_max: 10,
            consumer_timeout_ms: None,
        }
    }
}

/// Called once when the log is durable past a position.
type OnDurable = Box<dyn FnOnce() + Send>;

/// Whom a direct reply goes to.
#[derive(Clone, Debug)]
pub(crate) struct ReplyTarget {
    /// Where it may be answered from.
    pub vhost: Arc<VHost>,
    /// The requester's channel.
    pub port: Arc<ChannelPort>,
    /// Its consumer's tag.
    pub consumer_tag: Arc<str>,
}

/// A broker: virtual hosts, users, and the store below them. Nothing in it knows of sockets or of the time.
pub struct Broker {
    /// The users and their permissions.
    pub users: Users,
    /// Who has tried to log in.
    pub attempts: Attempts,
    /// The limits.
    pub limits: Limits,
    pub(crate) store: Arc<Store>,
    pub(crate) resident: ResidentBytes,
    pub(crate) reply_tokens: ReplyTokens<ReplyTarget>,
    pub(crate) statistics: Services,
    pub(crate) roster: Roster,
    pub(crate) churn: Churn,
    /// What happened to messages in queues that were deleted.
    pub(crate) deleted_queues: Mutex<BTreeMap<QueueKind, QueueCounts>>,
    pub(crate) user_quotas: AllUserQuotas,
    pub(crate) parameters: Parameters,
    /// Read by whoever logs a message until it is in its queues; written by whoever must see every logged
    /// message in its queue (settling, purging).
    pub(crate) in_flight: RwLock<()>,
    pub(crate) vhosts: RwLock<HashMap<String, Arc<VHost>>>,
    /// Held while users and virtual hosts are logged, so that the log has the order of the changes.
    pub(crate) administration: Mutex<()>,
    next_queue_id: AtomicU64,
    next_connection_id: AtomicU64,
    /// The newest topology change in the log.
    meta_position: AtomicU64,
    /// Queues that have to be looked at although nobody uses them.
    pub deadlines: Deadlines,
    /// No message is handed to a consumer any more.
    stopping: AtomicBool,
    awaiting_confirms: Mutex<Vec<Arc<ChannelPort>>>,
    awaiting_durable: Mutex<Vec<(u64, OnDurable)>>,
    /// Streams with readers who wait for what is being committed.
    pub(crate) awaiting_streams: Mutex<Vec<Arc<Queue>>>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker over what [`crate::recover`] found.
    pub(crate) fn assemble(
        store: Arc<Store>,
        (users, user_quotas): (Users, AllUserQuotas),
        limits: Limits,
        resident: ResidentBytes,
        vhosts: HashMap<String, Arc<VHost>>,
        next_queue_id: u64,
    ) -> Self {
        Self {
            users,
            attempts: Attempts::default(),
            statistics: Services::new(limits.request_statistics),
            roster: Roster::default(),
            churn: Churn::default(),
            deleted_queues: Mutex::default(),
            limits,
            store,
            resident,
            reply_tokens: ReplyTokens::new(),
            user_quotas,
            parameters: Parameters::default(),
            in_flight: RwLock::new(()),
            vhosts: RwLock::new(vhosts),
            administration: Mutex::default(),
            next_queue_id: AtomicU64::new(next_queue_id),
            next_connection_id: AtomicU64::new(1),
            meta_position: AtomicU64::new(0),
            deadlines: Deadlines::default(),
            stopping: AtomicBool::new(false),
            awaiting_confirms: Mutex::default(),
            awaiting_durable: Mutex::default(),
            awaiting_streams: Mutex::default(),
        }
    }

    /// Finds a virtual host.
    pub fn vhost(&self, name: &str) -> Option<Arc<VHost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// All virtual hosts.
    pub fn vhosts(&self) -> Vec<Arc<VHost>> {
        self.vhosts.read().values().cloned().collect()
    }

    /// Keeps a user as it is now, or forgets it when it was deleted. Whatever its connections may no longer do
    /// ends within a second.
    pub fn save_user(&self, name: &str) -> Result<(), Refusal> {
        self.keep_user(name)?;
        self.wake_connections_of(name);
        Ok(())
    }

    pub(crate) fn keep_user(&self, name: &str) -> Result<(), Refusal> {
        let _turn = self.administration.lock();
        let key = Key::User(name.into()).encode();
        let changes = match self.users.encode(name) {
            Some(value) => vec![MetaChange::Put(key, value)],
            None => {
                self.user_quotas.of(name).set(UserLimits::default());
                vec![MetaChange::Delete(key), MetaChange::Delete(Key::UserLimits(name.into()).encode())]
            }
        };
        Ok(self.log_meta(&changes)?)
    }

    /// An id for a new connection.
    pub fn next_connection_id(&self) -> ConnectionId {
        self.next_connection_id.fetch_add(1, Ordering::Relaxed)
    }

    /// An id for a new queue, and the ones behind it for its further levels.
    pub(crate) fn next_queue_id(&self, levels: u64) -> QueueId {
        QueueId(self.next_queue_id.fetch_add(levels, Ordering::Relaxed))
    }

    pub(crate) fn log_meta(&self, changes: &[MetaChange]) -> Result<(), StoreFailed> {
        if changes.is_empty() {
            return Ok(());
        }
        let position = self.store.meta(changes)?;
        self.meta_position.fetch_max(position, Ordering::AcqRel);
        Ok(())
    }

    /// Hands no message to a consumer from now on: a stop must not chase messages around the connections that are
    /// still open.
    pub fn stop_deliveries(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The store, for the committer and the settler.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Octets of waiting messages in memory.
    pub fn resident_bytes(&self) -> usize {
        self.resident.bytes()
    }

    /// Whether every topology change so far is on the disk (P2). Until then no `-ok` may leave.
    pub fn topology_is_durable(&self) -> bool {
        self.is_durable(self.topology_position())
    }

    /// The position to wait for before a topology `-ok`.
    pub fn topology_position(&self) -> u64 {
        self.meta_position.load(Ordering::Acquire)
    }

    /// Whether the log is durable past `position`.
    pub fn is_durable(&self, position: u64) -> bool {
        position == 0 || self.store.durable() > position
    }

    /// Calls `then` once the log is durable past `position`, on the committer's thread or at once.
    pub fn when_durable(&self, position: u64, then: impl FnOnce() + Send + 'static) {
        let mut awaiting = self.awaiting_durable.lock();
        if !self.is_durable(position) {
            awaiting.push((position, Box::new(then)));
            return;
        }
        drop(awaiting);
        then();
    }

    pub(crate) fn await_confirms(&self, port: Arc<ChannelPort>) {
        self.awaiting_confirms.lock().push(port);
    }

    /// The committer has made the log durable: confirms leave, waiters are called. The only source of confirms
    /// for logged messages, so they leave in order.
    pub fn committed(&self) {
        let mut batch = Batch::default();
        let ports = std::mem::take(&mut *self.awaiting_confirms.lock());
        let durable = self.store.durable();
        let still: Vec<_> = ports.into_iter().filter(|port| port.confirm(durable, &mut batch)).collect();
        self.awaiting_confirms.lock().extend(still);
        batch.leave(durable);
        self.tell_readers();
        for then in self.take_due() {
            then();
        }
    }

    fn take_due(&self) -> Vec<OnDurable> {
        let mut awaiting = self.awaiting_durable.lock();
        let (due, still) =
            std::mem::take(&mut *awaiting).into_iter().partition(|(position, _)| self.is_durable(*position));
        *awaiting = still;
        let due: Vec<(u64, OnDurable)> = due;
        due.into_iter().map(|(_, then)| then).collect()
    }

    /// Whether somebody waits for the log.
    pub fn is_awaited(&self) -> bool {
        !self.awaiting_confirms.lock().is_empty()
            || !self.awaiting_durable.lock().is_empty()
            || !self.awaiting_streams.lock().is_empty()
    }

    /// Consumers of a connection or channel that may have room again.
    pub fn resume(&self, stalled: Vec<(Arc<Queue>, ConsumerKey)>, batch: &mut Batch) {
        for (queue, key) in stalled {
            let resumed = self.with_queue(&queue, batch, |state, _, _| {
                state.resume(key);
                Ok(())
            });
            drop(resumed); // a queue that is gone has no consumers to resume
        }
    }

    /// Does something to a live queue under its lock, then hands out what can be handed out, then logs what
    /// ended. A message that cannot be read back takes the queue out of service.
    pub(crate) fn with_queue<R>(
        &self,
        queue: &Arc<Queue>,
        batch: &mut Batch,
        work: impl FnOnce(&mut State, &mut Carrier<'_>, &mut Aftermath) -> Result<R, ReadError>,
    ) -> Result<R, Refusal> {
        let mut aftermath = Aftermath::default();
        let mut life = queue.lock();
        let state = life.alive(queue)?;
        let mut carrier = Carrier { broker: self, queue, batch: &mut *batch };
        let worked = work(state, &mut carrier, &mut aftermath)
            .and_then(|result| state.pump(&mut carrier, &mut aftermath).map(|()| result));
        let deadline_ms = state.new_deadline_ms(&self.store);
        let due = state.stream().map(StreamState::take_due).unwrap_or_default();
        let result = worked.map_err(|damage| {
            quarantine(&mut life, queue, &damage, batch);
            Refusal::internal(format!("{} is offline: {damage}", queue.described()))
        });
        drop(life);
        self.settle_aftermath(queue, aftermath, deadline_ms, batch)?;
        self.feed(queue, due, batch);
        result
    }

    /// What a queue's work left to do once its lock is free.
    pub(crate) fn settle_aftermath(
        &self,
        queue: &Arc<Queue>,
        aftermath: Aftermath,
        deadline_ms: Option<u64>,
        batch: &mut Batch,
    ) -> Result<(), StoreFailed> {
        if let Some(at_ms) = deadline_ms {
            self.deadlines.add(at_ms, queue);
        }
        if aftermath.is_nothing() {
            return Ok(());
        }
        batch.bury(queue, aftermath.dead);
        self.note(queue, aftermath.notes)?;
        self.log_ended(queue, &aftermath.ended, batch)
    }

    fn note(&self, queue: &Queue, notes: Vec<Note>) -> Result<(), StoreFailed> {
        if notes.is_empty() {
            return Ok(());
        }
        let change = |note: Note| {
            let key = Key::Attempts(queue.store_id(note.level), note.id).encode();
            match note.attempts {
                Some(attempts) => MetaChange::Put(key, attempts.encode()),
                None => MetaChange::Delete(key),
            }
        };
        self.store.note(&notes.into_iter().map(change).collect::<Vec<_>>()).map(drop)
    }

    pub(crate) fn log_ended(
        &self,
        queue: &Queue,
        ended: &[Ended],
        batch: &mut Batch,
    ) -> Result<(), StoreFailed> {
        for run in ended.chunk_by(|a, b| a.level == b.level) {
            self.store.ack(queue.store_id(run[0].level), run.iter().map(|ended| &ended.id))?;
            batch.logged = true;
        }
        self.note(queue, ended.iter().filter_map(Ended::note).collect())
    }

    /// Ends a batch: messages given up are sent on, then everything that was set in motion leaves. Answers
    /// whether something was logged, and whether somebody waits for it.
    pub fn finish(&self, batch: &mut Batch) -> Logging {
        let logging = self.logged(batch);
        self.leave(batch);
        logging
    }

    /// The first half of [`Self::finish`]: nothing more will be logged, so the committer may begin while the rest leaves.
    pub fn logged(&self, batch: &mut Batch) -> Logging {
        self.bury_all(batch);
        let (urgent, logged) = (std::mem::take(&mut batch.urgent), std::mem::take(&mut batch.logged));
        match (urgent, logged) {
            (true, _) => Logging::Awaited,
            (false, true) => Logging::Some,
            (false, false) => Logging::None,
        }
    }

    /// The second half: confirms and everything that was appended to outlets.
    pub fn leave(&self, batch: &mut Batch) {
        batch.leave(self.store.durable());
    }
}

/// What a batch has appended to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logging {
    /// Nothing.
    None,
    /// Something nobody waits for.
    Some,
    /// Something somebody waits for.
    Awaited,
}

/// A queue's rule with the ports of this broker.
pub(crate) type State = Rule<Arc<ChannelPort>>;

/// P7: a queue with an unreadable message delivers nothing more; its files are left as they are.
pub(crate) fn quarantine(life: &mut Life, queue: &Queue, damage: &ReadError, batch: &mut Batch) {
    tracing::error!(queue = %queue.name, vhost = %queue.vhost, %damage, "queue taken offline, its files are kept");
    if let Some(state) = life.rule() {
        for consumer in state.remove_consumers() {
            consumer.port.consumer_cancelled(&consumer.tag, batch);
        }
    }
    life.take_offline(damage.to_string());
}

/// Carries messages from a queue to its consumers, or to where they wait.
pub(crate) struct Carrier<'a> {
    broker: &'a Broker,
    queue: &'a Arc<Queue>,
    batch: &'a mut Batch,
}

impl<'a> Carrier<'a> {
    pub(crate) fn new(broker: &'a Broker, queue: &'a Arc<Queue>, batch: &'a mut Batch) -> Self {
        Self { broker, queue, batch }
    }

    /// What the queue counts, if messages are counted.
    #[inline]
    pub(crate) fn counters(&self) -> Option<&QueueCounters> {
        self.broker.limits.message_statistics.then_some(&self.queue.counters)
    }

    fn copy(&self, incoming: &mut Incoming<'_>) -> Arc<Message> {
        let view = incoming.view;
        let make = || Arc::new(Message::copy_of(&view, &self.broker.resident));
        incoming.shared.get_or_insert_with(make).clone()
    }
}

impl Courier<Arc<ChannelPort>> for Carrier<'_> {
    fn deliver(
        &mut self,
        consumer: &Consumer<Arc<ChannelPort>>,
        key: ConsumerKey,
        pos: Pos,
        redelivered: bool,
        message: MessageView<'_>,
    ) -> Handed {
        if self.broker.stopping.load(Ordering::Relaxed) {
            return Handed::NoRoom;
        }
        let handed =
            consumer.port.deliver(self.queue, (consumer, key), (pos, redelivered), message, self.batch);
        if handed != Handed::NoRoom
            && let Some(counters) = self.counters()
        {
            counters.delivered(consumer.no_ack, redelivered);
        }
        handed
    }

    fn keep(&mut self, incoming: &mut Incoming<'_>, waits: bool) -> Content {
        let has_room = self.broker.resident.bytes() < self.broker.limits.resident_bytes;
        match incoming.logged {
            Some((id, place)) => {
                let cached = (waits && has_room).then(|| self.copy(incoming));
                Content::Stored(Stored { id, place, durable: true, cached })
            }
            None if has_room => Content::Memory(self.copy(incoming)),
            None => match self.put_aside(incoming) {
                Some(stored) => Content::Stored(stored),
                None => Content::Memory(self.copy(incoming)),
            },
        }
    }

    fn put_aside(&mut self, incoming: &Incoming<'_>) -> Option<Stored> {
        let (view, queue) = (incoming.view, self.queue.store_id(incoming.level));
        let (head, attributes) = (view.head(), incoming.stamp.encode());
        let id = self.broker.store.publish(&[queue], true, &attributes, &view.parts(&head)).ok()?;
        self.batch.logged = true;
        let place = Place::Log { id, len: view.size_bytes() as u32 };
        Some(Stored { id, place, durable: false, cached: None })
    }

    fn read(&self, level: Level, place: Place) -> Result<Vec<u8>, ReadError> {
        self.broker.store.read(place, self.queue.store_id(level))
    }

    fn store(&self) -> &Store {
        &self.broker.store
    }

    fn bounces(&self) -> bool {
        // What a history drops has reached its queues before: its caller must not hear of a failure.
        !self.queue.spec.internal && self.broker.bounces(&self.queue.vhost)
    }

    fn is_orphan(&self, message: &MessageView<'_>) -> bool {
        self.broker.is_orphan(&self.queue.vhost, message)
    }

    fn now_ms(&self) -> u64 {
        self.batch.now_ms
    }

    fn resident(&self) -> &ResidentBytes {
        &self.broker.resident
    }
}

/// A logged message and where it is.
pub(crate) type Logged = (MessageId, Place);
