//! When publishers have to wait: memory or disk run short.
//!
//! The watchdog looks whenever so much traffic has passed, and keeps looking only while an alarm is on: an idle
//! broker has no timer. An alarm goes on at the mark and off some way below it, and that of the disk only when there has been
//! room for a while: so they do not flutter.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use leveret_store::Disk;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::config::Watermarks;

const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// An alarm ends when usage is this share of the mark (RabbitMQ flutters at the mark itself).
const CLEAR_SHARE: f64 = 0.9;
/// So long there has to be room on the disk. What the log gives back in one piece somebody else may take at once.
const ROOM_FOR: Duration = Duration::from_millis(400);

/// Asks the log to let go of what nobody needs any more.
type MakeRoom = Box<dyn Fn() + Send + Sync>;

/// Looks at memory and disk.
pub(crate) struct Watchdog {
    state: Mutex<State>,
    wake: Condvar,
    alarm: watch::Sender<Option<&'static str>>,
    make_room: OnceLock<MakeRoom>,
    disk: Arc<dyn Disk>,
    log_file_bytes: u64,
}

struct State {
    marks: Marks,
    look: bool,
    stop: bool,
    /// The log itself found no room.
    disk_full: bool,
    /// Since when every look has found room on the disk.
    room_since: Option<Instant>,
    low: Alarms,
}

impl State {
    /// Whether the alarm of the disk is on, after a look that found room or none.
    fn judge_disk(&mut self, has_room: bool, now: Instant) -> bool {
        if !has_room {
            self.room_since = None;
            return true;
        }
        let since = *self.room_since.get_or_insert(now);
        self.low.disk && now.saturating_duration_since(since) < ROOM_FOR
    }
}

/// [`Watermarks`] on this machine.
#[derive(Clone, Copy)]
struct Marks {
    memory_limit_bytes: u64,
    disk_free_bytes: u64,
}

impl Marks {
    fn of(watermarks: Watermarks, log_file_bytes: u64) -> Self {
        Self {
            memory_limit_bytes: (usable_memory_bytes() as f64 * watermarks.memory_share) as u64,
            // Room for the next log file and for what settling the current ones writes.
            disk_free_bytes: watermarks.disk_free_bytes.unwrap_or(2 * log_file_bytes),
        }
    }
}

/// The alarms in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// The process takes more memory than it may.
    pub memory: bool,
    /// The disk of the data directory is nearly full.
    pub disk: bool,
}

impl Alarms {
    /// Why publishers are blocked, in RabbitMQ's words; `None`: they are not.
    pub fn reason(self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (false, false) => None,
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (true, true) => Some("low on memory & disk"),
        }
    }
}

