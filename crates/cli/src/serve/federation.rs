//! Federation: exchanges and queues of this broker that get messages from other brokers.
//!
//! ```text
//!   parameters: upstreams, sets ─┐
//!   policies                     ├──► wanted ──► reconcile: what runs? ──► start, stop, tell of bindings
//!   exchanges, queues, bindings ─┘
//! ```
//!
//! A link works on behalf of the user that set the parameter of its upstream: every operation at this broker is checked
//! against what that user may at the moment. What links do is in `leveret_shovel`, what they may in
//! `leveret_broker::federation`.

mod rules;
mod upstream;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use leveret_admin::LinkStatus;
use leveret_broker::authority::{Right, authorize};
use leveret_broker::federation::{DOWNSTREAM_NAME, DOWNSTREAM_VHOST, INTERNAL_PURPOSE, MAX_HOPS, Site};
use leveret_broker::parameters::{Component, Parameter};
use leveret_broker::users::User;
use leveret_broker::vhost::{Exchange, Queue};
use leveret_client::{ConnectOptions, ExchangeDeclare, QueueDeclare};
use leveret_server::Handle;
use leveret_shovel::{
    Bindings, Changes, Federation as Rules, Give, Shovel, Status, Supervised, Take, Transfer, Until,
    UpstreamExchange,
};
use leveret_wire::FieldTable;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::end::End;
use rules::{OfExchange, OfQueue};
use upstream::{Upstream, read_set};
use wanted::{Key, Kind, SET, Subject, UPSTREAM, Wanted};

/// How often it is looked whether anything has changed, while there are upstreams.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a link may take to confirm what is on its way, and to clean up, when it is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);

/// The links of this process.
pub(super) struct Federation {
    broker: Handle,
    changed: Notify,
    is_stopping: AtomicBool,
    running: Mutex<BTreeMap<Key, Running>>,
}

struct Running {
    /// What it was started from.
    wanted: Wanted,
    /// What this broker called itself then.
    cluster_name: String,
    /// It is to be stopped and started again.
    is_stale: bool,
    id: String,
    label: String,
    link: Arc<Supervised>,
    /// Tells a link of an exchange of its bindings.
    bindings: Option<watch::Sender<Arc<Bindings>>>,
}

/// What is compared to know whether anything has changed.
type Versions = (String, Vec<(Arc<str>, u64)>);

impl Federation {
    /// Starts what is wanted, now and whenever that changes.
    pub(super) fn start(broker: Handle) -> Arc<Self> {
        let federation = Arc::new(Self {
            broker,
            changed: Notify::new(),
            is_stopping: AtomicBool::new(false),
            running: Mutex::default(),
        });
        for name in [UPSTREAM, SET] {
            federation.rules().add_component(Arc::new(Parameters { name, federation: federation.clone() }));
        }
        tokio::spawn(federation.clone().watch());
        federation
    }

