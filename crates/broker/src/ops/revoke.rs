//! What a connection may no longer do ends, although the client does nothing.

use crate::channel::Channel;
use crate::connection::{Connection, Resource};
use crate::error::Refusal;
use crate::port::Batch;
use crate::users::Operation;

impl Connection {
    /// Whether the user is still there and may still use the virtual host.
    ///
    /// # Errors
    /// 320 with the reason why the connection has to be closed.
    pub fn check_access(&self) -> Result<(), Refusal> {
        let user = self.user()?;
        let vhost = &self.vhost.name;
        match user.permissions(vhost) {
            Some(_) => Ok(()),
            None => {
                Err(Refusal::forced(format!("access to vhost '{vhost}' refused for user '{}'", user.name)))
            }
        }
    }
}

impl Channel {
    /// Cancels the consumers whose queue the user may no longer read.
    ///
    /// # Errors
    /// 403 when the client does not understand `basic.cancel`: then the channel has to be closed.
    pub fn end_forbidden_consumers(&mut self, batch: &mut Batch) -> Result<(), Refusal> {
        let forbidden: Vec<_> = self
            .port
            .facts
            .subscriptions()
            .into_iter()
            .filter_map(|(tag, subscription)| {
                let queue = Resource::Queue(&subscription.queue.name);
                let refusal = self.connection.authorize(Operation::Read, queue).err()?;
                Some((tag, refusal))
            })
            .collect();
        for (tag, refusal) in forbidden {
            if !self.connection.cancel_notify {
                return Err(refusal);
            }
            tracing::info!(consumer = %tag, %refusal, "consumer cancelled");
            self.cancel(&tag, batch);
            self.port.consumer_cancelled(&tag, batch);
        }
        Ok(())
    }
}
