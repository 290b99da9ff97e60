//! Virtual hosts and what lives in them: exchanges, queues, bindings.
//!
//! The unit of concurrency is the queue: each has its own lock, and so has each exchange's table of bindings.
//! The maps of names are only locked to look a name up, and a channel that publishes to the same place again
//! does not even do that: it compares [`VHost::version`], which every change of the topology raises.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hashbrown::HashMap;
use leveret_store::{MetaChange, QueueId};
use leveret_wire::{FieldTable, FieldValue, RawProperties};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::counts::{ExchangeCounts, QueueCounters};
use crate::dedup::{Deduplication, Deduplicator};
use crate::error::{Refusal, exchange_in, queue_in};
use crate::exchange::{Bindings, ExchangeKind, Member};
use crate::policies::{InForce, PolicySet, Subject};
use crate::port::ConnectionId;
use crate::queue::Level;
use crate::quotas::{Quota, VHostLimits};
use crate::records::SeenKey;
use crate::roster::MessageTotals;
use crate::services::ServiceSlot;
use crate::settings::{QueueKind, Settings};
use crate::standing::Standing;
use crate::vhost_metadata::VHostMetadata;

pub use crate::life::Life;

/// A virtual host.
#[derive(Debug)]
pub struct VHost {
    /// Its name.
    pub name: Arc<str>,
    exchanges: RwLock<HashMap<Arc<str>, Arc<Exchange>>>,
    queues: RwLock<HashMap<Arc<str>, Arc<Queue>>>,
    version: AtomicU64,
    /// Held while a message is judged that may be a duplicate, until its queues have answered.
    judging: Mutex<()>,
    /// Something here deduplicates, or did.
    deduplicates: AtomicBool,
    /// Held while the topology is changed, so that changes are logged in the order they happen.
    pub(crate) changes: Mutex<Standing>,
    /// Changed by [`crate::ops::policy`] only.
    pub(crate) policies: RwLock<PolicySet>,
    /// What happened to messages on connections that are closed.
    pub(crate) messages: Mutex<MessageTotals>,
    /// How many connections may be open, and are.
    pub(crate) connections: Arc<Quota>,
    /// How many queues there may be.
    pub(crate) queues_max: Quota,
    metadata: RwLock<Arc<VHostMetadata>>,
}

/// What an exchange is declared as.
#[derive(Clone, Debug, PartialEq)]
pub struct ExchangeSpec {
    /// How it routes.
    pub kind: ExchangeKind,
    /// Messages that ask for it wait before they are routed: the type is `x-delayed-message`, and `kind` its
    /// `x-delayed-type`.
    pub delays: bool,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// Clients may not publish to it.
    pub internal: bool,
    /// Declaration arguments.
    pub arguments: FieldTable,
}

/// How the names of internal queues begin in which messages wait for another queue.
pub(crate) const BEFORE_A_QUEUE: &str = "amq.delayed-queue.";

/// The exchange type that delays, as clients write it.
pub(crate) const DELAYED_TYPE: &str = "x-delayed-message";

impl ExchangeSpec {
    /// How an exchange of the named type routes, and whether it delays. `None`: there is no such type.
    ///
    /// # Errors
    /// 406 when an exchange that delays does not say how it routes.
    pub fn parse_type(name: &str, arguments: &FieldTable) -> Result<Option<(ExchangeKind, bool)>, Refusal> {
        if name != DELAYED_TYPE {
            return Ok(ExchangeKind::parse(name).map(|kind| (kind, false)));
        }
        match arguments.get("x-delayed-type").and_then(FieldValue::as_str) {
            Some(kind) if kind != DELAYED_TYPE => Ok(ExchangeKind::parse(kind).map(|kind| (kind, true))),
            _ => Err(Refusal::precondition(
                "Invalid argument, 'x-delayed-type' must be an existing exchange type",
            )),
        }
    }

