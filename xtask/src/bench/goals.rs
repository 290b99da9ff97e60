//! What Leveret wants to reach, in ratios to others measured in the same run, and in absolute numbers where the machine
//! does not matter much.

use super::report::Report;
use super::server::Peer;
use leveret_bench::figure::Better;

/// A goal for one figure of a workload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// For rates at least, for times at most, this many times what the peer has.
    Times { figure: &'static str, peer: Peer, factor: f64 },
    /// At most this many times another figure of Leveret's own.
    Of { figure: &'static str, other: &'static str, factor: f64 },
    /// For rates at least, for times and sizes at most, this.
    Limit { figure: &'static str, limit: f64 },
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
        let median = |peer, figure| report.median(workload, figure, peer);
        let (figure, bound, measured, words) = match self {
            Goal::Times { figure, peer, factor } => {
                let ratio = median(Peer::Leveret, figure)? / median(peer, figure)?;
                (figure, factor, ratio, format!("{factor} × {}", peer.title()))
            }
            Goal::Of { figure, other, factor } => {
                let ratio = median(Peer::Leveret, figure)? / median(Peer::Leveret, other)?;
                (figure, factor, ratio, format!("{factor} × {other}"))
            }
            Goal::Limit { figure, limit } => {
                let unit = report.unit(workload, figure)?;
                (figure, limit, median(Peer::Leveret, figure)?, format!("{limit} {unit}"))
            }
        };
        let (sign, holds) = match report.better(workload, figure)? {
            Better::Higher => ("≥", measured >= bound),
            Better::Lower => ("≤", measured <= bound),
        };
        let measured = match self {
            Goal::Limit { .. } => format!("{measured:.1}"),
            _ => format!("{measured:.2} ×"),
        };
        Some(Verdict { wanted: format!("{figure} {sign} {words}"), measured, holds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_bench::figure::Figure;

    #[test]
    fn goals_are_judged_by_medians() {
        let mut report = Report::new(vec![Peer::RabbitMq, Peer::Leveret]);
        for (peer, rate, time) in [(Peer::RabbitMq, 10.0, 8.0), (Peer::Leveret, 100.0, 2.0)] {
            let figures = vec![
                Figure::higher("rate", "msg/s", rate),
                Figure::lower("time", "us", time),
                Figure::lower("disk", "us", time / 2.0),
            ];
            report.add(peer, "w", figures);
        }
        let check = |goal: Goal, wanted: &str, measured: &str, holds: bool| {
            let verdict = goal.judge(&report, "w").unwrap();
            assert_eq!((verdict.wanted.as_str(), verdict.measured.as_str()), (wanted, measured));
            assert_eq!(verdict.holds, holds, "{wanted}");
        };
        let rabbit = |figure, factor| Goal::Times { figure, peer: Peer::RabbitMq, factor };
        check(rabbit("rate", 9.0), "rate ≥ 9 × RabbitMQ", "10.00 ×", true);
        check(rabbit("rate", 11.0), "rate ≥ 11 × RabbitMQ", "10.00 ×", false);
        check(rabbit("time", 0.5), "time ≤ 0.5 × RabbitMQ", "0.25 ×", true);
        let of_disk = Goal::Of { figure: "time", other: "disk", factor: 1.5 };
        check(of_disk, "time ≤ 1.5 × disk", "2.00 ×", false);
        check(Goal::Limit { figure: "time", limit: 2.5 }, "time ≤ 2.5 us", "2.0", true);
        assert!(rabbit("other", 1.0).judge(&report, "w").is_none());
        let relay = Goal::Times { figure: "rate", peer: Peer::Relay, factor: 1.0 };
        assert!(relay.judge(&report, "w").is_none());
    }
}