    /// Stops all links, so that nothing is on its way when the broker stops. What they made elsewhere stays.
    pub(super) async fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let all = std::mem::take(&mut *self.running.lock());
        stop_all(all.into_values().map(|running| (running, false))).await;
    }

    fn rules(&self) -> &Arc<leveret_broker::Broker> {
        self.broker.rules()
    }

    async fn watch(self: Arc<Self>) {
        let mut seen = None;
        while !self.is_stopping.load(Ordering::Relaxed) {
            let has_upstreams = !self.rules().parameters_of(UPSTREAM).is_empty();
            let versions = has_upstreams.then(|| self.versions());
            if versions.is_none() || versions != seen {
                self.reconcile().await;
            }
            seen = versions;
            let told = self.changed.notified();
            if has_upstreams {
                if tokio::time::timeout(WATCH_INTERVAL, told).await.is_ok() {
                    seen = None;
                }
            } else {
                told.await;
            }
        }
    }

    fn versions(&self) -> Versions {
        let vhosts = self.rules().vhosts().into_iter().map(|vhost| (vhost.name.clone(), vhost.version()));
        (self.broker.cluster_name(), vhosts.collect())
    }

    async fn reconcile(&self) {
        let wanted = wanted::all(self.rules());
        let cluster_name = self.broker.cluster_name();
        let outdated: Vec<_> = {
            let mut running = self.running.lock();
            let serves = |key: &Key, running: &Running| {
                let is_wanted = wanted.get(key).is_some_and(|wanted| running.wanted.is_same(wanted));
                is_wanted && !running.is_stale && running.cluster_name == cluster_name
            };
            let keys: Vec<Key> = running.keys().filter(|key| !serves(key, &running[*key])).cloned().collect();
            let removed = keys.into_iter().filter_map(|key| running.remove(&key).map(|one| (key, one)));
            removed.collect()
        };
        let retired = outdated.into_iter().map(|(key, running)| {
            let is_moved = wanted.get(&key).is_none_or(|wanted| {
                running.cluster_name != cluster_name || running.wanted.fields != wanted.fields
            });
            (running, is_moved)
        });
        stop_all(retired).await;
        let mut running = self.running.lock();
        if self.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        for (key, wanted) in wanted {
            match running.get(&key) {
                Some(running) => running.tell_bindings(&wanted),
                None => {
                    let started = self.run(&key, wanted, &cluster_name);
                    running.insert(key, started);
                }
            }
        }
    }

    fn run(&self, key: &Key, wanted: Wanted, cluster_name: &str) -> Running {
        let id = id_of(key);
        let Wanted { upstream, policy, user, .. } = &wanted;
        let label = format!("Federation link {id} (upstream: {}, policy: {policy})", key.upstream);
        let here = Site { cluster: cluster_name.to_owned(), vhost: key.vhost.clone() };
        let source_label = format!("Federation link (upstream: {}, policy: {policy})", key.upstream);
        let source = self.source(upstream, &key.vhost, user, &source_label);
        let (transfer, bindings) = match &wanted.subject {
            Subject::Exchange(exchange) => {
                let (transfer, bindings) = of_exchange(&here, exchange, upstream, source.clone());
                (transfer, Some(bindings))
            }
            Subject::Queue(queue) => (of_queue(&key.upstream, queue, upstream), None),
        };
        let destination = End::Here(key.vhost.clone()).options(&self.broker, user, &label);
        let reconnect_delay = Some(upstream.reconnect_delay);
        let link = Shovel { transfer, source, destination, reconnect_delay, label: label.clone() };
        let link = Arc::new(link.start());
        Running { wanted, cluster_name: cluster_name.to_owned(), is_stale: false, id, label, link, bindings }
    }

    /// A URI that names no virtual host means the one that is called as the one here.
    fn source(&self, upstream: &Upstream, vhost: &str, user: &str, label: &str) -> ConnectOptions {
        let options = upstream.end.clone().options(&self.broker, user, label);
        if upstream.vhost.is_none() { options.vhost(vhost) } else { options }
    }

    /// The names of connections in memory, by what they call themselves.
    fn connections(&self) -> BTreeMap<String, String> {
        let of_memory = self.rules().connections().into_iter().filter_map(|connection| {
            let name = connection.introduction.client_properties().find_str("connection_name")?;
            Some((name.to_owned(), connection.name.clone()))
        });
        of_memory.filter(|(_, name)| name.starts_with("memory:")).collect()
    }
}

impl leveret_admin::FederationLinks for Federation {
    fn list(&self) -> Vec<LinkStatus> {
        let connections = self.connections();
        self.running.lock().iter().map(|(key, running)| running.status(key, &connections)).collect()
    }

    fn restart(&self, vhost: &str, id: &str) -> bool {
        let mut running = self.running.lock();
        let found = running.iter_mut().find(|(key, running)| key.vhost == vhost && running.id == id);
        let Some((_, found)) = found else { return false };
        found.is_stale = true;
        self.changed.notify_one();
        true
    }
}

impl Running {
    /// `retires`: what it made at the upstream is needed no more.
    async fn stop(self, retires: bool) {
        if retires {
            self.link.retire();
        } else {
            self.link.stop();
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.link.ended()).await.is_err() {
            tracing::warn!(name = self.label, "a federation link did not stop in time");
        }
    }

