//! Passwords as they are kept: hashed, with a salt.
//!
//! ```text
//!   $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH     new passwords (OWASP's parameters: 19 MiB, 2 passes)
//!   sha256:BASE64   sha512:BASE64   md5:BASE64   imported from RabbitMQ: 4 octets of salt, digest(salt ‖ password)
//!   (empty)                                      no password: nobody can log in with one
//! ```
//!
//! Argon2 is slow and large on purpose, so only one hash is computed at a time in the whole process: an attack
//! with wrong passwords costs one core and 19 MiB, whatever the number of connections.

use std::fmt;
use std::sync::{LazyLock, OnceLock};

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use md5::Md5;
use parking_lot::Mutex;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// OWASP's first choice for Argon2id; also what a foreign hash may not exceed eightfold.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const MAX_FACTOR: u32 = 8;

const ARGON2_SALT_BYTES: usize = 16;
const ARGON2_HASH_BYTES: usize = 32;
/// RabbitMQ's salt.
const SALT_BYTES: usize = 4;

const ALGORITHM_SHA256: &str = "rabbit_password_hashing_sha256";
const ALGORITHM_SHA512: &str = "rabbit_password_hashing_sha512";
const ALGORITHM_MD5: &str = "rabbit_password_hashing_md5";

/// Held while an Argon2 hash is computed.
static ONE_AT_A_TIME: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// A hashed password. `Debug` shows only the kind.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Absent,
    Argon2id(Argon2id),
    Sha256(Salted<32>),
    Sha512(Salted<64>),
    Md5(Salted<16>),
}

#[derive(Clone, PartialEq, Eq)]
struct Argon2id {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
struct Salted<const N: usize> {
    salt: [u8; SALT_BYTES],
    digest: [u8; N],
}

/// Why there is no hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadPassword {
    /// Empty passwords are never accepted.
    Empty,
    /// The operating system gives no random numbers for the salt.
    NoRandomness,
    /// The hash could not be computed; holds the library's reason.
    Hashing(String),
    /// An imported hash uses an algorithm that is not accepted. Holds its name.
    UnknownAlgorithm(String),
    /// An imported or stored hash is not what its algorithm makes.
    Malformed,
}

impl PasswordHash {
    /// Hashes a new password. Takes tens of milliseconds and 19 MiB: not for an I/O thread.
    ///
    /// # Errors
    /// The password is empty, or the machine has no randomness or memory.
    pub fn new(password: &[u8]) -> Result<Self, BadPassword> {
        if password.is_empty() {
            return Err(BadPassword::Empty);
        }
        let mut salt = vec![0; ARGON2_SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| BadPassword::NoRandomness)?;
        let mut made =
            Argon2id { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt, hash: Vec::new() };
        made.hash = made.compute(password, ARGON2_HASH_BYTES)?;
        Ok(Self(Kind::Argon2id(made)))
    }

    /// A cheap hash, for passwords that everyone knows anyway. Takes a microsecond.
    ///
    /// # Errors
    /// The password is empty, or the machine has no randomness.
    pub fn new_public(password: &[u8]) -> Result<Self, BadPassword> {
        if password.is_empty() {
            return Err(BadPassword::Empty);
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| BadPassword::NoRandomness)?;
        Ok(Self(Kind::Sha256(Salted { salt, digest: salted::<Sha256>(salt, password).into() })))
    }

    /// No password can be right.
    pub fn absent() -> Self {
        Self(Kind::Absent)
    }

    /// A hash from RabbitMQ's definitions: base64, and the name of its algorithm (`rabbit_password_hashing_…`;
    /// `argon2id` with a text of [`encode`](Self::encode) is accepted too). An empty hash is no password.
    ///
    /// # Errors
    /// The algorithm is not accepted, or the hash is none of its.
    pub fn import(hash: &str, algorithm: &str) -> Result<Self, BadPassword> {
        if hash.is_empty() {
            return Ok(Self::absent());
        }
        match algorithm {
            ALGORITHM_SHA256 => Self::decode(&format!("sha256:{hash}")),
            ALGORITHM_SHA512 => Self::decode(&format!("sha512:{hash}")),
            ALGORITHM_MD5 => Self::decode(&format!("md5:{hash}")),
            "argon2id" => {
                Argon2id::decode(hash).map(|hash| Self(Kind::Argon2id(hash))).ok_or(BadPassword::Malformed)
            }
            other => Err(BadPassword::UnknownAlgorithm(other.into())),
        }
    }

