//! A load that goes on until it has been watched for long enough: its sides run in threads of their own.

use super::server::Server;
use anyhow::{Result, anyhow};
use leveret_bench::figure::Figure;
use leveret_bench::load::{Counters, Histogram, Observation, Window, observe};
use std::sync::Arc;
use std::thread;

/// One side of a load: a publisher, a consumer. It returns when told so by the counters, with the latencies it saw.
pub(super) type Side<'a> = Box<dyn FnOnce(&Arc<Counters>) -> Result<Histogram> + Send + 'a>;

/// A side that measures no latencies.
pub(super) fn side<'a, E: Into<anyhow::Error>>(
    run: impl FnOnce(&Arc<Counters>) -> std::result::Result<(), E> + Send + 'a,
) -> Side<'a> {
    Box::new(|counters| run(counters).map(|()| Histogram::default()).map_err(Into::into))
}

/// A side that does.
pub(super) fn timed<'a, E: Into<anyhow::Error>>(
    run: impl FnOnce(&Arc<Counters>) -> std::result::Result<Histogram, E> + Send + 'a,
) -> Side<'a> {
    Box::new(|counters| run(counters).map_err(Into::into))
}

/// What was seen of a steady load.
pub(super) struct Seen {
    pub(super) observation: Observation,
    pub(super) latencies: Histogram,
}

impl Seen {
    pub(super) fn sent(&self, name: &'static str) -> Figure {
        Figure::higher(name, "msg/s", self.observation.sent / self.observation.seconds)
    }

    pub(super) fn received(&self, name: &'static str) -> Figure {
        Figure::higher(name, "msg/s", self.observation.received / self.observation.seconds)
    }

    /// CPU time of the server for each message that was received.
    pub(super) fn cpu(&self) -> Figure {
        let received = self.observation.received.max(1.0); // a peer may be so slow
        Figure::lower("server CPU", "us/msg", self.observation.server_cpu_seconds * 1e6 / received)
    }
}

/// Runs all sides until the server has been watched for a window; the first error of any of them counts.
pub(super) fn watch(server: &Server, window: Window, sides: Vec<Side<'_>>) -> Result<Seen> {
    let counters = Arc::new(Counters::default());
    thread::scope(|scope| {
        let counters = &counters;
        let running: Vec<_> =
            sides.into_iter().map(|side| scope.spawn(move || counters.run(|| side(counters)))).collect();
        let observation = observe(server.process, window, counters);
        let mut latencies = Histogram::default();
        for side in running {
            latencies.merge(&joined(side)?);
        }
        Ok(Seen { observation: observation?, latencies })
    })
}

/// The median and the 99th percentile of some latencies, under these names.
pub(super) fn latencies(histogram: &Histogram, names: [&'static str; 2]) -> [Figure; 2] {
    let [p50, p99] = names;
    [
        Figure::lower(p50, "us", histogram.quantile_us(0.5)),
        Figure::lower(p99, "us", histogram.quantile_us(0.99)),
    ]
}

/// What a thread of a load returned.
pub(super) fn joined<T, E: Into<anyhow::Error>>(
    thread: thread::ScopedJoinHandle<'_, std::result::Result<T, E>>,
) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a load thread panicked"))?.map_err(Into::into)
}