    /// Its type, as clients write it.
    pub fn type_name(&self) -> &'static str {
        if self.delays { DELAYED_TYPE } else { self.kind.name() }
    }

    /// How it keeps duplicates out, if it does.
    pub fn deduplication(&self) -> Option<Deduplication> {
        Deduplication::of_arguments(&self.arguments, self.kind.deduplicates())
    }
}

/// An exchange.
#[derive(Debug)]
pub struct Exchange {
    /// Its name; empty for the default exchange.
    pub name: Arc<str>,
    /// What it was declared as.
    pub spec: ExchangeSpec,
    /// The queue that it keeps messages in.
    pub internal_queue: Option<Arc<str>>,
    /// Keeps duplicates out.
    pub deduplicator: Option<Arc<Deduplicator>>,
    /// Where it routes to.
    pub bindings: RwLock<Bindings<Destination>>,
    in_force: RwLock<ExchangeInForce>,
    /// What channels have counted that are closed.
    pub(crate) handed_in: Mutex<ExchangeCounts>,
}

/// What of the policies concerns an exchange.
#[derive(Debug, Default)]
struct ExchangeInForce {
    policies: InForce,
    alternate: Option<Arc<str>>,
}

impl Exchange {
    /// The name of the exchange for what it cannot route, which need not exist.
    pub fn alternate(&self) -> Option<Arc<str>> {
        self.in_force.read().alternate.clone()
    }

    /// The policies in force for it.
    pub fn policies(&self) -> InForce {
        self.in_force.read().policies.clone()
    }

    /// Puts policies in force; whether that changes anything. Routes have to be looked up again then.
    pub(crate) fn put_in_force(&self, policies: InForce) -> bool {
        let alternate = policies.alternate_exchange(&self.spec.arguments).map(Arc::from);
        let mut in_force = self.in_force.write();
        let changes = in_force.policies != policies;
        *in_force = ExchangeInForce { policies, alternate };
        changes
    }
}

/// Where a binding leads.
#[derive(Clone, Debug)]
pub enum Destination {
    /// To a queue.
    Queue(Arc<Queue>),
    /// To another exchange.
    Exchange(Arc<Exchange>),
}

impl Destination {
    fn address(&self) -> usize {
        match self {
            Self::Queue(queue) => Arc::as_ptr(queue) as usize,
            Self::Exchange(exchange) => Arc::as_ptr(exchange) as usize,
        }
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Queue(queue) => &queue.name,
            Self::Exchange(exchange) => &exchange.name,
        }
    }

    /// Whether a binding to it survives a restart.
    pub fn is_durable(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.spec.durable,
            Self::Exchange(exchange) => exchange.spec.durable,
        }
    }
}

impl Member for Destination {
    fn stable_name(&self) -> Vec<u8> {
        let kind = if self.is_queue() { b'q' } else { b'x' };
        [&[kind], self.name().as_bytes()].concat()
    }

    fn is_queue(&self) -> bool {
        matches!(self, Self::Queue(_))
    }
}

impl PartialEq for Destination {
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address()
    }
}

impl Eq for Destination {}

impl Hash for Destination {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.address().hash(state);
    }
}

/// What a queue is declared as. An exclusive queue is never durable, whatever the client asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// It survives a restart.
    pub durable: bool,
    /// The only connection that may use it; it goes with that connection.
    pub owner: Option<ConnectionId>,
    /// It goes when its last consumer goes.
    pub auto_delete: bool,
    /// It belongs to an exchange, and goes with it. Clients may look at it and purge it, nothing else.
    pub internal: bool,
    /// Declaration arguments.
    pub arguments: FieldTable,
}

impl QueueSpec {
    /// What a queue is that the broker makes for itself.
    pub(crate) fn internal(durable: bool, arguments: FieldTable) -> Self {
        Self { durable, owner: None, auto_delete: false, internal: true, arguments }
    }
}

