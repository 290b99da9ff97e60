//! A short vigil before a thread of the runtime sleeps.
//!
//! To wake a sleeping core costs more than a call (20 µs and more in a virtual machine), and in a conversation the answer
//! comes sooner than that. So a thread without work looks at the sockets it used last for a moment, but only where that
//! pays: after sleeps that were all short, and no longer after one that was not or one vigil in vain. Whoever is busy with something
//! slower than microseconds, or with nothing, never pays for it.
//!
//! ```text
//!   no work ─► watch, at most VIGIL_MAX ─► sleep (returns at once if something came) ─► woken: how long was it?
//! ```
//!
//! On some machines a vigil only takes a core from whoever has the answer to give. So every half minute of conversation all
//! threads sleep for a moment and hold vigils for another, and go on with what let more be written: see [`Trial`].

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;

/// The longest vigil.
const VIGIL_MAX: Duration = Duration::from_micros(50);
/// The longest sleep that one could have spared: waking up is part of it.
const SHORT_SLEEP: Duration = Duration::from_micros(80);
/// So many short sleeps in a row make the next one worth a vigil.
const SHORT_SLEEPS: u32 = 16;
/// So many sockets are watched: both ends of a conversation, twice.
const WATCHED: usize = 4;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// How long either way is tried. The kernel moves threads to other cores when they begin or cease to sleep; after 20 ms that
/// had not come to rest.
const TRIED_FOR: Duration = Duration::from_millis(250);
/// How long the better one is kept, so that the worse one is not seen in a p99.
const KEPT_FOR: Duration = Duration::from_secs(30);

/// One for all threads, since they share the machine, and a conversation may wander from one to the other.
static TRIAL: Mutex<Trial> = Mutex::new(Trial::Idle);
/// Writes of all threads.
static WRITES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static VIGIL: RefCell<Vigil> = RefCell::new(Vigil::default());
}

/// To be called when a thread of the runtime is about to sleep (`on_thread_park`).
pub fn before_sleep() {
    VIGIL.with_borrow_mut(|vigil| {
        let now = Instant::now();
        vigil.since = Some(now);
        // Not only in conversations: sleeps are longer without vigils, and what is written between them counts as well.
        let new = std::mem::take(&mut vigil.writes);
        let writes = WRITES.fetch_add(new, Ordering::Relaxed) + new;
        if !vigil.habit.is_conversation() {
            return;
        }
        // Whoever finds another thread there goes on as before: nobody waits for this.
        if let Ok(mut trial) = TRIAL.try_lock() {
            vigil.pays = trial.says_watch(now, writes);
        }
        if vigil.pays && !vigil.watch() {
            vigil.habit = Habit::default();
            vigil.since = None;
        }
    });
}

/// To be called when it is awake again (`on_thread_unpark`).
pub fn after_sleep() {
    VIGIL.with_borrow_mut(|vigil| {
        if let Some(since) = vigil.since.take() {
            vigil.habit.slept(since.elapsed());
        }
    });
}

/// This thread has written to a socket: something may come from there soon.
pub(crate) fn used(socket: &Arc<TcpStream>) {
    VIGIL.with_borrow_mut(|vigil| vigil.remember(socket));
}

#[derive(Default)]
struct Vigil {
    habit: Habit,
    since: Option<Instant>,
    /// What the trial said last.
    pays: bool,
    /// Since the last sleep.
    writes: u64,
    sockets: [Weak<TcpStream>; WATCHED],
    /// The place of the one known longest.
    oldest: usize,
}