    fn tell_bindings(&self, wanted: &Wanted) {
        if let (Some(told), Subject::Exchange(exchange)) = (&self.bindings, &wanted.subject) {
            let bindings = wanted::bindings(exchange);
            told.send_if_modified(|before| {
                let changes = **before != bindings;
                if changes {
                    *before = Arc::new(bindings);
                }
                changes
            });
        }
    }

    fn status(&self, key: &Key, connections: &BTreeMap<String, String>) -> LinkStatus {
        let (status, since) = self.link.status();
        let (state, error) = match status {
            Status::Starting => ("starting", None),
            Status::Running | Status::Ended(_) => ("running", None),
            Status::Terminated(reason) => ("error", Some(reason)),
        };
        let upstream = &self.wanted.upstream;
        let there = match key.kind {
            Kind::Exchange => &upstream.exchange,
            Kind::Queue => &upstream.queue,
        };
        LinkStatus {
            id: self.id.clone(),
            vhost: key.vhost.clone(),
            kind: key.kind.name(),
            name: key.name.clone(),
            upstream: key.upstream.clone(),
            upstream_name: there.clone().unwrap_or_else(|| key.name.clone()),
            uri: upstream.uri.clone(),
            consumer_tag: (key.kind == Kind::Queue).then(|| consumer_tag(&key.upstream, upstream)),
            state,
            error,
            since_s: since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            local_connection: connections.get(&self.label).filter(|_| state == "running").cloned(),
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
        }
    }
}

async fn stop_all(all: impl Iterator<Item = (Running, bool)>) {
    let mut stopping: JoinSet<()> = all.map(|(running, retires)| running.stop(retires)).collect();
    while stopping.join_next().await.is_some() {}
}

fn of_exchange(
    here: &Site,
    exchange: &Exchange,
    upstream: &Upstream,
    address: ConnectOptions,
) -> (Transfer, watch::Sender<Arc<Bindings>>) {
    let there = upstream.exchange.as_deref().unwrap_or(&exchange.name);
    let vhost = upstream.vhost.as_deref().unwrap_or(&here.vhost);
    let queue = upstream_queue(there, vhost, here, &exchange.name);
    let (bindings, followed) = watch::channel(Arc::new(wanted::bindings(exchange)));
    let declare = ExchangeDeclare {
        auto_delete: exchange.spec.auto_delete,
        arguments: exchange.spec.arguments.clone(),
        durable: exchange.spec.durable,
        ..ExchangeDeclare::durable(there, exchange.spec.type_name())
    };
    let rules = OfExchange {
        here: here.clone(),
        exchange: exchange.name.to_string(),
        vhost: vhost.to_owned(),
        is_elsewhere: matches!(upstream.end, End::Elsewhere(_)),
        max_hops: upstream.max_hops,
        trusts_user_id: upstream.trusts_user_id,
        station: station(upstream, "exchange", &exchange.name),
    };
    let source = UpstreamExchange {
        exchange: declare,
        queue: QueueDeclare { arguments: queue_arguments(upstream), ..QueueDeclare::durable(&queue) },
        between: between_arguments(here, upstream),
        bindings: followed,
        address,
        keeps_queue: upstream.keeps_queue,
    };
    let give = Give::Exchange { name: Some(exchange.name.to_string()), key: None };
    let take = Take::UpstreamExchange(Box::new(source));
    (transfer(upstream, take, give, Arc::new(rules)), bindings)
}

fn of_queue(upstream_name: &str, queue: &Arc<Queue>, upstream: &Upstream) -> Transfer {
    let there = upstream.queue.as_deref().unwrap_or(&queue.name);
    let declare = QueueDeclare {
        durable: queue.spec.durable,
        auto_delete: queue.spec.auto_delete,
        arguments: queue.spec.arguments.clone(),
        ..QueueDeclare::durable(there)
    };
    let rules = OfQueue {
        queue: queue.clone(),
        trusts_user_id: upstream.trusts_user_id,
        station: station(upstream, "queue", &queue.name),
    };
    let give = Give::Queue { name: queue.name.to_string(), declare: None };
    let mut consumer_arguments = FieldTable::new();
    // Whoever consumes there goes first.
    consumer_arguments.insert("x-priority", -1_i64);
    let consumer_tag = consumer_tag(upstream_name, upstream);
    Transfer {
        consumer_tag,
        consumer_arguments,
        ..transfer(upstream, Take::Upstream(declare), give, Arc::new(rules))
    }
}