    /// The hash and the algorithm's name for a definitions file, as [`import`](Self::import) takes them. RabbitMQ
    /// cannot import `argon2id`.
    pub fn export(&self) -> (String, &'static str) {
        let encoded = self.encode();
        match (&self.0, encoded.split_once(':')) {
            (Kind::Argon2id(_), _) => (encoded, "argon2id"),
            (Kind::Sha512(_), Some((_, hash))) => (hash.into(), ALGORITHM_SHA512),
            (Kind::Md5(_), Some((_, hash))) => (hash.into(), ALGORITHM_MD5),
            (_, Some((_, hash))) => (hash.into(), ALGORITHM_SHA256),
            (_, None) => (String::new(), ALGORITHM_SHA256),
        }
    }

    /// The text for storage.
    pub fn encode(&self) -> String {
        match &self.0 {
            Kind::Absent => String::new(),
            Kind::Argon2id(hash) => hash.encode(),
            Kind::Sha256(hash) => format!("sha256:{}", hash.encode()),
            Kind::Sha512(hash) => format!("sha512:{}", hash.encode()),
            Kind::Md5(hash) => format!("md5:{}", hash.encode()),
        }
    }

    /// Reads the text of [`encode`](Self::encode).
    ///
    /// # Errors
    /// It is not such a text, or its parameters ask for more than eight times our own memory or time.
    pub fn decode(text: &str) -> Result<Self, BadPassword> {
        let kind = match text.split_once(':') {
            None if text.is_empty() => Some(Kind::Absent),
            None => Argon2id::decode(text).map(Kind::Argon2id),
            Some(("sha256", hash)) => Salted::decode(hash).map(Kind::Sha256),
            Some(("sha512", hash)) => Salted::decode(hash).map(Kind::Sha512),
            Some(("md5", hash)) => Salted::decode(hash).map(Kind::Md5),
            Some(_) => None,
        };
        kind.map(Self).ok_or(BadPassword::Malformed)
    }

    /// Whether this is the password. A wrong one costs an Argon2 hash whatever the kind of the hash, so that the
    /// time does not tell imported users, users without a password and unknown users apart. Not for an I/O
    /// thread.
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        let matches = match &self.0 {
            _ if password.is_empty() => false,
            Kind::Absent => false,
            Kind::Argon2id(hash) => return hash.matches(password),
            Kind::Sha256(hash) => salted::<Sha256>(hash.salt, password).ct_eq(&hash.digest).into(),
            Kind::Sha512(hash) => salted::<Sha512>(hash.salt, password).ct_eq(&hash.digest).into(),
            Kind::Md5(hash) => salted::<Md5>(hash.salt, password).ct_eq(&hash.digest).into(),
        };
        if !matches {
            refuse_slowly(user, password);
        }
        matches
    }

    /// The hash is not what a new password would get: whoever has seen the right password may hash it again.
    pub fn is_outdated(&self) -> bool {
        match &self.0 {
            Kind::Argon2id(hash) => hash.is_outdated(),
            Kind::Absent => false,
            Kind::Sha256(_) | Kind::Sha512(_) | Kind::Md5(_) => true,
        }
    }
}

/// Takes the time of a wrong password. Argon2's way through memory, and with it a percent or two of its time, follows
/// from password and salt: each user who has no such hash gets a salt too, always the same.
pub(super) fn refuse_slowly(user: &str, password: &[u8]) {
    let nobody = Argon2id {
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        lanes: LANES,
        salt: decoy_salt(user).to_vec(),
        hash: vec![0; ARGON2_HASH_BYTES],
    };
    std::hint::black_box(nobody.matches(password));
}

fn decoy_salt(user: &str) -> [u8; ARGON2_SALT_BYTES] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = [0; 32];
        getrandom::fill(&mut key).ok(); // without randomness nobody can get a password either
        key
    });
    let digest = Sha256::new().chain_update(key).chain_update(user).finalize();
    std::array::from_fn(|index| digest[index])
}

