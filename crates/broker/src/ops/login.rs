//! Logging in: by a password, or as somebody a certificate has named.

use std::sync::Arc;

use crate::broker::Broker;
use crate::users::{LoginRefused, User};

impl Broker {
    /// Checks a name and a password. May compute slow hashes, one at a time in the process: call it on a thread
    /// that may block. A right password whose hash is outdated (imported from RabbitMQ, say) is hashed anew and
    /// kept so; a password that is the user's name is not worth it, as it is the first to be guessed.
    ///
    /// # Errors
    /// Says why for the log. Unknown users take as long as wrong passwords.
    pub fn login(
        &self,
        name: &str,
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Result<Arc<User>, LoginRefused> {
        let user = self.users.authenticate(name, password, peer_is_loopback)?;
        if self.users.rehash(name, password)
            && let Err(refusal) = self.keep_user(name)
        {
            tracing::warn!(%refusal, user = name, "the new hash of a password is not kept");
        }
        Ok(user)
    }
}
