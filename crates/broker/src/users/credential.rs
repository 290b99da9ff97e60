//! A user's password hash together with the memory of the last right password.

use std::fmt;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::password::{BadPassword, PasswordHash};

/// A password hash. It never changes: a new password is a new credential, so what was remembered for the old
/// one cannot be taken for the new one, not even by a verification that was under way meanwhile.
pub(super) struct Credential {
    hash: PasswordHash,
    verified: OnceLock<Verified>,
}

/// A right password, as a digest under a key that is only in this process's memory.
struct Verified {
    key: [u8; 32],
    digest: [u8; 32],
}

impl Credential {
    pub(super) fn new(hash: PasswordHash) -> Self {
        Self { hash, verified: OnceLock::new() }
    }

    pub(super) fn hash(&self) -> &PasswordHash {
        &self.hash
    }

    /// Whether the password should be hashed anew.
    pub(super) fn is_outdated(&self) -> bool {
        self.hash.is_outdated()
    }

    /// The same password, known to be right, with a new hash.
    pub(super) fn renewed(&self, password: &[u8]) -> Result<Self, BadPassword> {
        let renewed = Self::new(PasswordHash::new(password)?);
        if let Some(verified) = Verified::new(password) {
            renewed.verified.set(verified).ok(); // nobody else has it yet
        }
        Ok(renewed)
    }

    /// Whether this is the right password and was already found to be.
    pub(super) fn remembers(&self, password: &[u8]) -> bool {
        self.verified.get().is_some_and(|verified| verified.is_for(password))
    }

    /// Whether this is the right password, by the slow hash. Remembers it if it is.
    pub(super) fn verify(&self, user: &str, password: &[u8]) -> bool {
        let matches = self.hash.verify(user, password);
        if matches && let Some(verified) = Verified::new(password) {
            // Another thread may have been faster with the same password.
            self.verified.set(verified).ok();
        }
        matches
    }
}

impl Verified {
    /// None if the machine has no randomness: then nothing is remembered.
    fn new(password: &[u8]) -> Option<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).ok()?;
        Some(Self { key, digest: digest(&key, password) })
    }

    fn is_for(&self, password: &[u8]) -> bool {
        digest(&self.key, password).ct_eq(&self.digest).into()
    }
}

/// The key comes first and has a fixed length; nobody outside ever sees the digest, so its length-extension
/// property is of no use to anyone.
fn digest(key: &[u8; 32], password: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update(password).finalize().into()
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hash.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_right_password_is_remembered() {
        let credential = Credential::new(PasswordHash::new_public(b"right").unwrap());
        assert!(!credential.remembers(b"right"));
        assert!(!credential.verify("u", b"wrong") && !credential.remembers(b"wrong"));
        assert!(credential.verify("u", b"right") && credential.remembers(b"right"));
        assert!(!credential.remembers(b"wrong") && !credential.remembers(b""));
        assert!(!credential.verify("u", b"wrong") && !credential.remembers(b"wrong"));
    }
}