fn transfer(upstream: &Upstream, take: Take, give: Give, rules: Arc<dyn Rules>) -> Transfer {
    Transfer {
        take,
        consumer_tag: String::new(),
        consumer_arguments: FieldTable::new(),
        prefetch: upstream.prefetch,
        give,
        changes: Changes::default(),
        ack_mode: upstream.ack_mode,
        until: Until::Stopped,
        federation: Some(rules),
    }
}

/// RabbitMQ's name of the queue in which an exchange's messages wait for a broker: virtual host and exchange there are left
/// out where they are called the same.
fn upstream_queue(exchange: &str, vhost: &str, here: &Site, downstream: &str) -> String {
    let there = match (vhost == here.vhost, exchange == downstream) {
        (true, true) => String::new(),
        (true, false) => format!(":{downstream}"),
        (false, _) => format!(":{}:{downstream}", here.vhost),
    };
    format!("federation: {exchange} -> {}{there}", here.cluster)
}

fn queue_arguments(upstream: &Upstream) -> FieldTable {
    let mut arguments = FieldTable::new();
    if let Some(ms) = upstream.expires_ms {
        arguments.insert("x-expires", ms);
    }
    if let Some(ms) = upstream.message_ttl_ms {
        arguments.insert("x-message-ttl", ms);
    }
    if let Some(kind) = &upstream.queue_type {
        arguments.insert("x-queue-type", kind.as_str());
    }
    arguments.insert(INTERNAL_PURPOSE, "federation");
    arguments
}

fn between_arguments(here: &Site, upstream: &Upstream) -> FieldTable {
    let mut arguments = FieldTable::new();
    arguments.insert(MAX_HOPS, upstream.max_hops);
    arguments.insert(DOWNSTREAM_NAME, here.cluster.as_str());
    arguments.insert(DOWNSTREAM_VHOST, here.vhost.as_str());
    arguments.insert(INTERNAL_PURPOSE, "federation");
    arguments
}

fn station(upstream: &Upstream, kind: &str, name: &str) -> FieldTable {
    FieldTable::from([("uri", upstream.uri.as_str()), (kind, name)])
}

fn consumer_tag(name: &str, upstream: &Upstream) -> String {
    upstream.consumer_tag.clone().unwrap_or_else(|| format!("federation-link-{name}"))
}

/// Eight hexadecimal digits that stay the same while the link's names do.
fn id_of(key: &Key) -> String {
    let Key { vhost, kind, name, upstream, nth } = key;
    let text = format!("{vhost}\0{}\0{name}\0{upstream}\0{nth}", kind.name());
    let fnv = |hash: u32, octet: u8| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
    format!("{:08x}", text.bytes().fold(0x811c_9dc5, fnv))
}

/// A component that the broker asks.
struct Parameters {
    name: &'static str,
    federation: Arc<Federation>,
}

impl Component for Parameters {
    fn name(&self) -> &str {
        self.name
    }

    fn check(&self, parameter: &Parameter, user: &User) -> Result<(), String> {
        let Parameter { vhost, name, value, .. } = parameter;
        if self.name == SET {
            return read_set(name, value).map(drop);
        }
        let fields = super::parameter::object(name, value)?;
        let upstream = Upstream::read(name, &fields)?;
        let there = upstream.vhost.as_deref().unwrap_or(vhost);
        let here = upstream.end.vhost_here().map(|_| there);
        for vhost in here.into_iter().chain([vhost.as_str()]) {
            // Whether it exists, the broker asks: with definitions it may come with the parameter.
            if authorize(user, Right::Enter(vhost)).is_err() {
                return Err(format!("user \"{}\" may not connect to vhost \"{vhost}\"", user.name));
            }
        }
        Ok(())
    }

    fn changed(&self) {
        self.federation.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
