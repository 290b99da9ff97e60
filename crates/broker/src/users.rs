//! Users: who may log in, with what password, and what they may do then.
//!
//! ```text
//!   Users ── name ──▶ Account ──▶ User         tags, permissions: what sessions hold on to
//!                             └─▶ Credential   password hash, and a memory of the last right password
//! ```
//!
//! A session keeps the `Arc<User>` it got and compares [`Users::version`] with the one it knows; when they
//! differ it looks its user up again, so a revoked permission is gone with the next operation.
//!
//! Passwords are verified by a hash that is slow on purpose. A client that connects a thousand times a second
//! with the same right password does not pay for it each time: the credential remembers, as a keyed digest,
//! which password was right last, and it is replaced whenever the password changes.

mod credential;
mod password;
mod permissions;
mod record;
mod user;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use parking_lot::RwLock;

pub use crate::pattern::BadPattern;
pub use password::{BadPassword, PasswordHash};
pub use permissions::{Operation, Permissions, TopicPermissions};
pub use user::User;

use credential::Credential;

/// The longest user name.
const NAME_MAX_BYTES: usize = 255;
/// The most tags, and the longest one: they are copied with each change of a user.
const TAGS_MAX: usize = 32;

/// All users. Every operation is atomic; none of them touches the store.
#[derive(Debug, Default)]
pub struct Users {
    accounts: RwLock<HashMap<String, Account>>,
    version: AtomicU64,
}

#[derive(Clone, Debug)]
struct Account {
    user: Arc<User>,
    credential: Arc<Credential>,
}

/// Why someone may not log in. For the log only: the client is told [`LoginRefused::reply_text`], which does
/// not say whether the user exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefused {
    /// There is no such user.
    UnknownUser,
    /// The password is wrong, or the user has none, or it changed meanwhile.
    WrongPassword,
    /// An empty password is refused whatever the user.
    EmptyPassword,
    /// The user may only log in from this machine.
    NotFromLoopback,
    /// Too many passwords were wrong from there; this one was not looked at.
    TooManyFailures,
    /// The password could not be checked, by a fault of ours.
    Unable,
}

/// Why a change of a user is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserError {
    /// There is no user of that name.
    Unknown(String),
    /// There already is one.
    Exists(String),
    /// User names have 1 to 255 octets.
    BadName,
    /// A user has at most 32 tags of at most 255 octets.
    BadTags,
    /// The password cannot be used.
    Password(BadPassword),
    /// A pattern cannot be used.
    Pattern(BadPattern),
}

