//! Which links there are to be: what policies federate, with the upstreams that parameters describe.

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_broker::Broker;
use leveret_broker::federation::INTERNAL_PURPOSE;
use leveret_broker::parameters::Parameter;
use leveret_broker::policies::{Federated, InForce};
use leveret_broker::settings::QueueKind;
use leveret_broker::vhost::{Exchange, Queue, VHost};
use leveret_shovel::Bindings;
use serde_json::{Map, Value};

use super::super::parameter;
use super::upstream::{Element, Upstream, read_set};

/// What parameters of upstreams are filed under.
pub(super) const UPSTREAM: &str = "federation-upstream";
/// What parameters of sets are filed under.
pub(super) const SET: &str = "federation-upstream-set";
/// The set that is always there.
const ALL: &str = "all";

/// Names a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) vhost: String,
    pub(super) kind: Kind,
    /// The exchange or queue here.
    pub(super) name: String,
    pub(super) upstream: String,
    /// A set may have an upstream more than once, with different settings.
    pub(super) nth: usize,
}

/// What is federated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Exchange,
    Queue,
}

/// A link that is to be.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) subject: Subject,
    pub(super) policy: String,
    /// The parameter of the upstream, with what its set has different.
    pub(super) fields: Map<String, Value>,
    pub(super) upstream: Upstream,
    /// On whose behalf it works.
    pub(super) user: String,
}

/// The exchange or queue here.
#[derive(Clone)]
pub(super) enum Subject {
    Exchange(Arc<Exchange>),
    Queue(Arc<Queue>),
}

impl Wanted {
    /// Whether a link that was started as `self` serves for `other`.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_subject = match (&self.subject, &other.subject) {
            (Subject::Exchange(one), Subject::Exchange(other)) => one.spec == other.spec,
            (Subject::Queue(one), Subject::Queue(other)) => one.id == other.id,
            (_, _) => false,
        };
        same_subject
            && (&self.policy, &self.fields, &self.user) == (&other.policy, &other.fields, &other.user)
    }
}

/// The bindings of an exchange, whatever they lead to.
pub(super) fn bindings(exchange: &Exchange) -> Bindings {
    let mut bindings = Bindings::default();
    for (_, key, arguments) in exchange.bindings.read().iter() {
        bindings.add(key, arguments);
    }
    bindings
}

/// All links that are to be.
pub(super) fn all(broker: &Broker) -> BTreeMap<Key, Wanted> {
    let upstreams = broker.parameters_of(UPSTREAM);
    let mut wanted = BTreeMap::new();
    for of_vhost in upstreams.chunk_by(|a, b| a.vhost == b.vhost) {
        if let Some(vhost) = broker.vhost(&of_vhost[0].vhost) {
            Survey { broker, vhost: &vhost, upstreams: of_vhost }.collect(&mut wanted);
        }
    }
    wanted
}

/// A virtual host, and its upstreams.
struct Survey<'b> {
    broker: &'b Broker,
    vhost: &'b VHost,
    upstreams: &'b [Arc<Parameter>],
}

impl Survey<'_> {
    fn collect(&self, wanted: &mut BTreeMap<Key, Wanted>) {
        for exchange in self.vhost.exchanges().into_iter().filter(may_be_exchange) {
            let (name, in_force) = (exchange.name.clone(), exchange.policies());
            self.add(Kind::Exchange, &name, &in_force, &Subject::Exchange(exchange), wanted);
        }
        for queue in self.vhost.queues().into_iter().filter(may_be_queue) {
            let (name, in_force) = (queue.name.clone(), queue.policies());
            self.add(Kind::Queue, &name, &in_force, &Subject::Queue(queue), wanted);
        }
    }

    fn add(
        &self,
        kind: Kind,
        name: &str,
        in_force: &InForce,
        subject: &Subject,
        wanted: &mut BTreeMap<Key, Wanted>,
    ) {
        let Some(policy) = &in_force.policy else { return };
        let Some(federated) = Federated::of(in_force) else { return };
        for (upstream, different) in self.elements(&federated) {
            let Some(parameter) = self.upstreams.iter().find(|parameter| parameter.name == upstream) else {
                continue;
            };
            let mut key =
                Key { vhost: self.vhost.name.to_string(), kind, name: name.to_owned(), upstream, nth: 0 };
            while wanted.contains_key(&key) {
                key.nth += 1;
            }
            if let Some(link) = link(parameter, different, &policy.name, subject) {
                wanted.insert(key, link);
            }
        }
    }

    /// Names of upstreams, each with what is different for it.
    fn elements(&self, federated: &Federated) -> Vec<Element> {
        let names = |fits: &dyn Fn(&str) -> bool| {
            let names = self.upstreams.iter().map(|parameter| parameter.name.clone());
            names.filter(|name| fits(name)).map(|name| (name, Map::new())).collect()
        };
        match federated {
            Federated::Upstream(name) => vec![(name.clone(), Map::new())],
            Federated::Set(name) if name == ALL => names(&|_| true),
            Federated::Set(name) => {
                let set = self.broker.parameter(SET, &self.vhost.name, name);
                set.and_then(|set| read_set(name, &set.value).ok()).unwrap_or_default()
            }
            Federated::Pattern(pattern) => names(&|name| pattern.is_match(name)),
        }
    }
}

/// `None`: this version does not understand what another one took.
fn link(
    parameter: &Parameter,
    different: Map<String, Value>,
    policy: &str,
    subject: &Subject,
) -> Option<Wanted> {
    let Parameter { vhost, name, value, set_by, .. } = parameter;
    let read = parameter::object(name, value).and_then(|mut fields| {
        fields.extend(different);
        Upstream::read(name, &fields).map(|upstream| (fields, upstream))
    });
    let (fields, upstream) = read
        .inspect_err(|reason| tracing::error!(vhost, name, reason, "federation link not started"))
        .ok()?;
    let (policy, user) = (policy.to_owned(), set_by.clone());
    Some(Wanted { subject: subject.clone(), policy, fields, upstream, user })
}

fn may_be_exchange(exchange: &Arc<Exchange>) -> bool {
    !exchange.name.is_empty() && !exchange.spec.internal
}

/// What a link of another broker made here to take from is not federated itself. A stream keeps what is read, so nothing
/// can be moved into it only when it is wanted; an exclusive queue cannot be there twice.
fn may_be_queue(queue: &Arc<Queue>) -> bool {
    let spec = &queue.spec;
    let is_ordinary = !spec.internal && spec.owner.is_none() && queue.kind != QueueKind::Stream;
    is_ordinary && spec.arguments.get(INTERNAL_PURPOSE).is_none()
}