impl Watchdog {
    /// How much input passes between two looks.
    pub(crate) const EVERY_BYTES: u64 = 8 << 20;

    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        watermarks: Watermarks,
        log_file_bytes: u64,
        alarm: watch::Sender<Option<&'static str>>,
    ) -> Arc<Self> {
        let marks = Marks::of(watermarks, log_file_bytes);
        let low = Alarms::default();
        let state = State { marks, look: false, stop: false, disk_full: false, room_since: None, low };
        Arc::new(Self {
            state: Mutex::new(state),
            wake: Condvar::new(),
            alarm,
            make_room: OnceLock::new(),
            disk,
            log_file_bytes,
        })
    }

    /// Goes by other marks from now on.
    pub(crate) fn change_marks(&self, watermarks: Watermarks) {
        let marks = Marks::of(watermarks, self.log_file_bytes);
        let mut state = self.state.lock();
        state.marks = marks;
        state.look = true;
        self.wake.notify_one();
    }

    /// The alarms in force.
    pub(crate) fn alarms(&self) -> Alarms {
        self.state.lock().low
    }

    /// Octets of memory that the process may take.
    pub(crate) fn memory_limit_bytes(&self) -> u64 {
        self.state.lock().marks.memory_limit_bytes
    }

    /// Octets that must stay free on the disk.
    pub(crate) fn disk_free_limit_bytes(&self) -> u64 {
        self.state.lock().marks.disk_free_bytes
    }

    /// Sets what is called again and again while the disk is low. Files of messages that are over only go with the
    /// log file that says so, and while publishers are blocked no log file would ever become full.
    pub(crate) fn on_low_disk(&self, make_room: impl Fn() + Send + Sync + 'static) {
        let _first = self.make_room.set(Box::new(make_room));
    }

    /// Asks for a look.
    pub(crate) fn look(&self) {
        self.state.lock().look = true;
        self.wake.notify_one();
    }

    /// The log found no room, or found it again.
    pub(crate) fn disk_full(&self, full: bool) {
        let mut state = self.state.lock();
        if state.disk_full != full {
            state.disk_full = full;
            state.look = true;
            self.wake.notify_one();
        }
    }

    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let watchdog = self.clone();
        std::thread::Builder::new().name("watchdog".into()).spawn(move || watchdog.run())
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.wake.notify_one();
    }

    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stop {
            let mut low = self.measure(&state);
            low.disk = state.judge_disk(!low.disk, Instant::now());
            if low != state.low {
                state.low = low;
                announce(low);
                self.alarm.send_replace(low.reason());
            }
            if let (true, Some(make_room)) = (low.disk, self.make_room.get()) {
                make_room();
            }
            if low.reason().is_some() {
                self.wake.wait_for(&mut state, LOOK_AGAIN);
            } else if !state.look {
                self.wake.wait(&mut state);
            }
            state.look = false;
        }
    }

    fn measure(&self, &State { marks, low: before, disk_full, .. }: &State) -> Alarms {
        let memory_mark = marks.memory_limit_bytes as f64 * if before.memory { CLEAR_SHARE } else { 1.0 };
        let disk_mark = marks.disk_free_bytes as f64 / if before.disk { CLEAR_SHARE } else { 1.0 };
        let free = self.disk.free_bytes().unwrap_or(u64::MAX);
        Alarms {
            memory: resident_bytes().is_some_and(|used| used as f64 > memory_mark),
            disk: disk_full || (free as f64) < disk_mark,
        }
    }
}

fn announce(low: Alarms) {
    match low.reason() {
        Some(reason) => tracing::warn!(reason, "publishers are blocked; consumers go on"),
        None => tracing::info!("publishers are no longer blocked"),
    }
}

/// The memory of this process, from the kernel.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The machine's memory or the control group's limit, whichever is less (cgroup v2, then v1).
fn usable_memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| meminfo_total_bytes(&text));
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.chain(machine).min().unwrap_or(u64::MAX)
}

fn meminfo_total_bytes(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_how_much_memory_it_has() {
        assert_eq!(meminfo_total_bytes("MemTotal:       24000 kB\nMemFree: 1 kB\n"), Some(24_000 * 1024));
        assert_eq!(meminfo_total_bytes("garbage"), None);
        assert!(usable_memory_bytes() > 0 && resident_bytes().is_some_and(|used| used > 0));
    }

    /// Twice in 200 disks that a foreign file kept full, the alarm ended for a moment.
    #[test]
    fn room_that_somebody_takes_at_once_does_not_end_the_alarm() {
        let marks = Marks { memory_limit_bytes: 0, disk_free_bytes: 0 };
        let low = Alarms::default();
        let mut state = State { marks, look: false, stop: false, disk_full: false, room_since: None, low };
        let begin = Instant::now();
        let looks = [
            (0, true, false),
            (100, false, true),
            (200, true, true),
            (300, false, true),
            (400, true, true),
            (799, true, true),
            (800, true, false),
            (801, true, false),
        ];
        for (ms, has_room, is_low) in looks {
            state.low.disk = state.judge_disk(has_room, begin + Duration::from_millis(ms));
            assert_eq!(state.low.disk, is_low, "at {ms} ms");
        }
    }

    #[test]
    fn reasons_are_rabbitmqs() {
        let check = |memory, disk, expected| assert_eq!(Alarms { memory, disk }.reason(), expected);
        check(false, false, None);
        check(true, false, Some("low on memory"));
        check(false, true, Some("low on disk"));
        check(true, true, Some("low on memory & disk"));
    }
}
