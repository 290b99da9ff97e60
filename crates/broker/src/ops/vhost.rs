//! Adding and deleting virtual hosts.
//!
//! ```text
//!   delete ─► marked: nothing is added any more ─► logged, all of it in one record ─► taken apart in memory
//!                                                                              └─► its connections are closed
//! ```
//!
//! A power cut finds the virtual host whole or not at all: the one record names everything of it that is durable.

use std::sync::Arc;

use leveret_store::MetaChange;

use super::bind::deletion;
use super::parameter::key_of;
use crate::broker::Broker;
use crate::error::Refusal;
use crate::parameter_error::ParameterError;
use crate::policies::Author;
use crate::port::Batch;
use crate::records::Key;
use crate::vhost::VHost;
use crate::vhost_metadata::VHostMetadata;

impl Broker {
    /// Adds a virtual host; nothing happens when it exists. Durable once [`Self::topology_is_durable`].
    ///
    /// # Errors
    /// The log failed.
    pub fn add_vhost(&self, name: &str) -> Result<(), Refusal> {
        let _turn = self.administration.lock();
        if self.vhost(name).is_some() {
            return Ok(());
        }
        self.log_meta(&[MetaChange::Put(Key::VHost(name.into()).encode(), Vec::new())])?;
        self.vhosts.write().insert(name.into(), VHost::new(name));
        Ok(())
    }

    /// Replaces what is said of a virtual host. Durable once [`Self::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such virtual host, it makes no sense, or the log failed; nothing has changed then.
    pub fn describe_vhost(&self, name: &str, metadata: VHostMetadata) -> Result<(), ParameterError> {
        metadata.check()?;
        let _turn = self.administration.lock();
        let vhost = self.vhost(name).ok_or_else(|| ParameterError::NoVHost(name.to_owned()))?;
        self.keep(&Key::VHost(name.to_owned()), Some(metadata.encode()))?;
        vhost.set_metadata(metadata);
        Ok(())
    }

    /// Deletes a virtual host with everything in it: queues and their messages, exchanges, bindings, policies,
    /// limits, parameters, what users may do there. Its connections are closed (320). Durable once
    /// [`Self::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such virtual host, it is protected, or the log failed.
    pub fn delete_vhost(&self, name: &str, batch: &mut Batch) -> Result<(), ParameterError> {
        let turn = self.administration.lock();
        let vhost = self.vhost(name).ok_or_else(|| ParameterError::NoVHost(name.to_owned()))?;
        if vhost.metadata().is_protected {
            return Err(ParameterError::Protected(name.to_owned()));
        }
        vhost.close();
        let mut changes = deletions(&vhost);
        changes.extend(self.forget_permissions(name));
        let parameters = self.parameters_in(name).into_iter();
        changes.extend(parameters.map(|parameter| MetaChange::Delete(key_of(&parameter).encode())));
        self.log_meta(&changes).map_err(Refusal::from)?;
        batch.urgent = true;
        self.vhosts.write().remove(name);
        for queue in vhost.queues() {
            self.remove_queue(&vhost, &queue, batch)?;
        }
        for exchange in vhost.exchanges() {
            vhost.remove_exchange(&exchange.name);
        }
        self.close_connections_of(&vhost);
        drop(turn);
        self.clear_parameters_in(name)
    }

    /// Takes all permissions in a virtual host away; what the store has to know of that.
    fn forget_permissions(&self, vhost: &str) -> Vec<MetaChange> {
        let users = self.users.forget_vhost(vhost).into_iter();
        users
            .filter_map(|name| {
                Some(MetaChange::Put(Key::User(name.clone()).encode(), self.users.encode(&name)?))
            })
            .collect()
    }
}

/// Everything the store knows of a virtual host to which nothing is added any more.
fn deletions(vhost: &Arc<VHost>) -> Vec<MetaChange> {
    let name = || vhost.name.to_string();
    let mut keys = vec![Key::VHost(name()), Key::VHostLimits(name())];
    let mut changes = Vec::new();
    for exchange in vhost.exchanges() {
        if exchange.spec.durable {
            keys.push(Key::Exchange(name(), exchange.name.to_string()));
        }
        changes.extend(vhost.close_window(exchange.deduplicator.as_ref()));
        for (destination, key, arguments) in exchange.bindings.write().drain() {
            changes.extend(deletion(vhost, &exchange, &destination, &key, &arguments));
        }
    }
    for queue in vhost.queues() {
        if queue.spec.durable {
            keys.extend([
                Key::Queue(name(), queue.name.to_string()),
                Key::Paused(queue.id),
                Key::Damaged(queue.id),
            ]);
        }
        changes.extend(vhost.close_window(queue.deduplicator.as_ref()));
    }
    let policies = vhost.policies.read();
    for author in [Author::User, Author::Operator] {
        keys.extend(
            policies.list(author).iter().map(|policy| Key::Policy(author, name(), policy.name.clone())),
        );
    }
    changes.extend(keys.into_iter().map(|key| MetaChange::Delete(key.encode())));
    changes
}
