//! What Leveret wants to reach, in ratios to others measured in the same run, and in absolute numbers where the machine
//! does not matter much.

use super::metric::Better;
use super::report::Report;
use super::server::Peer;

/// A goal for one metric of a workload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// For rates at least, for times at most, this many times what the peer has.
    Times { metric: &'static str, peer: Peer, factor: f64 },
    /// At most this many times another metric of Leveret's own.
    Of { metric: &'static str, other: &'static str, factor: f64 },
    /// For rates at least, for times and sizes at most, this.
    Limit { metric: &'static str, limit: f64 },
}

/// What became of a goal.
pub(super) struct Verdict {
    /// What was wanted, for people.
    pub(super) wanted: String,
    /// In the terms of the goal, for people.
    pub(super) measured: String,
    pub(super) holds: bool,
}

impl Verdict {
    pub(super) fn word(&self) -> &'static str {
        if self.holds { "holds" } else { "falls short" }
    }
}

impl Goal {
    /// None if something that it takes was not measured.
    pub(super) fn judge(self, report: &Report, workload: &str) -> Option<Verdict> {
        let median = |peer, metric| report.median(workload, metric, peer);
        let (metric, bound, measured, words) = match self {
            Goal::Times { metric, peer, factor } => {
                let ratio = median(Peer::Leveret, metric)? / median(peer, metric)?;
                (metric, factor, ratio, format!("{factor} × {}", peer.title()))
            }
            Goal::Of { metric, other, factor } => {
                let ratio = median(Peer::Leveret, metric)? / median(Peer::Leveret, other)?;
                (metric, factor, ratio, format!("{factor} × {other}"))
            }
            Goal::Limit { metric, limit } => {
                let unit = report.unit(workload, metric)?;
                (metric, limit, median(Peer::Leveret, metric)?, format!("{limit} {unit}"))
            }
        };
        let (sign, holds) = match report.better(workload, metric)? {
            Better::Higher => ("≥", measured >= bound),
            Better::Lower => ("≤", measured <= bound),
        };
        let measured = match self {
            Goal::Limit { .. } => format!("{measured:.1}"),
            _ => format!("{measured:.2} ×"),
        };
        Some(Verdict { wanted: format!("{metric} {sign} {words}"), measured, holds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::metric::Metric;

    #[test]
    fn goals_are_judged_by_medians() {
        let mut report = Report::new(vec![Peer::RabbitMq, Peer::Leveret]);
        for (peer, rate, time) in [(Peer::RabbitMq, 10.0, 8.0), (Peer::Leveret, 100.0, 2.0)] {
            let metrics = vec![
                Metric::higher("rate", "msg/s", rate),
                Metric::lower("time", "us", time),
                Metric::lower("disk", "us", time / 2.0),
            ];
            report.add(peer, "w", metrics);
        }
        let check = |goal: Goal, wanted: &str, measured: &str, holds: bool| {
            let verdict = goal.judge(&report, "w").unwrap();
            assert_eq!((verdict.wanted.as_str(), verdict.measured.as_str()), (wanted, measured));
            assert_eq!(verdict.holds, holds, "{wanted}");
        };
        let rabbit = |metric, factor| Goal::Times { metric, peer: Peer::RabbitMq, factor };
        check(rabbit("rate", 9.0), "rate ≥ 9 × RabbitMQ", "10.00 ×", true);
        check(rabbit("rate", 11.0), "rate ≥ 11 × RabbitMQ", "10.00 ×", false);
        check(rabbit("time", 0.5), "time ≤ 0.5 × RabbitMQ", "0.25 ×", true);
        let of_disk = Goal::Of { metric: "time", other: "disk", factor: 1.5 };
        check(of_disk, "time ≤ 1.5 × disk", "2.00 ×", false);
        check(Goal::Limit { metric: "time", limit: 2.5 }, "time ≤ 2.5 us", "2.0", true);
        assert!(rabbit("other", 1.0).judge(&report, "w").is_none());
        let relay = Goal::Times { metric: "rate", peer: Peer::Relay, factor: 1.0 };
        assert!(relay.judge(&report, "w").is_none());
    }
}
