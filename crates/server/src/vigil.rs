//! A short vigil before a thread of the runtime sleeps.
//!
//! To wake a sleeping core costs more than a call (20 µs and more in a virtual machine), and in a conversation the answer
//! comes sooner than that. So a thread without work looks at the sockets it used last for a moment, but only where that has
//! paid: after sleeps that were all short, and no longer after one that was not or one vigil in vain. Whoever is busy with something
//! slower than microseconds, or with nothing, never pays for it.
//!
//! ```text
//!   no work ─► watch, at most VIGIL_MAX ─► sleep (returns at once if something came) ─► woken: how long was it?
//! ```

use std::cell::RefCell;
use std::sync::{Arc, Weak};
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

thread_local! {
    static VIGIL: RefCell<Vigil> = RefCell::new(Vigil::default());
}

/// To be called when a thread of the runtime is about to sleep (`on_thread_park`).
pub fn before_sleep() {
    VIGIL.with_borrow_mut(|vigil| {
        vigil.since = Some(Instant::now());
        if vigil.habit.is_worth_it() && !vigil.watch() {
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
    sockets: [Weak<TcpStream>; WATCHED],
    /// The place of the one known longest.
    oldest: usize,
}

impl Vigil {
    fn remember(&mut self, socket: &Arc<TcpStream>) {
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
    fn is_worth_it(&self) -> bool {
        self.short_sleeps >= SHORT_SLEEPS
    }

    /// A sleep was over so long after the thread had run out of work.
    fn slept(&mut self, duration: Duration) {
        self.short_sleeps = if duration < SHORT_SLEEP { self.short_sleeps.saturating_add(1) } else { 0 };
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
            assert_eq!(habit.is_worth_it(), expected, "after {times} times {sleep:?}");
        };
        check(short, SHORT_SLEEPS - 1, false);
        check(short, 1, true);
        check(short, 1000, true);
        check(long, 1, false);
        check(short, SHORT_SLEEPS - 1, false);
    }
}