impl Vigil {
    fn remember(&mut self, socket: &Arc<TcpStream>) {
        self.writes += 1;
        if !self.sockets.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(socket))) {
            self.sockets[self.oldest] = Arc::downgrade(socket);
            self.oldest = (self.oldest + 1) % WATCHED;
        }
    }

    /// Waits until something can be read; false if nothing came in time.
    fn watch(&self) -> bool {
        let until = Instant::now() + VIGIL_MAX;
        let sockets: [Option<Arc<TcpStream>>; WATCHED] =
            std::array::from_fn(|index| self.sockets[index].upgrade());
        let mut watched: Vec<_> =
            sockets.iter().flatten().map(|socket| PollFd::new(&**socket, PollFlags::IN)).collect();
        while !watched.is_empty() && Instant::now() < until {
            match poll(&mut watched, Some(&AT_ONCE)) {
                // Who has the answer to give may be waiting for this very core.
                Ok(0) => std::thread::yield_now(),
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
        false
    }
}

/// What the last sleeps of a thread were like.
#[derive(Debug, Default)]
struct Habit {
    short_sleeps: u32,
}

impl Habit {
    fn is_conversation(&self) -> bool {
        self.short_sleeps >= SHORT_SLEEPS
    }

    /// A sleep was over so long after the thread had run out of work.
    fn slept(&mut self, duration: Duration) {
        self.short_sleeps = if duration < SHORT_SLEEP { self.short_sleeps.saturating_add(1) } else { 0 };
    }
}

/// Whether vigils pay: what was written in the same time with them and without them.
///
/// ```text
///   Idle ─► Sleeping ─► Watching ─► Decided ─► Sleeping ...
///                └──────────┴── took too long: nobody was talking
/// ```
#[derive(Debug, Clone, Copy)]
enum Trial {
    Idle,
    Sleeping(Span),
    Watching(Span, Rate),
    Decided { pays: bool, at: Instant },
}

/// Writes a second.
type Rate = f64;

/// A part of a trial: when it began, and how much had been written by then.
#[derive(Debug, Clone, Copy)]
struct Span {
    began: Instant,
    writes: u64,
}

impl Span {
    /// `None` while it goes on.
    fn end(self, now: Instant, writes: u64) -> Option<Measured> {
        let took = now - self.began;
        if took < TRIED_FOR {
            None
        } else if took < 2 * TRIED_FOR {
            Some(Measured::Rate(writes.saturating_sub(self.writes) as Rate / took.as_secs_f64()))
        } else {
            Some(Measured::Nothing)
        }
    }
}

enum Measured {
    Rate(Rate),
    Nothing,
}

impl Trial {
    /// Whether to hold a vigil, now that so much was written in all.
    fn says_watch(&mut self, now: Instant, writes: u64) -> bool {
        let span = Span { began: now, writes };
        *self = match *self {
            Trial::Idle => Trial::Sleeping(span),
            Trial::Sleeping(slept) => match slept.end(now, writes) {
                None => *self,
                Some(Measured::Rate(rate)) => Trial::Watching(span, rate),
                Some(Measured::Nothing) => Trial::Sleeping(span),
            },
            Trial::Watching(watched, sleeping) => match watched.end(now, writes) {
                None => *self,
                // A tenth more, since one of them has more by chance alone.
                Some(Measured::Rate(rate)) => Trial::Decided { pays: rate > sleeping * 1.1, at: now },
                Some(Measured::Nothing) => Trial::Sleeping(span),
            },
            Trial::Decided { at, .. } if now - at < KEPT_FOR => *self,
            Trial::Decided { .. } => Trial::Sleeping(span),
        };
        match *self {
            Trial::Watching(..) => true,
            Trial::Decided { pays, .. } => pays,
            Trial::Idle | Trial::Sleeping(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_no_socket_to_watch_nobody_holds_a_vigil() {
        let begin = Instant::now();
        let held = (0..1000).any(|_| Vigil::default().watch());
        assert!(!held && begin.elapsed() < 1000 * VIGIL_MAX, "{:?}", begin.elapsed());
    }

    #[test]
    fn only_after_short_sleeps_a_vigil_is_held() {
        let (short, long) = (SHORT_SLEEP / 2, SHORT_SLEEP * 2);
        let mut habit = Habit::default();
        let mut check = |sleep: Duration, times: u32, expected: bool| {
            (0..times).for_each(|_| habit.slept(sleep));
            assert_eq!(habit.is_conversation(), expected, "after {times} times {sleep:?}");
        };
        check(short, SHORT_SLEEPS - 1, false);
        check(short, 1, true);
        check(short, 1000, true);
        check(long, 1, false);
        check(short, SHORT_SLEEPS - 1, false);
    }

    #[test]
    fn vigils_are_held_only_where_more_is_written_with_them() {
        let check = |sleeping: u64, watching: u64, expected: bool| {
            let (mut trial, mut now, mut writes) = (Trial::Idle, Instant::now(), 0);
            let mut both = [0, 0];
            while !matches!(trial, Trial::Decided { .. }) {
                let watches = trial.says_watch(now, writes);
                both[usize::from(watches)] += 1;
                writes += if watches { watching } else { sleeping };
                now += TRIED_FOR / 20;
            }
            assert!(both.iter().all(|rounds| *rounds >= 20), "both are tried: {both:?}");
            assert_eq!(trial.says_watch(now, writes), expected, "{sleeping} and {watching} writes");
            trial.says_watch(now + KEPT_FOR, writes);
            assert!(matches!(trial, Trial::Sleeping(_)), "it is tried again: {trial:?}");
        };
        check(10, 20, true);
        check(100, 105, false);
        check(20, 10, false);
    }

    #[test]
    fn a_pause_decides_nothing() {
        let (mut trial, begin) = (Trial::Idle, Instant::now());
        trial.says_watch(begin, 0);
        trial.says_watch(begin + 3 * TRIED_FOR, 1000);
        assert!(matches!(trial, Trial::Sleeping(Span { writes: 1000, .. })), "{trial:?}");
        trial.says_watch(begin + 4 * TRIED_FOR, 2000);
        assert!(matches!(trial, Trial::Watching(..)), "{trial:?}");
        trial.says_watch(begin + 7 * TRIED_FOR, 3000);
        assert!(matches!(trial, Trial::Sleeping(_)), "{trial:?}");
    }
}
