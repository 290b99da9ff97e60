//! Setting and clearing policies: every queue and exchange they concern changes at once.
//!
//! ```text
//!   set ─► logged ─► exchanges: alternate ─► routes are looked up again
//!                └─► queues: settings ─► what is now too much is given up (and dead-lettered)
//! ```
//!
//! What a change would cost can be asked before ([`Broker::preview_policy`]). A new TTL counts for messages that
//! arrive from then on, as in RabbitMQ; a new `x-expires` counts from the change.

use std::sync::Arc;

use leveret_store::MetaChange;

use crate::broker::Broker;
use crate::error::Refusal;
use crate::parameter_error::ParameterError;
use crate::policies::{Author, InForce, Policy, PolicySet, Subject, encode};
use crate::port::Batch;
use crate::queue::Courier;
use crate::records::Key;
use crate::vhost::{Queue, VHost};

/// What a change of policies comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyEffect {
    /// Queues for which other policies are in force.
    pub queues: u64,
    /// Exchanges for which other policies are in force.
    pub exchanges: u64,
    /// Messages that these queues give up because of it; dead letters, if they go anywhere.
    pub messages_dropped: u64,
}

impl Broker {
    /// Sets a policy, or replaces the one of that name, and puts it in force. Durable once
    /// [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such virtual host, or the log failed; nothing has changed then.
    pub fn set_policy(
        &self,
        vhost: &str,
        author: Author,
        policy: Policy,
        batch: &mut Batch,
    ) -> Result<PolicyEffect, ParameterError> {
        let found = self.known_vhost(vhost)?;
        let _change = found.addition()?;
        let key = Key::Policy(author, vhost.to_owned(), policy.name.clone()).encode();
        let record = encode(&policy).map_err(Refusal::from)?;
        self.log_meta(&[MetaChange::Put(key, record)]).map_err(Refusal::from)?;
        found.policies.write().put(author, Arc::new(policy));
        Ok(self.put_in_force(&found, batch))
    }

    /// Clears a policy; the next that fits is in force. Durable once [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such virtual host or policy, or the log failed; nothing has changed then.
    pub fn clear_policy(
        &self,
        vhost: &str,
        author: Author,
        name: &str,
        batch: &mut Batch,
    ) -> Result<PolicyEffect, ParameterError> {
        let found = self.known_vhost(vhost)?;
        let _change = found.change();
        if found.policies.read().find(author, name).is_none() {
            return Err(ParameterError::Missing);
        }
        let key = Key::Policy(author, vhost.to_owned(), name.to_owned()).encode();
        self.log_meta(&[MetaChange::Delete(key)]).map_err(Refusal::from)?;
        found.policies.write().remove(author, name);
        Ok(self.put_in_force(&found, batch))
    }

    /// The policies of a virtual host, the one that goes first in front.
    ///
    /// # Errors
    /// There is no such virtual host.
    pub fn policies(&self, vhost: &str, author: Author) -> Result<Vec<Arc<Policy>>, ParameterError> {
        Ok(self.known_vhost(vhost)?.policies.read().list(author).to_vec())
    }

    /// What setting a policy would come to, without doing it. How many messages an octet limit would drop is
    /// estimated from their average size; what would be too old in a stream (`max-age`) is not counted.
    ///
    /// # Errors
    /// There is no such virtual host.
    pub fn preview_policy(
        &self,
        vhost: &str,
        author: Author,
        policy: Policy,
    ) -> Result<PolicyEffect, ParameterError> {
        let found = self.known_vhost(vhost)?;
        let mut policies = found.policies.read().clone();
        policies.put(author, Arc::new(policy));
        Ok(self.preview(&found, &policies))
    }

    /// What clearing a policy would come to, without doing it: another one may be stricter.
    ///
    /// # Errors
    /// There is no such virtual host or policy.
    pub fn preview_clearing(
        &self,
        vhost: &str,
        author: Author,
        name: &str,
    ) -> Result<PolicyEffect, ParameterError> {
        let found = self.known_vhost(vhost)?;
        let mut policies = found.policies.read().clone();
        if !policies.remove(author, name) {
            return Err(ParameterError::Missing);
        }
        Ok(self.preview(&found, &policies))
    }

    fn known_vhost(&self, name: &str) -> Result<Arc<VHost>, ParameterError> {
        self.vhost(name).ok_or_else(|| ParameterError::NoVHost(name.to_owned()))
    }

    /// The caller holds [`VHost::change`], so no queue or exchange appears meanwhile that knows the old policies.
    pub(super) fn put_in_force(&self, vhost: &VHost, batch: &mut Batch) -> PolicyEffect {
        let policies = vhost.policies.read().clone();
        let mut effect = PolicyEffect::default();
        for exchange in vhost.exchanges() {
            let in_force = policies.in_force(Subject::Exchange, &exchange.name);
            effect.exchanges += u64::from(exchange.put_in_force(in_force));
        }
        vhost.changed();
        for (queue, in_force) in changed_queues(vhost, &policies) {
            effect.queues += 1;
            effect.messages_dropped += self.change_settings(&queue, in_force, batch);
        }
        effect
    }

    /// Answers how many messages the queue gave up.
    fn change_settings(&self, queue: &Arc<Queue>, in_force: InForce, batch: &mut Batch) -> u64 {
        let settings = Arc::new(self.limits.settings(queue.kind, &queue.spec.arguments, &in_force));
        queue.put_in_force(in_force, settings.clone());
        let given_up = self.with_queue(queue, batch, |state, carrier, aftermath| {
            let before = state.ready_len();
            state.apply(settings, carrier.now_ms());
            state.drop_excess(carrier, aftermath)?;
            Ok(before - state.ready_len())
        });
        // A queue that is gone or damaged has nothing to give up.
        given_up.unwrap_or(0)
    }

    fn preview(&self, vhost: &VHost, policies: &PolicySet) -> PolicyEffect {
        let mut effect = PolicyEffect::default();
        for exchange in vhost.exchanges() {
            let in_force = policies.in_force(Subject::Exchange, &exchange.name);
            effect.exchanges += u64::from(exchange.policies() != in_force);
        }
        for (queue, in_force) in changed_queues(vhost, policies) {
            effect.queues += 1;
            let settings = self.limits.settings(queue.kind, &queue.spec.arguments, &in_force);
            effect.messages_dropped += queue.lock().rule().map_or(0, |state| state.excess(&settings));
        }
        effect
    }
}

/// The queues for which other policies would be in force, and which.
fn changed_queues(vhost: &VHost, policies: &PolicySet) -> Vec<(Arc<Queue>, InForce)> {
    let in_force = |queue: Arc<Queue>| {
        let in_force = policies.in_force(Subject::Queue(queue.kind), &queue.name);
        (queue, in_force)
    };
    let queues = vhost.queues().into_iter().filter(|queue| !queue.spec.internal).map(in_force);
    queues.filter(|(queue, in_force)| queue.policies() != *in_force).collect()
}
