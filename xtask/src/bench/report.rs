//! The results of all rounds: medians beside each other as a table, every single number as JSON.

use super::server::Peer;
use super::workloads::{Better, Metric, Workload};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// One metric of one workload: the values of all rounds, per peer in the order they were named.
struct Row {
    workload: Workload,
    metric: Metric,
    values: Vec<Vec<f64>>,
}

pub(super) struct Report {
    peers: Vec<Peer>,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(peers: Vec<Peer>) -> Report {
        Report { peers, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, peer: Peer, workload: Workload, metrics: Vec<Metric>) {
        let Some(column) = self.peers.iter().position(|known| *known == peer) else { return };
        for metric in metrics {
            let same = |row: &&mut Row| row.workload == workload && row.metric.name == metric.name;
            match self.rows.iter_mut().find(same) {
                Some(row) => row.values[column].push(metric.value),
                None => {
                    let mut values = vec![Vec::new(); self.peers.len()];
                    values[column].push(metric.value);
                    self.rows.push(Row { workload, metric, values });
                }
            }
        }
    }

    /// The ratio says how many times better each peer is than the first.
    pub(super) fn table(&self) -> String {
        let mut out = format!("{:<11} {:<26} {:<7}", "workload", "metric", "unit");
        for (index, peer) in self.peers.iter().enumerate() {
            let _ = write!(out, " {:>32}", peer.name());
            if index > 0 {
                let _ = write!(out, " {:>8}", "better");
            }
        }
        for row in &self.rows {
            let _ =
                write!(out, "\n{:<11} {:<26} {:<7}", row.workload.name(), row.metric.name, row.metric.unit);
            for (index, values) in row.values.iter().enumerate() {
                let _ = write!(out, " {:>32}", cell(values));
                if index > 0 {
                    let _ = write!(out, " {:>8}", ratio(row.metric.better, &row.values[0], values));
                }
            }
        }
        out
    }

    pub(super) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let per_peer = self.peers.iter().zip(&row.values);
            let values: Vec<Value> = per_peer
                .map(
                    |(peer, values)| json!({"peer": peer.name(), "rounds": values, "median": median(values)}),
                )
                .collect();
            json!({
                "workload": row.workload.name(),
                "metric": row.metric.name,
                "unit": row.metric.unit,
                "better": if row.metric.better == Better::Higher { "higher" } else { "lower" },
                "values": values,
            })
        });
        Value::Array(rows.collect())
    }
}

/// The median and the range of a peer's rounds.
fn cell(values: &[f64]) -> String {
    let Some(median) = median(values) else { return "-".to_owned() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} ({}–{})", number(median), number(least), number(most))
}

fn ratio(better: Better, base: &[f64], values: &[f64]) -> String {
    let (Some(base), Some(value)) = (median(base), median(values)) else { return "-".to_owned() };
    let ratio = if better == Better::Higher { value / base } else { base / value };
    if ratio.is_finite() { format!("{ratio:.2}x") } else { "-".to_owned() }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Three digits or more, thousands apart.
fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_reading() {
        let cases = [(0.5, "0.50"), (42.25, "42.2"), (999.6, "1,000"), (1_234_567.0, "1,234,567")];
        for (value, expected) in cases {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn rounds_become_medians_and_ratios() {
        let mut report = Report::new(vec![Peer::RabbitMq, Peer::Leveret]);
        let metric = |better, value| vec![Metric { name: "m", unit: "u", better, value }];
        for (peer, value) in
            [(Peer::RabbitMq, 10.0), (Peer::Leveret, 2.0), (Peer::RabbitMq, 30.0), (Peer::Leveret, 6.0)]
        {
            report.add(peer, Workload::Idle, metric(Better::Lower, value));
            report.add(peer, Workload::Rpc1, metric(Better::Higher, value));
        }
        let table = report.table();
        assert!(
            table.contains("20.0 (10.0–30.0)") && table.contains("5.00x") && table.contains("0.20x"),
            "{table}"
        );
        assert_eq!(report.to_json()[0]["values"][1]["median"], 4.0);
    }
}
