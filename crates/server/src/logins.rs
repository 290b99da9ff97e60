//! The gate that every login goes through, at whatever door.
//!
//! ```text
//!   remembered as right? ─ yes ─────────────────────────────────────────► in
//!          └─ no ─► too many wrong ones from there? ─ yes ─► wait, refused unheard
//!                          └─ no ─► wrong ones before? ─ yes ─► the line of suspects
//!                                          └─ no ──────────────────┴─► take a turn ─► slow hash ─► in, or refused
//! ```
//!
//! Passwords are hashed one at a time, so an attack costs one core and one hash's memory, and of that core only what
//! messages leave of it. Whoever was let in before does not stand in line; who comes from where no wrong password has come
//! from waits for one suspect at most.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use leveret_broker::attempts::{Door, Outcome};
use leveret_broker::users::{LoginRefused, User};
use leveret_broker::{Broker, Refusal};
use leveret_wire::sasl::Credentials;
use tokio::sync::{Semaphore, oneshot};

use crate::committer::Committer;
use crate::network::source_of;
use crate::shared::now_us;

/// Passwords hashed at a time: a login attack may take one core, not all.
const AT_ONCE: usize = 1;
/// Suspects who may stand in line with the others.
const SUSPECTS_AT_ONCE: usize = 1;
/// Of the threads that hash; 0 is everybody else's, 19 the least urgent. With 8 a busy core is shared one to six: messages lose
/// little, and who logs in still gets there.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 8;
/// How long somebody waits who is refused unheard.
const UNHEARD_DELAY: Duration = Duration::from_secs(1);

/// Who wants to log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    /// Where.
    pub(crate) door: Door,
    /// From where; `None`: within this process.
    pub(crate) address: Option<IpAddr>,
    /// It is on this machine, as far as can be known.
    pub(crate) is_loopback: bool,
}

/// Who somebody says to be, and how that is shown.
#[derive(Debug)]
pub(crate) enum Claim {
    /// By a password.
    Password {
        /// The name and the password.
        credentials: Credentials,
        /// How they came, for the refusal.
        mechanism: String,
    },
    /// By a certificate that was verified.
    Certificate {
        /// The user it names.
        user: String,
    },
}

/// The gate.
pub(crate) struct Logins {
    broker: Arc<Broker>,
    committer: Arc<Committer>,
    turns: Semaphore,
    suspects: Semaphore,
}

impl Logins {
    pub(crate) fn new(broker: Arc<Broker>, committer: Arc<Committer>) -> Self {
        let (turns, suspects) = (Semaphore::new(AT_ONCE), Semaphore::new(SUSPECTS_AT_ONCE));
        Self { broker, committer, turns, suspects }
    }

    /// Lets somebody in, or not, without holding up other connections.
    ///
    /// # Errors
    /// 403 with a text that does not say why; the log does.
    pub(crate) async fn check(&self, claim: Claim, visitor: Visitor) -> Result<Arc<User>, Refusal> {
        match claim {
            Claim::Password { credentials, mechanism } => {
                let name = credentials.user.clone();
                let checked = self.check_password(credentials, visitor).await;
                self.conclude(&name, &mechanism, visitor, checked)
            }
            Claim::Certificate { user } => {
                let admitted = self.broker.users.admit(&user, visitor.is_loopback);
                self.conclude(&user, "EXTERNAL", visitor, admitted)
            }
        }
    }

    async fn check_password(
        &self,
        credentials: Credentials,
        visitor: Visitor,
    ) -> Result<Arc<User>, LoginRefused> {
        let (name, password) = (&credentials.user, credentials.password.expose());
        let users = &self.broker.users;
        if let Some(answer) = users.authenticate_quickly(name, password, visitor.is_loopback) {
            return answer;
        }
        if self.refuses_unheard(name, visitor) {
            tokio::time::sleep(UNHEARD_DELAY).await;
            return Err(LoginRefused::TooManyFailures);
        }
        let _suspect = if self.is_suspect(visitor) { Some(self.suspects.acquire().await) } else { None };
        let _turn = self.turns.acquire().await;
        // Those before in the line may have been wrong from there too.
        if self.refuses_unheard(name, visitor) {
            return Err(LoginRefused::TooManyFailures);
        }
        let outcome = self.hash(credentials, visitor).await;
        self.committer.notice(); // a new hash may have been logged
        outcome
    }

    async fn hash(&self, credentials: Credentials, visitor: Visitor) -> Result<Arc<User>, LoginRefused> {
        let broker = self.broker.clone();
        let (done, outcome) = oneshot::channel();
        let hash = move || {
            yield_to_others();
            let (name, password) = (&credentials.user, credentials.password.expose());
            let outcome = broker.login(name, password, visitor.is_loopback);
            drop(broker); // a broker that is stopped meanwhile does not wait for this thread
            done.send(outcome).ok(); // whoever asked may have hung up
        };
        let thread = std::thread::Builder::new().name("password".into()).spawn(hash);
        thread.map_err(|_| LoginRefused::Unable)?;
        outcome.await.unwrap_or(Err(LoginRefused::Unable))
    }

    fn is_suspect(&self, visitor: Visitor) -> bool {
        let source = visitor.address.map(source_of);
        self.broker.attempts.has_failed(source, now_us() / 1000)
    }

    fn refuses_unheard(&self, name: &str, visitor: Visitor) -> bool {
        let failures_max = self.broker.limits.login_failures_max;
        let source = visitor.address.map(source_of);
        self.broker.attempts.are_too_many(source, name, failures_max, now_us() / 1000)
    }

    /// Notes the outcome. The log says why; the client only hears that it was refused.
    fn conclude(
        &self,
        name: &str,
        mechanism: &str,
        visitor: Visitor,
        outcome: Result<Arc<User>, LoginRefused>,
    ) -> Result<Arc<User>, Refusal> {
        let noted = match outcome {
            Ok(_) => Outcome::Succeeded,
            Err(LoginRefused::TooManyFailures) => Outcome::Unheard,
            Err(_) => Outcome::Failed,
        };
        let Visitor { door, address, .. } = visitor;
        self.broker.attempts.note(address.map(source_of), name, door, noted, now_us() / 1000);
        outcome.map_err(|refused| {
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            tracing::warn!(%refused, user = name, address, door = door.protocol(), "login refused");
            Refusal::access(LoginRefused::reply_text(mechanism))
        })
    }
}

/// A thread of its own for each hash: who has become nice cannot take it back.
#[cfg(target_os = "linux")]
fn yield_to_others() {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "passwords are hashed as urgently as everything else");
    }
}

/// Elsewhere it is the process that is nice.
#[cfg(not(target_os = "linux"))]
fn yield_to_others() {}