fn salted<D: Digest>(salt: [u8; SALT_BYTES], password: &[u8]) -> sha2::digest::Output<D> {
    D::new().chain_update(salt).chain_update(password).finalize()
}

impl Argon2id {
    fn compute(&self, password: &[u8], hash_bytes: usize) -> Result<Vec<u8>, BadPassword> {
        let reason = |error: argon2::Error| BadPassword::Hashing(error.to_string());
        let params =
            Params::new(self.memory_kib, self.passes, self.lanes, Some(hash_bytes)).map_err(reason)?;
        let mut hash = vec![0; hash_bytes];
        let _turn = ONE_AT_A_TIME.lock();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, &self.salt, &mut hash)
            .map_err(reason)?;
        Ok(hash)
    }

    fn matches(&self, password: &[u8]) -> bool {
        let computed = self.compute(password, self.hash.len());
        computed.is_ok_and(|hash| hash.ct_eq(&self.hash).into())
    }

    /// It costs an attacker less than what a new password gets.
    fn is_outdated(&self) -> bool {
        self.memory_kib < MEMORY_KIB || self.passes < PASSES || self.hash.len() < ARGON2_HASH_BYTES
    }

    fn encode(&self) -> String {
        let Self { memory_kib, passes, lanes, salt, hash } = self;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}")
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$m=")?.split('$');
        let mut params = parts.next()?.split(',');
        let (salt, hash) = (parts.next()?, parts.next()?);
        let decoded = Self {
            memory_kib: params.next()?.parse().ok()?,
            passes: params.next()?.strip_prefix("t=")?.parse().ok()?,
            lanes: params.next()?.strip_prefix("p=")?.parse().ok()?,
            salt: STANDARD_NO_PAD.decode(salt).ok()?,
            hash: STANDARD_NO_PAD.decode(hash).ok()?,
        };
        let is_whole = parts.next().is_none() && params.next().is_none();
        (is_whole && decoded.is_affordable()).then_some(decoded)
    }

    /// A hash comes from a file or over HTTP: it may not make a log-in take a gigabyte or a minute.
    fn is_affordable(&self) -> bool {
        self.memory_kib <= MEMORY_KIB * MAX_FACTOR
            && self.passes <= PASSES * MAX_FACTOR
            && self.lanes <= LANES * MAX_FACTOR
            && (8..=64).contains(&self.salt.len())
            && (16..=64).contains(&self.hash.len())
            && Params::new(self.memory_kib, self.passes, self.lanes, Some(self.hash.len())).is_ok()
    }
}

impl<const N: usize> Salted<N> {
    fn encode(&self) -> String {
        STANDARD.encode([&self.salt[..], &self.digest[..]].concat())
    }

    fn decode(text: &str) -> Option<Self> {
        let octets = STANDARD.decode(text).ok()?;
        let (salt, digest) = octets.split_first_chunk()?;
        Some(Self { salt: *salt, digest: digest.try_into().ok()? })
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Absent => "PasswordHash(absent)",
            Kind::Argon2id(_) => "PasswordHash(argon2id)",
            Kind::Sha256(_) => "PasswordHash(sha256)",
            Kind::Sha512(_) => "PasswordHash(sha512)",
            Kind::Md5(_) => "PasswordHash(md5)",
        })
    }
}

impl fmt::Display for BadPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the password is empty"),
            Self::NoRandomness => f.write_str("the operating system gives no random numbers"),
            Self::Hashing(reason) => write!(f, "the password could not be hashed: {reason}"),
            Self::UnknownAlgorithm(name) => write!(f, "password hashing algorithm '{name}' is not supported"),
            Self::Malformed => f.write_str("the password hash is malformed"),
        }
    }
}

impl std::error::Error for BadPassword {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by RabbitMQ 3.10.8 for the password `test12`; the last one by its rule.
    const FROM_RABBITMQ: [(&str, &str); 3] = [
        (ALGORITHM_SHA256, "mLFOUUfWvSJaZWQZAnKmqlBLckWCelXDQc+sl1ZKKm8WRL2s"),
        (
            ALGORITHM_SHA512,
            "JMLpg7akVs3e7QIKh9//fyKJMmYWx4c088xzF87rcxSARMOO6+iFsMIp64EMTUUv9uE9Z1UjqjcfQLINk8+3bXmjxjk=",
        ),
        (ALGORITHM_MD5, "AQIDBDeBuuH8ubD+6IsvjTP2It8="),
    ];

