//! Setting what virtual hosts and users may have.

use leveret_store::MetaChange;

use crate::broker::Broker;
use crate::parameter_error::ParameterError;
use crate::quotas::{UserLimits, VHostLimits};
use crate::records::Key;

impl Broker {
    /// Sets what a virtual host may have; both limits are replaced. Nothing that exists ends. Durable once
    /// [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such virtual host, or the log failed.
    pub fn set_vhost_limits(&self, vhost: &str, limits: VHostLimits) -> Result<(), ParameterError> {
        let found = self.vhost(vhost).ok_or_else(|| ParameterError::NoVHost(vhost.to_owned()))?;
        let _change = found.addition()?;
        let is_none = limits == VHostLimits::default();
        self.keep(&Key::VHostLimits(vhost.to_owned()), (!is_none).then(|| limits.encode()))?;
        found.set_limits(limits);
        Ok(())
    }

    /// What a user may have.
    pub fn user_limits(&self, user: &str) -> UserLimits {
        self.user_quotas.of(user).limits()
    }

    /// Sets what a user may have; both limits are replaced. Nothing that is open ends. Durable once
    /// [`Broker::topology_is_durable`].
    ///
    /// # Errors
    /// There is no such user, or the log failed.
    pub fn set_user_limits(&self, user: &str, limits: UserLimits) -> Result<(), ParameterError> {
        if self.users.find(user).is_none() {
            return Err(ParameterError::NoUser(user.to_owned()));
        }
        let is_none = limits == UserLimits::default();
        self.keep(&Key::UserLimits(user.to_owned()), (!is_none).then(|| limits.encode()))?;
        self.user_quotas.of(user).set(limits);
        Ok(())
    }

    /// Keeps a record, or forgets it.
    pub(crate) fn keep(&self, key: &Key, record: Option<Vec<u8>>) -> Result<(), ParameterError> {
        let change = match record {
            Some(record) => MetaChange::Put(key.encode(), record),
            None => MetaChange::Delete(key.encode()),
        };
        self.log_meta(&[change]).map_err(|failed| ParameterError::Failed(failed.into()))
    }
}
