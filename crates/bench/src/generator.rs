//! Whether the load generator was itself at its limit: a thread of it that had no time to spare, or that waited for a
//! core, is what was measured, not the broker.

use std::collections::BTreeMap;
use std::time::Instant;

/// Shares of the time that the busiest thread of the load was running, or ready to run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busy {
    /// On a core, 0 to 1.
    pub on_cpu: f64,
    /// Ready, but no core was free, 0 to 1.
    pub waiting: f64,
}

/// From this share on there was nothing to spare.
const LIMIT: f64 = 0.9;

impl Busy {
    /// On a core or waiting for one, 0 to 1.
    pub fn ready(&self) -> f64 {
        self.on_cpu + self.waiting
    }

    /// What to tell whoever reads the numbers; None if the generator had time to spare.
    pub fn warning(&self) -> Option<&'static str> {
        if self.on_cpu > LIMIT {
            return Some(
                "a thread of the load generator was at its limit: the broker may be faster than this",
            );
        }
        if self.ready() > LIMIT {
            return Some("a thread of the load generator waited for a core: the machine was at its limit");
        }
        None
    }
}

/// Watches threads of this process.
#[derive(Default)]
pub(crate) struct Generator {
    threads: BTreeMap<u32, Watched>,
}

struct Watched {
    first: Spent,
    last: Spent,
}

#[derive(Clone, Copy)]
struct Spent {
    at: Instant,
    running_ns: f64,
    waiting_ns: f64,
}

impl Generator {
    /// Reads the kernel's clocks; a thread that has ended keeps what was read last.
    pub(crate) fn look(&mut self, threads: &[u32]) {
        for thread in threads {
            if let Some(spent) = Spent::read(*thread) {
                self.threads.entry(*thread).or_insert(Watched { first: spent, last: spent }).last = spent;
            }
        }
    }

    pub(crate) fn busiest(&self) -> Busy {
        let most = self.threads.values().map(Watched::busy);
        let most = most.max_by(|one, other| one.ready().total_cmp(&other.ready()));
        most.unwrap_or_default()
    }
}

impl Watched {
    fn busy(&self) -> Busy {
        let passed_ns = (self.last.at - self.first.at).as_nanos() as f64;
        if passed_ns == 0.0 {
            return Busy::default();
        }
        Busy {
            on_cpu: (self.last.running_ns - self.first.running_ns) / passed_ns,
            waiting: (self.last.waiting_ns - self.first.waiting_ns) / passed_ns,
        }
    }
}

impl Spent {
    /// None where the kernel does not say, or the thread has ended.
    fn read(thread: u32) -> Option<Spent> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
        let mut numbers = text.split_whitespace().filter_map(|number| number.parse().ok());
        Some(Spent { at: Instant::now(), running_ns: numbers.next()?, waiting_ns: numbers.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told() {
        let check = |on_cpu, waiting, words: &str| {
            let said = Busy { on_cpu, waiting }.warning().unwrap_or_default();
            assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{said}");
        };
        check(0.5, 0.1, "");
        check(0.95, 0.0, "generator was at its limit");
        check(0.6, 0.35, "waited for a core");
    }

    #[test]
    fn a_spinning_thread_is_seen() {
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let mut generator = Generator::default();
        generator.look(&[thread, u32::MAX]);
        let begin = Instant::now();
        while begin.elapsed().as_millis() < 30 {}
        generator.look(&[thread]);
        assert!(generator.busiest().on_cpu > 0.05, "{:?}", generator.busiest());
    }
}
