//! Who has tried to log in: counted for operators, and the reason why somebody who guesses is refused unheard.
//!
//! ```text
//!   a wrong password ─► window of this user from this source     (`Limits::login_failures_max` a minute)
//!                   └─► window of this source, whatever the user (ten times as many)
//! ```
//!
//! A right password that was used before goes through without being asked here, so that nobody can lock others out
//! who share an address. The table has a fixed size; the row that was used longest ago makes room.

use std::net::IpAddr;

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Rows, and sources, that are remembered.
pub const ATTEMPTS_MAX: usize = 4096;
/// How long a wrong password counts, ms.
pub const WINDOW_MS: u64 = 60_000;
/// A source may guess this many times as often as one user's password may be guessed from it.
const USERS_PER_SOURCE: u32 = 10;
/// Longer names are no user's.
const NAME_MAX_BYTES: usize = 255;

/// What somebody logs in to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// AMQP 0-9-1.
    Amqp,
    /// The HTTP API.
    Http,
}

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was right.
    Succeeded,
    /// It was wrong.
    Failed,
    /// It was refused unheard; this never makes a window longer.
    Unheard,
}

/// What was tried at one door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Logins.
    pub succeeded: u64,
    /// Wrong ones, and those refused unheard.
    pub failed: u64,
}

/// What one user, or somebody who says so, has tried from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptsOf {
    /// The address; of IPv6 the network. `None`: within this process.
    pub source: Option<IpAddr>,
    /// The name given.
    pub user: String,
    /// To what.
    pub door: Door,
    /// How often.
    pub tries: Tries,
}

/// All attempts since the start, or since they were [cleared](Self::clear).
#[derive(Debug, Default)]
pub struct Attempts(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    totals: PerDoor,
    rows: HashMap<Name, Row>,
    sources: HashMap<Option<IpAddr>, Failures>,
}

/// From where, and as whom.
type Name = (Option<IpAddr>, String);

#[derive(Clone, Copy, Debug, Default)]
struct PerDoor([Tries; 2]);

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    tries: PerDoor,
    failures: Failures,
    used_at_ms: u64,
}

/// Wrong passwords since the first one, at most a window ago.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    since_ms: u64,
    count: u32,
}

impl Attempts {
    /// Whether too many passwords were wrong for another one to be looked at. `failures_max` is for one user in a
    /// window of a minute; 0: any number.
    pub fn are_too_many(&self, source: Option<IpAddr>, user: &str, failures_max: u32, now_ms: u64) -> bool {
        if failures_max == 0 {
            return false;
        }
        let table = self.0.lock();
        let of_source = table.sources.get(&source).map_or(0, |failures| failures.count(now_ms));
        let of_user = table.rows.get(&name(source, user)).map_or(0, |row| row.failures.count(now_ms));
        of_user >= failures_max || of_source >= failures_max.saturating_mul(USERS_PER_SOURCE)
    }

    /// Whether a wrong password has come from there lately.
    pub fn has_failed(&self, source: Option<IpAddr>, now_ms: u64) -> bool {
        self.0.lock().sources.get(&source).is_some_and(|failures| failures.count(now_ms) > 0)
    }

    /// Notes how a login ended.
    pub fn note(&self, source: Option<IpAddr>, user: &str, door: Door, outcome: Outcome, now_ms: u64) {
        let mut table = self.0.lock();
        table.totals.add(door, outcome);
        if outcome == Outcome::Failed {
            table.source(source, now_ms).add(now_ms);
        }
        let name = name(source, user);
        let Some(row) = table.row(name, outcome, now_ms) else { return };
        row.used_at_ms = now_ms;
        row.tries.add(door, outcome);
        if outcome == Outcome::Failed {
            row.failures.add(now_ms);
        }
    }

    /// Everything that was tried at a door.
    pub fn total(&self, door: Door) -> Tries {
        self.0.lock().totals.0[door as usize]
    }

    /// By source and user, at most [`ATTEMPTS_MAX`] of each door, in their order.
    pub fn list(&self) -> Vec<AttemptsOf> {
        let table = self.0.lock();
        let doors = |((source, user), row): (&Name, &Row)| {
            let tries = row.tries;
            let of = |door| AttemptsOf {
                source: *source,
                user: user.clone(),
                door,
                tries: tries.0[door as usize],
            };
            [of(Door::Amqp), of(Door::Http)]
        };
        let mut all: Vec<_> = table.rows.iter().flat_map(doors).collect();
        drop(table);
        all.retain(|one| one.tries != Tries::default());
        all.sort_by(|a, b| (a.source, &a.user).cmp(&(b.source, &b.user)));
        all
    }

    /// Counts anew. Who was refused unheard before still is.
    pub fn clear(&self) {
        let mut table = self.0.lock();
        table.totals = PerDoor::default();
        table.rows.values_mut().for_each(|row| row.tries = PerDoor::default());
    }
}

impl Table {
    /// Somebody who is refused unheard gets no row: nobody else shall lose one to him.
    fn row(&mut self, name: Name, outcome: Outcome, now_ms: u64) -> Option<&mut Row> {
        if !self.rows.contains_key(&name) {
            if outcome == Outcome::Unheard {
                return None;
            }
            if self.rows.len() >= ATTEMPTS_MAX {
                let oldest = self.rows.iter().min_by_key(|(_, row)| row.used_at_ms);
                let oldest = oldest.map(|(name, _)| name.clone());
                oldest.map(|name| self.rows.remove(&name));
            }
        }
        let fresh = Row { used_at_ms: now_ms, ..Row::default() };
        Some(self.rows.entry(name).or_insert(fresh))
    }

