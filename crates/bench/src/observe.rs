//! The observer of a load: lets time pass, takes samples, tells whoever watches.

use crate::generator::{Busy, Generator};
use crate::process::Process;
use crate::stage::Stage;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How soon the end of a load, or of the user's patience, is noticed.
const NAP: Duration = Duration::from_millis(20);
/// Between two samples.
const SAMPLED_EVERY: Duration = Duration::from_secs(1);
/// The same in a load too short for that.
const SAMPLES_MIN: u32 = 10;
const SAMPLED_EVERY_MIN: Duration = Duration::from_millis(100);

/// What a load is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing counts yet.
    WarmUp,
    /// What is reported.
    Measuring,
    /// Producers fill the queues.
    Filling,
    /// Producers have ended, what is on its way comes in.
    Draining,
}

/// One sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// What the load was doing.
    pub phase: Phase,
    /// Since the phase began.
    pub at: Duration,
    /// Messages published a second, since the last sample; calls or cycles begun.
    pub sent_per_second: f64,
    /// Messages delivered a second, since the last sample; calls or cycles ended.
    pub received_per_second: f64,
    /// Resident memory of the broker, MiB.
    pub broker_mib: Option<f64>,
}

/// Watches one stage.
pub(crate) struct Observer<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) broker: Option<Process>,
    pub(crate) cancel: &'a AtomicBool,
    pub(crate) watch: &'a mut dyn FnMut(Sample),
}

/// The state of a load at an instant.
#[derive(Clone, Copy)]
struct Snapshot {
    at: Instant,
    sent: u64,
    confirmed: u64,
    received: u64,
    cpu_seconds: Option<f64>,
}

/// What happened in a phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observation {
    pub(crate) seconds: f64,
    pub(crate) sent: f64,
    pub(crate) confirmed: f64,
    pub(crate) received: f64,
    pub(crate) broker_cpu_seconds: Option<f64>,
    pub(crate) broker_peak_mib: Option<f64>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) generator: Busy,
}

impl Observer<'_> {
    /// Lets `time` pass, or less if the load fails or is called off.
    pub(crate) fn observe(&mut self, phase: Phase, time: Duration) -> Observation {
        let every = SAMPLED_EVERY.min(time / SAMPLES_MIN).max(SAMPLED_EVERY_MIN);
        self.observe_until(phase, every, |_, passed| passed >= time)
    }

    /// The same until `is_over` says so.
    pub(crate) fn observe_until(
        &mut self,
        phase: Phase,
        every: Duration,
        mut is_over: impl FnMut(&Stage, Duration) -> bool,
    ) -> Observation {
        let mut generator = Generator::default();
        generator.look(&self.stage.threads());
        let begin = self.snapshot();
        let (mut last, mut samples) = (begin, Vec::new());
        while !is_over(self.stage, begin.at.elapsed()) && !self.is_over() {
            std::thread::sleep(NAP);
            if last.at.elapsed() >= every {
                last = self.sample(phase, begin, last, &mut samples);
                generator.look(&self.stage.threads());
            }
        }
        let end = self.snapshot();
        generator.look(&self.stage.threads());
        Observation {
            seconds: (end.at - begin.at).as_secs_f64(),
            sent: (end.sent - begin.sent) as f64,
            confirmed: (end.confirmed - begin.confirmed) as f64,
            received: (end.received - begin.received) as f64,
            broker_cpu_seconds: end.cpu_seconds.zip(begin.cpu_seconds).map(|(end, begin)| end - begin),
            broker_peak_mib: samples.iter().filter_map(|sample| sample.broker_mib).reduce(f64::max),
            samples,
            generator: generator.busiest(),
        }
    }

    /// Whether whoever asked for the load wants no more of it.
    pub(crate) fn is_called_off(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.is_called_off() || self.stage.counters.stopped()
    }

    fn sample(
        &mut self,
        phase: Phase,
        begin: Snapshot,
        last: Snapshot,
        samples: &mut Vec<Sample>,
    ) -> Snapshot {
        let now = self.snapshot();
        let seconds = (now.at - last.at).as_secs_f64();
        let sample = Sample {
            phase,
            at: now.at - begin.at,
            sent_per_second: (now.sent - last.sent) as f64 / seconds,
            received_per_second: (now.received - last.received) as f64 / seconds,
            broker_mib: self.broker.and_then(|broker| broker.resident_mib().ok()),
        };
        samples.push(sample);
        (self.watch)(sample);
        now
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: Instant::now(),
            sent: self.stage.counters.sent.load(Ordering::Relaxed),
            confirmed: self.stage.confirmed.load(Ordering::Relaxed),
            received: self.stage.counters.received.load(Ordering::Relaxed),
            cpu_seconds: self.broker.and_then(|broker| broker.cpu_seconds().ok()),
        }
    }
}
