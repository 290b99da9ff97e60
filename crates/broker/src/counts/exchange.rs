//! What is counted of exchanges: by each channel for itself, as many channels publish to one exchange at a time.

use std::ops::AddAssign;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::counter::Counter;
use crate::vhost::Exchange;

/// So many exchanges a channel counts for at a time; beyond that the oldest not in use hands in its numbers.
const PATHS_MAX: usize = 64;

/// Messages that came to an exchange from publishers since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeCounts {
    /// Published to it.
    pub publish_in: u64,
    /// Given to queues because of that, once for each queue.
    pub publish_out: u64,
}

impl AddAssign for ExchangeCounts {
    fn add_assign(&mut self, other: Self) {
        self.publish_in += other.publish_in;
        self.publish_out += other.publish_out;
    }
}

/// From one channel to one exchange. Written by the channel's task alone.
#[derive(Debug)]
pub(crate) struct Path {
    exchange: Weak<Exchange>,
    publish_in: Counter,
    publish_out: Counter,
}

impl Path {
    fn new(exchange: &Arc<Exchange>) -> Self {
        let (publish_in, publish_out) = Default::default();
        Self { exchange: Arc::downgrade(exchange), publish_in, publish_out }
    }

    /// A message was published, and goes to so many queues.
    #[inline]
    pub(crate) fn took(&self, queues: usize) {
        self.publish_in.add(1);
        self.publish_out.add(queues as u64);
    }

    /// Whether it leads to this exchange.
    pub(crate) fn leads_to(&self, exchange: &Arc<Exchange>) -> bool {
        std::ptr::eq(self.exchange.as_ptr(), Arc::as_ptr(exchange))
    }

    fn counts(&self) -> ExchangeCounts {
        ExchangeCounts { publish_in: self.publish_in.value(), publish_out: self.publish_out.value() }
    }
}

/// The paths of one channel.
#[derive(Debug, Default)]
pub(crate) struct Paths(Mutex<Vec<Arc<Path>>>);

impl Paths {
    /// The path to an exchange, made if there is none yet.
    pub(crate) fn to(&self, exchange: &Arc<Exchange>) -> Arc<Path> {
        let mut paths = self.0.lock();
        if let Some(known) = paths.iter().find(|path| path.leads_to(exchange)) {
            return known.clone();
        }
        if paths.len() >= PATHS_MAX
            && let Some(at) = paths.iter().position(|path| Arc::strong_count(path) == 1)
        {
            hand_in(&paths.remove(at));
        }
        let path = Arc::new(Path::new(exchange));
        paths.push(path.clone());
        path
    }

    /// What each exchange has from this channel.
    pub(crate) fn each(&self, mut see: impl FnMut(&Weak<Exchange>, ExchangeCounts)) {
        self.0.lock().iter().for_each(|path| see(&path.exchange, path.counts()));
    }

    /// The channel ends: its numbers become the exchanges'.
    pub(crate) fn close(&self) {
        std::mem::take(&mut *self.0.lock()).iter().for_each(|path| hand_in(path));
    }
}

fn hand_in(path: &Path) {
    if let Some(exchange) = path.exchange.upgrade() {
        *exchange.handed_in.lock() += path.counts();
    }
}