    fn source(&mut self, source: Option<IpAddr>, now_ms: u64) -> &mut Failures {
        if !self.sources.contains_key(&source) && self.sources.len() >= ATTEMPTS_MAX {
            self.sources.retain(|_, failures| failures.count(now_ms) > 0);
        }
        if !self.sources.contains_key(&source) && self.sources.len() >= ATTEMPTS_MAX {
            let oldest = self.sources.iter().min_by_key(|(_, failures)| failures.since_ms);
            let oldest = oldest.map(|(source, _)| *source);
            oldest.map(|source| self.sources.remove(&source));
        }
        self.sources.entry(source).or_default()
    }
}

impl PerDoor {
    fn add(&mut self, door: Door, outcome: Outcome) {
        let tries = &mut self.0[door as usize];
        match outcome {
            Outcome::Succeeded => tries.succeeded += 1,
            Outcome::Failed | Outcome::Unheard => tries.failed += 1,
        }
    }
}

impl Failures {
    fn count(&self, now_ms: u64) -> u32 {
        if now_ms.saturating_sub(self.since_ms) < WINDOW_MS { self.count } else { 0 }
    }

    fn add(&mut self, now_ms: u64) {
        let count = self.count(now_ms);
        let since_ms = if count == 0 { now_ms } else { self.since_ms };
        *self = Self { since_ms, count: count.saturating_add(1) };
    }
}

impl Door {
    /// RabbitMQ's word for it.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::Amqp => "amqp091",
            Self::Http => "http",
        }
    }
}

fn name(source: Option<IpAddr>, user: &str) -> Name {
    (source, user[..user.floor_char_boundary(NAME_MAX_BYTES)].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = 3;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    fn fail(attempts: &Attempts, last: u8, user: &str, now_ms: u64) {
        attempts.note(address(last), user, Door::Amqp, Outcome::Failed, now_ms);
    }

    #[test]
    fn who_guesses_too_often_is_not_heard_for_the_rest_of_the_window() {
        let attempts = Attempts::default();
        let check = |last: u8, user: &str, now_ms: u64, expected: bool| {
            assert_eq!(attempts.are_too_many(address(last), user, MAX, now_ms), expected, "{last} {user}");
        };
        (0..MAX).for_each(|_| fail(&attempts, 1, "u", 1_000));
        check(1, "u", 1_000, true);
        check(1, "other", 1_000, false);
        check(2, "u", 1_000, false);
        attempts.note(address(1), "u", Door::Amqp, Outcome::Unheard, 60_000);
        attempts.note(address(1), "u", Door::Amqp, Outcome::Succeeded, 60_000);
        check(1, "u", 60_999, true);
        check(1, "u", 61_000, false);
        assert!(!attempts.are_too_many(address(1), "u", 0, 1_000), "no limit");
        assert!(attempts.has_failed(address(1), 60_999) && !attempts.has_failed(address(2), 60_999));
        assert!(!attempts.has_failed(address(1), 61_000), "forgotten");
    }

    #[test]
    fn changing_the_name_does_not_help() {
        let attempts = Attempts::default();
        (0..MAX * USERS_PER_SOURCE).for_each(|user| fail(&attempts, 1, &user.to_string(), 5));
        assert!(attempts.are_too_many(address(1), "new", MAX, 5));
        assert!(!attempts.are_too_many(address(2), "new", MAX, 5));
    }

    #[test]
    fn attempts_are_counted_by_door_source_and_user() {
        let attempts = Attempts::default();
        fail(&attempts, 1, "u", 1);
        attempts.note(address(1), "u", Door::Http, Outcome::Succeeded, 1);
        attempts.note(address(1), "u", Door::Http, Outcome::Unheard, 1);
        attempts.note(address(2), "x", Door::Http, Outcome::Unheard, 1);
        assert_eq!(attempts.total(Door::Amqp), Tries { succeeded: 0, failed: 1 });
        assert_eq!(attempts.total(Door::Http), Tries { succeeded: 1, failed: 2 });
        let list = attempts.list();
        assert_eq!(list.len(), 2, "{list:?}");
        assert_eq!((list[1].door, list[1].tries), (Door::Http, Tries { succeeded: 1, failed: 1 }));
        attempts.clear();
        assert!(attempts.list().is_empty());
    }

    #[test]
    fn the_table_never_grows_beyond_its_size() {
        let attempts = Attempts::default();
        fail(&attempts, 1, "first", 0);
        for n in 0..ATTEMPTS_MAX as u32 + 10 {
            let source = Some(IpAddr::from((1 << 24 | n).to_be_bytes()));
            attempts.note(source, &"n".repeat(1000), Door::Amqp, Outcome::Failed, 1 + u64::from(n));
        }
        let table = attempts.0.lock();
        assert_eq!((table.rows.len(), table.sources.len()), (ATTEMPTS_MAX, ATTEMPTS_MAX));
        assert!(!table.rows.contains_key(&name(address(1), "first")), "the oldest makes room");
        assert!(table.rows.keys().all(|(_, user)| user.len() == NAME_MAX_BYTES));
    }
}