/// A queue: its rule behind its lock.
pub struct Queue {
    /// Names its lowest level in the store, and so the queue; never reused. Further levels have the ids behind.
    pub id: QueueId,
    /// Its name.
    pub name: Arc<str>,
    /// The virtual host it lives in.
    pub vhost: Arc<str>,
    /// What it was declared as.
    pub spec: QueueSpec,
    /// What kind of queue it is.
    pub kind: QueueKind,
    /// Keeps duplicates out.
    pub deduplicator: Option<Arc<Deduplicator>>,
    max_level: Level,
    in_force: RwLock<QueueInForce>,
    order: Mutex<()>,
    /// What is known of the requests that come to it.
    pub(crate) service: ServiceSlot,
    pub(crate) counters: QueueCounters,
    state: Mutex<Life>,
}

/// The policies of a queue, and what they and its arguments come to.
struct QueueInForce {
    policies: InForce,
    settings: Arc<Settings>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({:?} {})", self.id, self.name)
    }
}

impl Queue {
    /// A queue with the given content, and no policies.
    pub fn new(id: QueueId, name: Arc<str>, vhost: Arc<str>, spec: QueueSpec, life: Life) -> Arc<Self> {
        let kind = QueueKind::of(&spec.arguments);
        let max_level = kind.max_level(&spec.arguments);
        let settings = Arc::new(Settings::of_arguments(kind, &spec.arguments));
        let in_force = RwLock::new(QueueInForce { policies: InForce::default(), settings });
        let place = spec.durable.then(|| SeenKey::first(&vhost, true, &name));
        let deduplicator = Deduplication::of_arguments(&spec.arguments, false)
            .map(|settings| Deduplicator::new(settings, place).into());
        Arc::new(Self {
            id,
            name,
            vhost,
            spec,
            kind,
            deduplicator,
            max_level,
            in_force,
            order: Mutex::default(),
            service: ServiceSlot::new(),
            counters: QueueCounters::new(kind),
            state: Mutex::new(life),
        })
    }

    /// Locks the rule. Order of locks: queue, then channel, then outlet; never two queues at once.
    pub fn lock(&self) -> MutexGuard<'_, Life> {
        self.state.lock()
    }

    /// Its settings at this moment.
    pub fn settings(&self) -> Arc<Settings> {
        self.in_force.read().settings.clone()
    }

    /// The policies in force for it.
    pub fn policies(&self) -> InForce {
        self.in_force.read().policies.clone()
    }

    /// Puts policies in force, and what they come to. Its rule has to be told too.
    pub(crate) fn put_in_force(&self, policies: InForce, settings: Arc<Settings>) {
        *self.in_force.write() = QueueInForce { policies, settings };
    }

    /// Held by whoever logs a message for a stream until it is there, so that the log and the stream have one order.
    /// Taken before the queue's own lock, of several streams in the order of their ids.
    pub(crate) fn keep_order(&self) -> MutexGuard<'_, ()> {
        self.order.lock()
    }

    /// Whether a message outlives the process here.
    pub fn logs(&self, persistent: bool) -> bool {
        self.spec.durable && (persistent || self.kind.keeps_transient())
    }

    /// The level on which a message with these properties waits.
    pub fn level(&self, properties: RawProperties<'_>) -> Level {
        if self.max_level == 0 { 0 } else { properties.priority().unwrap_or(0).min(self.max_level) }
    }

    /// What the store calls one of its levels.
    pub fn store_id(&self, level: Level) -> QueueId {
        QueueId(self.id.0 + u64::from(level))
    }

    /// What the store calls its levels.
    pub fn store_ids(&self) -> std::ops::RangeInclusive<u64> {
        self.id.0..=self.store_id(self.max_level).0
    }

    /// `queue 'q' in vhost '/'`.
    pub fn described(&self) -> String {
        queue_in(&self.name, &self.vhost)
    }

    /// 405 when it belongs to another connection.
    pub fn check_owner(&self, connection: ConnectionId) -> Result<(), Refusal> {
        match self.spec.owner {
            Some(owner) if owner != connection => Err(self.locked()),
            _ => Ok(()),
        }
    }

    /// 403 when it belongs to an exchange or to another queue: only that may change what is in it.
    pub fn check_not_internal(&self) -> Result<(), Refusal> {
        if !self.spec.internal {
            return Ok(());
        }
        let owner = if self.name.starts_with(BEFORE_A_QUEUE) { "queue" } else { "exchange" };
        Err(Refusal::access(format!("{} is internal to its {owner}", self.described())))
    }

    /// The refusal of somebody else's exclusive queue.
    pub fn locked(&self) -> Refusal {
        Refusal::locked(format!(
            "cannot obtain exclusive access to locked {}. It could be originally declared on another \
             connection or the exclusive property value does not match that of the original declaration.",
            self.described()
        ))
    }
}

