//! What all rounds found out, of all brokers.

use std::net::SocketAddr;

use leveret_bench::figure::{Better, median};
use leveret_bench::load::Histogram;
use leveret_bench::outcome::{Account, Kind, Outcome};
use leveret_bench::plan::{Plan, Span};

/// The rounds of every broker, in the order of the command line.
pub(super) struct Results {
    pub(super) measured: Vec<Measured>,
    pub(super) plan: Plan,
    pub(super) span: Span,
    /// Whether it is no failure that messages do not come.
    pub(super) loss_is_expected: bool,
    pub(super) interrupted: bool,
}

/// The rounds of one broker.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) has_process: bool,
    pub(super) rounds: Vec<Outcome>,
}

/// One figure, of all brokers.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) better: Better,
    /// Of each broker the values of its rounds; none if it has no such figure.
    pub(super) values: Vec<Vec<f64>>,
}

impl Results {
    /// All figures in the order of the outcomes.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let all = self.measured.iter().enumerate();
        for (column, figure) in all.flat_map(|(column, measured)| {
            measured
                .rounds
                .iter()
                .flat_map(move |round| round.figures.iter().map(move |figure| (column, figure)))
        }) {
            let at = rows.iter().position(|row| row.name == figure.name).unwrap_or_else(|| {
                let values = vec![Vec::new(); self.measured.len()];
                rows.push(Row { name: figure.name, unit: figure.unit, better: figure.better, values });
                rows.len() - 1
            });
            rows[at].values[column].push(figure.value);
        }
        rows
    }

    /// Kinds of latencies that there are.
    pub(super) fn kinds(&self) -> Vec<Kind> {
        let first = self.measured.iter().find_map(|measured| measured.rounds.first());
        first.map_or(Vec::new(), |outcome| outcome.latencies.iter().map(|latency| latency.kind).collect())
    }

    /// What a reader must know beside the numbers.
    pub(super) fn remarks(&self) -> Vec<String> {
        self.measured.iter().flat_map(|measured| measured.remarks(self.nouns())).collect()
    }

    /// What a broker must never do, and did: who and what. Empty if the numbers can be trusted.
    pub(super) fn broken_promises(&self) -> Vec<String> {
        let all = self.measured.iter().flat_map(|measured| {
            let accounts = measured.rounds.iter().filter_map(|round| round.account);
            accounts.map(move |account| (&measured.name, account))
        });
        all.flat_map(|(name, account)| {
            let lost = if self.loss_is_expected { 0 } else { account.lost };
            let counts = [
                (lost, "were lost"),
                (account.duplicated, "came twice"),
                (account.reordered, "came out of order"),
            ];
            let told = counts.into_iter().filter(|(count, _)| *count > 0);
            told.map(move |(count, what)| {
                format!("{name}: {count} of {} {} {what}", account.sent, self.nouns())
            })
        })
        .collect()
    }

    fn nouns(&self) -> &'static str {
        if let Plan::Calls(_) = self.plan { "calls" } else { "messages" }
    }
}

impl Measured {
    /// The latencies of all rounds together.
    pub(super) fn latencies(&self, kind: Kind) -> Histogram {
        let mut all = Histogram::default();
        let rounds = self.rounds.iter().flat_map(|round| &round.latencies);
        rounds.filter(|latency| latency.kind == kind).for_each(|latency| all.merge(&latency.histogram));
        all
    }

    fn remarks(&self, nouns: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        let mut remark = |text: String| remarks.push(format!("{}: {text}", self.name));
        if !self.has_process {
            remark("its process is not known, so CPU and memory are not measured; see --pid".to_owned());
        }
        let mut warnings: Vec<_> = self.rounds.iter().filter_map(|round| round.generator.warning()).collect();
        warnings.dedup();
        warnings.into_iter().for_each(|warning| remark(warning.to_owned()));
        for account in self.rounds.iter().filter_map(|round| round.account) {
            for (count, what) in troubles(&account).into_iter().filter(|(count, _)| *count > 0) {
                remark(format!("{count} of {} {nouns} {what}", account.sent));
            }
        }
        remarks
    }
}

fn troubles(account: &Account) -> [(u64, &'static str); 7] {
    [
        (account.lost, "were lost, or dropped by a limit of the queue"),
        (account.duplicated, "came twice"),
        (account.reordered, "came out of order"),
        (account.refused, "were refused (nack)"),
        (account.returned, "were returned: no queue took them"),
        (account.waiting, "were still waiting when the time for draining was over"),
        (account.unsent, "were due but could not leave: the broker did not keep up with the rate"),
    ]
}

/// Median, least and most; None without values.
pub(super) fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let least = values.iter().copied().reduce(f64::min)?;
    let most = values.iter().copied().reduce(f64::max)?;
    Some((median(values)?, least, most))
}
