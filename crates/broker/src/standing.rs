//! Whether a virtual host takes anything new.

use parking_lot::MutexGuard;

use crate::error::Refusal;
use crate::vhost::VHost;

/// Whether a virtual host takes anything new. Behind the lock of its changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    #[default]
    Open,
    /// It is being deleted, or was: what is logged for it now would outlive it.
    Closed,
}

impl VHost {
    /// [`VHost::change`] for what adds something.
    ///
    /// # Errors
    /// 530 when the virtual host is being deleted.
    pub fn addition(&self) -> Result<MutexGuard<'_, Standing>, Refusal> {
        let standing = self.change();
        match *standing {
            Standing::Open => Ok(standing),
            Standing::Closed => Err(Refusal::not_allowed(format!("vhost {} not found", self.name))),
        }
    }

    /// Lets nothing be added any more.
    pub(crate) fn close(&self) {
        *self.change() = Standing::Closed;
    }
}