impl VHost {
    /// A virtual host with the exchanges that AMQP and RabbitMQ predeclare.
    pub fn new(name: &str) -> Arc<Self> {
        let vhost = Self {
            name: name.into(),
            exchanges: RwLock::default(),
            queues: RwLock::default(),
            version: AtomicU64::new(1),
            judging: Mutex::default(),
            deduplicates: AtomicBool::new(false),
            changes: Mutex::default(),
            policies: RwLock::default(),
            messages: Mutex::default(),
            connections: Arc::default(),
            queues_max: Quota::default(),
            metadata: RwLock::default(),
        };
        for (name, kind) in [
            ("", ExchangeKind::Direct),
            ("amq.direct", ExchangeKind::Direct),
            ("amq.fanout", ExchangeKind::Fanout),
            ("amq.topic", ExchangeKind::Topic),
            ("amq.headers", ExchangeKind::Headers),
            ("amq.match", ExchangeKind::Headers),
            ("amq.rabbitmq.trace", ExchangeKind::Topic),
        ] {
            vhost.add_exchange(name, predeclared(kind, name == "amq.rabbitmq.trace"));
        }
        Arc::new(vhost)
    }

    /// Raised by every change of exchanges, queues and bindings.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Says that something changed.
    pub fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Held while the topology is changed and the change logged.
    pub fn change(&self) -> MutexGuard<'_, Standing> {
        self.changes.lock()
    }

    /// The turn that a message takes that may be a duplicate; `None` while nothing here deduplicates.
    pub(crate) fn judging(&self) -> Option<&Mutex<()>> {
        self.deduplicates.load(Ordering::Acquire).then_some(&self.judging)
    }

    /// What keeps duplicates from something that is being deleted remembers nothing more. Answers what the store has to
    /// forget.
    pub(crate) fn close_window(&self, deduplicator: Option<&Arc<Deduplicator>>) -> Vec<MetaChange> {
        let Some(deduplicator) = deduplicator else { return Vec::new() };
        // Whoever is judged at the moment has noted what it has to note.
        let _turn = self.judging.lock();
        deduplicator.close()
    }

    /// What was said of it.
    pub fn metadata(&self) -> Arc<VHostMetadata> {
        self.metadata.read().clone()
    }

    pub(crate) fn set_metadata(&self, metadata: VHostMetadata) {
        *self.metadata.write() = metadata.into();
    }

    /// What it may have.
    pub fn limits(&self) -> VHostLimits {
        VHostLimits { max_connections: self.connections.limit(), max_queues: self.queues_max.limit() }
    }

    pub(crate) fn set_limits(&self, limits: VHostLimits) {
        self.connections.set_limit(limits.max_connections);
        self.queues_max.set_limit(limits.max_queues);
    }

    /// Refuses one more queue with 406 when there are as many as allowed. The caller holds [`VHost::change`].
    pub(crate) fn check_queue_limit(&self, name: &str) -> Result<(), Refusal> {
        match self.queues_max.limit() {
            Some(limit) if self.queues.read().len() as u64 >= limit => Err(Refusal::precondition(format!(
                "cannot declare queue '{name}': queue limit in vhost '{}' ({limit}) is reached",
                self.name
            ))),
            _ => Ok(()),
        }
    }

    /// The policies for a queue. What an exchange keeps for itself has none: it is not the exchange's users' to limit.
    pub(crate) fn policies_for(&self, name: &str, spec: &QueueSpec) -> InForce {
        if spec.internal {
            return InForce::default();
        }
        let kind = QueueKind::of(&spec.arguments);
        self.policies.read().in_force(Subject::Queue(kind), name)
    }

    /// Finds an exchange.
    pub fn exchange(&self, name: &str) -> Option<Arc<Exchange>> {
        self.exchanges.read().get(name).cloned()
    }

    /// Finds an exchange or refuses with 404.
    pub fn existing_exchange(&self, name: &str) -> Result<Arc<Exchange>, Refusal> {
        let missing = || Refusal::not_found(format!("no {}", exchange_in(name, &self.name)));
        self.exchange(name).ok_or_else(missing)
    }

    /// Adds an exchange.
    pub fn add_exchange(&self, name: &str, spec: ExchangeSpec) -> Arc<Exchange> {
        let name: Arc<str> = name.into();
        let bindings = RwLock::new(Bindings::declared(spec.kind, &spec.arguments, &name));
        let internal_queue = spec.kind.internal_queue(&name).map(Arc::from);
        let place = spec.durable.then(|| SeenKey::first(&self.name, false, &name));
        let deduplicator = spec.deduplication().map(|settings| Deduplicator::new(settings, place).into());
        if deduplicator.is_some() {
            self.deduplicates.store(true, Ordering::Release);
        }
        let exchange = Arc::new(Exchange {
            name: name.clone(),
            spec,
            internal_queue,
            deduplicator,
            bindings,
            in_force: RwLock::default(),
            handed_in: Mutex::default(),
        });
        exchange.put_in_force(self.policies.read().in_force(Subject::Exchange, &name));
        self.exchanges.write().insert(name, exchange.clone());
        self.changed();
        exchange
    }

    /// Puts policies in force for the exchanges that are there before anything is read back: the predeclared ones.
    pub(crate) fn recover_policies(&self) {
        for exchange in self.exchanges() {
            exchange.put_in_force(self.policies.read().in_force(Subject::Exchange, &exchange.name));
        }
    }

    /// Takes an exchange out.
    pub fn remove_exchange(&self, name: &str) {
        self.exchanges.write().remove(name);
        self.changed();
    }

    /// All exchanges.
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.exchanges.read().values().cloned().collect()
    }

    /// Finds a queue.
    pub fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.queues.read().get(name).cloned()
    }

    /// Finds a queue or refuses with 404.
    pub fn existing_queue(&self, name: &str) -> Result<Arc<Queue>, Refusal> {
        let missing = || Refusal::not_found(format!("no {}", queue_in(name, &self.name)));
        self.queue(name).ok_or_else(missing)
    }

    /// Adds a queue.
    pub fn add_queue(&self, queue: Arc<Queue>) {
        if queue.deduplicator.is_some() {
            self.deduplicates.store(true, Ordering::Release);
        }
        self.queues.write().insert(queue.name.clone(), queue);
        self.changed();
    }

    /// Takes a queue out, if it is still the one of that name.
    pub fn remove_queue(&self, queue: &Arc<Queue>) {
        let mut queues = self.queues.write();
        if queues.get(&queue.name).is_some_and(|found| Arc::ptr_eq(found, queue)) {
            queues.remove(&queue.name);
        }
        drop(queues);
        self.changed();
    }

    /// All queues, in the order they were made.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        let mut queues: Vec<_> = self.queues.read().values().cloned().collect();
        queues.sort_unstable_by_key(|queue| queue.id);
        queues
    }
}

fn predeclared(kind: ExchangeKind, internal: bool) -> ExchangeSpec {
    ExchangeSpec {
        kind,
        delays: false,
        durable: true,
        auto_delete: false,
        internal,
        arguments: FieldTable::default(),
    }
}
