//! The system's allocator, and how much of it a broker in the same process has: a test that makes [`Counted`] its global
//! allocator can say what a connection costs. The threads that play clients say so, and do not count.

#![allow(unsafe_code)] // an allocator is

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

/// Octets allocated by threads that play no client, and the most there were.
static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static IS_CLIENT: Cell<bool> = const { Cell::new(false) };
}

/// What this thread allocates and frees is not the broker's from now on.
pub fn play_client() {
    IS_CLIENT.set(true);
}

/// Octets that the broker has.
pub fn live_bytes() -> isize {
    LIVE.load(Ordering::Relaxed)
}

/// How many octets more than at its begin the broker had at the worst moment of `work`.
pub fn peak_bytes_of(work: impl FnOnce()) -> isize {
    let before = live_bytes();
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

/// The global allocator of a test that counts.
#[derive(Debug)]
pub struct Counted;

// SAFETY: everything is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

fn count(bytes: isize) {
    if IS_CLIENT.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}
