//! Empty buffers for output, kept by each thread: a connection has one while octets of it are on their way to the socket,
//! and none while it is idle, however busy it was before.

use std::cell::RefCell;

/// Buffers that a thread keeps: enough for the connections that one batch writes to.
const KEPT_MAX: usize = 32;
/// Larger ones are given back to the allocator.
const KEPT_MAX_BYTES: usize = 64 << 10;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, with room in it if the thread has such a one.
pub(crate) fn take() -> Vec<u8> {
    // A thread that is ending has none.
    KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// Keeps a buffer for whoever is next.
pub(crate) fn put_back(mut buffer: Vec<u8>) {
    if !(1..=KEPT_MAX_BYTES).contains(&buffer.capacity()) {
        return;
    }
    buffer.clear();
    let keep = |kept: &RefCell<Vec<_>>| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    };
    let _a_thread_that_is_ending_keeps_none = KEPT.try_with(keep);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_with_its_room() {
        put_back(Vec::new());
        assert_eq!(take().capacity(), 0, "nothing to keep");
        put_back(vec![1; 1000]);
        let again = take();
        assert!(again.is_empty() && again.capacity() >= 1000);
        assert_eq!(take().capacity(), 0, "each has one owner");
    }

    #[test]
    fn neither_large_ones_nor_too_many_are_kept() {
        put_back(vec![1; KEPT_MAX_BYTES + 1]);
        assert_eq!(take().capacity(), 0);
        (0..2 * KEPT_MAX).for_each(|_| put_back(vec![1; 10]));
        assert_eq!((0..2 * KEPT_MAX).filter(|_| take().capacity() > 0).count(), KEPT_MAX);
    }
}
