//! A socket with a small buffer: a writer that does not wait, and a reader that does.

use std::io;
use std::sync::Arc;

use leveret_server::interleavings::Socket;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::draw;

/// Octets on their way to one client.
pub struct Pipe {
    capacity_bytes: usize,
    state: Mutex<State>,
    filled: Condvar,
    /// There is room again.
    pub room: Notify,
}

#[derive(Default)]
struct State {
    octets: Vec<u8>,
    was_full: bool,
}

impl Pipe {
    /// An empty one.
    pub fn new(capacity_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity_bytes,
            state: Mutex::default(),
            filled: Condvar::new(),
            room: Notify::new(),
        })
    }

    /// Waits for octets and takes all there are.
    pub fn read(&self) -> Vec<u8> {
        let mut state = self.state.lock();
        while state.octets.is_empty() {
            self.filled.wait(&mut state);
        }
        let octets = std::mem::take(&mut state.octets);
        let was_full = std::mem::take(&mut state.was_full);
        drop(state);
        if was_full {
            self.room.notify_one();
        }
        octets
    }
}

impl Socket for Pipe {
    /// As a socket does: what fits, perhaps less; and who met a full one is told when there is room.
    fn write_now(&self, octets: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock();
        let room = self.capacity_bytes - state.octets.len();
        if room == 0 {
            state.was_full = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = room.min(octets.len());
        let count = if draw(2) == 0 { most } else { 1 + draw(most) };
        state.octets.extend_from_slice(&octets[..count]);
        self.filled.notify_one();
        Ok(count)
    }
}