    fn check(hash: &PasswordHash, password: &str) {
        let again = PasswordHash::decode(&hash.encode()).unwrap();
        assert!(again == *hash);
        assert!(again.verify("u", password.as_bytes()));
        assert!(!again.verify("u", b"wrong") && !again.verify("u", b""));
    }

    #[test]
    fn new_passwords_are_argon2id() {
        let hash = PasswordHash::new(b"secret").unwrap();
        assert!(hash.encode().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(!hash.is_outdated());
        check(&hash, "secret");
        assert!(PasswordHash::new(b"secret").unwrap() != hash, "the salt is random");
        assert_eq!(PasswordHash::new(b""), Err(BadPassword::Empty));
    }

    #[test]
    fn hashes_made_by_rabbitmq_are_accepted() {
        for (algorithm, text) in FROM_RABBITMQ {
            let hash = PasswordHash::import(text, algorithm).unwrap();
            check(&hash, "test12");
            assert!(hash.is_outdated());
            assert_eq!(hash.export(), (text.to_string(), algorithm));
        }
    }

    #[test]
    fn without_a_password_none_is_right() {
        let absent = PasswordHash::import("", ALGORITHM_SHA256).unwrap();
        assert_eq!(absent, PasswordHash::decode("").unwrap());
        assert!(!absent.verify("u", b"") && !absent.verify("u", b"x"));
    }

    #[test]
    fn users_that_do_not_exist_have_a_salt_each() {
        assert_eq!(decoy_salt("knows"), decoy_salt("knows"));
        assert_ne!(decoy_salt("knows"), decoy_salt("known"));
    }

    #[test]
    fn exports_can_be_imported() {
        let public = PasswordHash::new_public(b"guest").unwrap();
        check(&public, "guest");
        for hash in [public, PasswordHash::absent(), PasswordHash::new(b"x").unwrap()] {
            let (text, algorithm) = hash.export();
            assert!(PasswordHash::import(&text, algorithm).unwrap() == hash);
        }
    }

    #[test]
    fn strange_hashes_are_refused() {
        let argon2 =
            |params: &str| format!("$argon2id$v=19${params}$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA");
        assert!(PasswordHash::decode(&argon2("m=19456,t=2,p=1")).is_ok());
        for text in [
            argon2("m=4294967295,t=2,p=1"),
            argon2("m=19456,t=1000,p=1"),
            argon2("m=19456,t=2,p=64"),
            argon2("m=0,t=2,p=1"),
            argon2("m=19456,t=2"),
            argon2("m=19456,t=2,p=1,x=1"),
            argon2("m=19456,t=2,p=1") + "$",
            "$argon2id$v=19$m=19456,t=2,p=1$AA$AAAAAAAAAAAAAAAAAAAAAA".into(),
            "$2b$12$xxxx".into(),
            "sha256:".into(),
            "sha256:AAAA".into(),
            "sha256:mLFOUUfWvSJaZWQZAnKmqlBLckWCelXDQc+sl1ZKKm8WRL2sAA==".into(),
            "md5:AAAA".into(),
            "bcrypt:AAAA".into(),
            "plain".into(),
        ] {
            assert_eq!(PasswordHash::decode(&text), Err(BadPassword::Malformed), "{text}");
        }
        let foreign = PasswordHash::import("AAAA", "rabbit_password_hashing_bcrypt");
        assert_eq!(foreign, Err(BadPassword::UnknownAlgorithm("rabbit_password_hashing_bcrypt".into())));
    }

    #[test]
    fn debug_shows_no_hash() {
        assert_eq!(format!("{:?}", PasswordHash::new_public(b"x").unwrap()), "PasswordHash(sha256)");
    }

    proptest! {
        #[test]
        fn no_stored_text_is_too_strange(
            prefix in "(sha256:|sha512:|\\$argon2id\\$v=19\\$m=)?",
            rest in "([0-9,=tp$A-Za-z+/]{0,60}|.{0,20})",
        ) {
            if let Ok(hash) = PasswordHash::decode(&(prefix + &rest)) {
                prop_assert!(PasswordHash::decode(&hash.encode()).unwrap() == hash);
            }
        }
    }
}
