//! Empty buffers for output, kept by each thread: a connection has one while octets of it are on their way to the socket,
//! and none while it is idle, however busy it was before.

use std::cell::RefCell;

/// Buffers that a thread keeps: enough for the connections that one batch writes to.
const KEPT_MAX: usize = 32;
/// Room that a thread keeps in all of them.
const ROOM_MAX_BYTES: usize = 1 << 20;
/// Larger ones are given back to the allocator. What one read of small messages becomes fits.
const ONE_MAX_BYTES: usize = 512 << 10;

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { buffers: Vec::new(), room_bytes: 0 }) };
}

struct Kept {
    buffers: Vec<Vec<u8>>,
    /// Their capacity.
    room_bytes: usize,
}

/// An empty buffer, with room in it if the thread has such a one.
pub(crate) fn take() -> Vec<u8> {
    // A thread that is ending has none.
    KEPT.try_with(|kept| kept.borrow_mut().take()).unwrap_or_default()
}

/// Keeps a buffer for whoever is next.
pub(crate) fn put_back(buffer: Vec<u8>) {
    let _a_thread_that_is_ending_keeps_none = KEPT.try_with(|kept| kept.borrow_mut().put_back(buffer));
}

impl Kept {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.room_bytes -= buffer.capacity();
        buffer
    }

    fn put_back(&mut self, mut buffer: Vec<u8>) {
        let room_bytes = self.room_bytes + buffer.capacity();
        let is_fit = (1..=ONE_MAX_BYTES).contains(&buffer.capacity());
        if is_fit && room_bytes <= ROOM_MAX_BYTES && self.buffers.len() < KEPT_MAX {
            buffer.clear();
            self.buffers.push(buffer);
            self.room_bytes = room_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `count` buffers with so much room are kept.
    fn check(size_bytes: usize, count: usize, kept: usize) {
        (0..count).for_each(|_| put_back(vec![1; size_bytes]));
        let taken = (0..count).map(|_| take()).filter(|buffer| buffer.capacity() > 0);
        assert_eq!(taken.inspect(|buffer| assert!(buffer.is_empty())).count(), kept, "{size_bytes}");
    }

    #[test]
    fn a_buffer_comes_back_empty_and_with_its_room() {
        check(0, 1, 0);
        check(1000, 1, 1);
        check(1000, KEPT_MAX, KEPT_MAX);
    }

    #[test]
    fn neither_large_ones_nor_too_many_are_kept() {
        check(ONE_MAX_BYTES + 1, 1, 0);
        check(10, 2 * KEPT_MAX, KEPT_MAX);
        check(ONE_MAX_BYTES, 3, ROOM_MAX_BYTES / ONE_MAX_BYTES);
    }
}