impl Users {
    /// Checks a name and a password. May compute a slow hash, one at a time in the process: call it on a
    /// thread that may block, after [`authenticate_quickly`](Self::authenticate_quickly) had no answer.
    ///
    /// # Errors
    /// Says why for the log. Unknown users take as long as wrong passwords.
    pub fn authenticate(
        &self,
        name: &str,
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Result<Arc<User>, LoginRefused> {
        if let Some(answer) = self.authenticate_quickly(name, password, peer_is_loopback) {
            return answer;
        }
        let Some(Account { credential, .. }) = self.account(name) else {
            password::refuse_slowly(name, password);
            return Err(LoginRefused::UnknownUser);
        };
        if !credential.verify(name, password) {
            return Err(LoginRefused::WrongPassword);
        }
        // That took a while: the user may be gone or may have another password by now.
        match self.account(name) {
            Some(now) if Arc::ptr_eq(&now.credential, &credential) => admit(now.user, peer_is_loopback),
            Some(_) | None => Err(LoginRefused::WrongPassword),
        }
    }

    /// Hashes a right password anew whose hash is outdated, if it is worth it; whether the user has to be kept.
    /// Nobody else notices: what the user may do is the same.
    pub(crate) fn rehash(&self, name: &str, password: &[u8]) -> bool {
        let Some(Account { credential, .. }) = self.account(name) else { return false };
        if !credential.is_outdated() || !credential.remembers(password) || password == name.as_bytes() {
            return false;
        }
        let renewed = match credential.renewed(password) {
            Ok(renewed) => Arc::new(renewed),
            Err(error) => {
                tracing::warn!(%error, user = name, "the password keeps its outdated hash");
                return false;
            }
        };
        match self.accounts.write().get_mut(name) {
            // Unless it was changed meanwhile.
            Some(now) if Arc::ptr_eq(&now.credential, &credential) => {
                now.credential = renewed;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Somebody whose name is proven otherwise, by a certificate.
    ///
    /// # Errors
    /// There is no such user, or it may only log in from this machine.
    pub fn admit(&self, name: &str, peer_is_loopback: bool) -> Result<Arc<User>, LoginRefused> {
        admit(self.find(name).ok_or(LoginRefused::UnknownUser)?, peer_is_loopback)
    }

    /// The answer if it is known without computing a slow hash; takes microseconds.
    pub fn authenticate_quickly(
        &self,
        name: &str,
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Option<Result<Arc<User>, LoginRefused>> {
        if password.is_empty() {
            return Some(Err(LoginRefused::EmptyPassword));
        }
        let account = self.account(name)?;
        account.credential.remembers(password).then(|| admit(account.user, peer_is_loopback))
    }

    /// Raised by every change. A session that sees another number than it knows must look up its user again.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The user of that name as it is now.
    pub fn find(&self, name: &str) -> Option<Arc<User>> {
        self.accounts.read().get(name).map(|account| account.user.clone())
    }

    /// All users by name.
    pub fn list(&self) -> Vec<Arc<User>> {
        let mut users: Vec<_> = self.accounts.read().values().map(|account| account.user.clone()).collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// The hash of a user's password, for a definitions file.
    pub fn password_hash(&self, name: &str) -> Option<PasswordHash> {
        self.account(name).map(|account| account.credential.hash().clone())
    }

    /// Adds a user without permissions.
    ///
    /// # Errors
    /// The name or the tags are refused, or there is one of that name.
    pub fn add(&self, name: &str, password: PasswordHash, tags: Vec<String>) -> Result<(), UserError> {
        Self::check(name, &tags)?;
        let mut accounts = self.accounts.write();
        if accounts.contains_key(name) {
            return Err(UserError::Exists(name.into()));
        }
        accounts.insert(name.into(), Account::new(User::new(name, tags), password));
        self.changed();
        Ok(())
    }

    /// Whether a user could have that name and these tags.
    ///
    /// # Errors
    /// The name or the tags are refused.
    pub fn check(name: &str, tags: &[String]) -> Result<(), UserError> {
        if name.is_empty() || name.len() > NAME_MAX_BYTES {
            return Err(UserError::BadName);
        }
        check_tags(tags)
    }

    /// Adds a user without permissions, or replaces its password and tags; whether it is new. A new `guest` may only log in
    /// from this machine: everybody tries that name.
    ///
    /// # Errors
    /// The name or the tags are refused.
    pub fn put(&self, name: &str, password: PasswordHash, tags: Vec<String>) -> Result<bool, UserError> {
        Self::check(name, &tags)?;
        let mut accounts = self.accounts.write();
        let is_new = !accounts.contains_key(name);
        let account = accounts
            .entry_ref(name)
            .or_insert_with(|| Account::new(User::new(name, Vec::new()), PasswordHash::absent()));
        account.credential = Arc::new(Credential::new(password));
        let user = Arc::make_mut(&mut account.user);
        user.tags = tags;
        user.loopback_only |= is_new && name == "guest";
        self.changed();
        Ok(is_new)
    }

    /// Adds what RabbitMQ starts with: the administrator `guest`, password `guest`, all permissions in `/`, only
    /// from this machine. As everyone knows the password, its hash is a cheap one.
    ///
    /// # Errors
    /// There is a `guest`, or the machine has no randomness.
    pub fn add_guest(&self) -> Result<(), UserError> {
        let password = PasswordHash::new_public(b"guest").map_err(UserError::Password)?;
        self.add("guest", password, vec!["administrator".into()])?;
        self.set_loopback_only("guest", true)?;
        self.set_permissions("guest", "/", Permissions::all())
    }

    /// Deletes a user. False if there was none.
    pub fn delete(&self, name: &str) -> bool {
        let existed = self.accounts.write().remove(name).is_some();
        if existed {
            self.changed();
        }
        existed
    }

    /// Replaces the password. Whoever is logged in stays so.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_password(&self, name: &str, password: PasswordHash) -> Result<(), UserError> {
        self.change(name, |account| account.credential = Arc::new(Credential::new(password)))
    }

    /// Replaces the tags.
    ///
    /// # Errors
    /// There is no such user, or there are too many tags.
    pub fn set_tags(&self, name: &str, tags: Vec<String>) -> Result<(), UserError> {
        check_tags(&tags)?;
        self.change_user(name, |user| user.tags = tags)
    }

    /// Says whether the user may only log in from this machine.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_loopback_only(&self, name: &str, loopback_only: bool) -> Result<(), UserError> {
        self.change_user(name, |user| user.loopback_only = loopback_only)
    }

    /// Replaces the permissions in a virtual host, which need not exist.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_permissions(
        &self,
        name: &str,
        vhost: &str,
        permissions: Permissions,
    ) -> Result<(), UserError> {
        self.change_user(name, |user| drop(user.permissions.insert(vhost.into(), permissions)))
    }

    /// Takes the permissions in a virtual host away. Nothing happens when there are none.
    ///
    /// # Errors
    /// There is no such user.
    pub fn clear_permissions(&self, name: &str, vhost: &str) -> Result<(), UserError> {
        self.change_user(name, |user| drop(user.permissions.remove(vhost)))
    }

    /// Restricts the routing keys at a topic exchange, by patterns in which `{username}` and `{vhost}` stand for
    /// those names.
    ///
    /// # Errors
    /// There is no such user, or a pattern cannot be used.
    pub fn set_topic_permissions(
        &self,
        name: &str,
        vhost: &str,
        exchange: &str,
        write: &str,
        read: &str,
    ) -> Result<(), UserError> {
        let permissions = TopicPermissions::new(write, read, name, vhost).map_err(UserError::Pattern)?;
        let key = (vhost.to_string(), exchange.to_string());
        self.change_user(name, |user| drop(user.topic_permissions.insert(key, permissions)))
    }

    /// Lifts the restriction at one exchange, or at all of the virtual host.
    ///
    /// # Errors
    /// There is no such user.
    pub fn clear_topic_permissions(
        &self,
        name: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), UserError> {
        let concerns =
            |(at, of): &(String, String)| at == vhost && exchange.is_none_or(|exchange| of == exchange);
        self.change_user(name, |user| user.topic_permissions.retain(|key, _| !concerns(key)))
    }

    /// Takes all permissions in a deleted virtual host away. Returns the users that had some, for them to be
    /// stored again.
    pub fn forget_vhost(&self, vhost: &str) -> Vec<String> {
        let mut accounts = self.accounts.write();
        let mut changed = Vec::new();
        for (name, account) in accounts.iter_mut() {
            if account.user.mentions(vhost) {
                Arc::make_mut(&mut account.user).forget(vhost);
                changed.push(name.clone());
            }
        }
        drop(accounts);
        self.changed();
        changed.sort();
        changed
    }

    /// The record of a user for the store: everything about it but the name. None if there is no such user.
    pub fn encode(&self, name: &str) -> Option<Vec<u8>> {
        let account = self.account(name)?;
        Some(record::encode(&account.user, account.credential.hash()))
    }

    /// Adds or replaces a user from its record. None if the record is damaged or of a newer version; nothing
    /// has changed then.
    pub fn restore(&self, name: &str, record: &[u8]) -> Option<()> {
        let (user, password) = record::decode(name, record)?;
        self.accounts.write().insert(name.into(), Account::new(user, password));
        self.changed();
        Some(())
    }

    fn account(&self, name: &str) -> Option<Account> {
        self.accounts.read().get(name).cloned()
    }

    fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) -> Result<(), UserError> {
        self.change(name, |account| change(Arc::make_mut(&mut account.user)))
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Account)) -> Result<(), UserError> {
        let mut accounts = self.accounts.write();
        change(accounts.get_mut(name).ok_or_else(|| UserError::Unknown(name.into()))?);
        self.changed();
        Ok(())
    }

    /// To be called after the change is visible: who sees the new version then sees the change.
    fn changed(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

impl Account {
    fn new(user: User, password: PasswordHash) -> Self {
        Self { user: Arc::new(user), credential: Arc::new(Credential::new(password)) }
    }
}

fn admit(user: Arc<User>, peer_is_loopback: bool) -> Result<Arc<User>, LoginRefused> {
    if user.loopback_only && !peer_is_loopback { Err(LoginRefused::NotFromLoopback) } else { Ok(user) }
}

fn check_tags(tags: &[String]) -> Result<(), UserError> {
    let fits = tags.len() <= TAGS_MAX && tags.iter().all(|tag| tag.len() <= NAME_MAX_BYTES);
    if fits { Ok(()) } else { Err(UserError::BadTags) }
}

impl LoginRefused {
    /// What the client is told (403), whatever the reason.
    pub fn reply_text(mechanism: &str) -> String {
        format!(
            "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
        )
    }
}

impl fmt::Display for LoginRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownUser => "no such user",
            Self::WrongPassword => "wrong password",
            Self::EmptyPassword => "empty password",
            Self::TooManyFailures => "too many wrong passwords from there, not looked at",
            Self::Unable => "the password could not be checked",
            Self::NotFromLoopback => "the user may only log in from this machine",
        })
    }
}

impl std::error::Error for LoginRefused {}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "no user '{name}'"),
            Self::Exists(name) => write!(f, "user '{name}' exists"),
            Self::BadName => write!(f, "a user name has 1 to {NAME_MAX_BYTES} octets"),
            Self::BadTags => {
                write!(f, "a user has at most {TAGS_MAX} tags of at most {NAME_MAX_BYTES} octets")
            }
            Self::Password(bad) => bad.fmt(f),
            Self::Pattern(bad) => bad.fmt(f),
        }
    }
}

impl std::error::Error for UserError {}

#[cfg(test)]
mod tests;
