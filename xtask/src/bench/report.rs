//! The results of all rounds: medians beside each other as tables, every single number as JSON.

use super::metric::{Better, Metric};
use super::server::Peer;
use super::workloads::WORKLOADS;
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(super) struct Report {
    peers: Vec<Peer>,
    rows: Vec<Row>,
    failures: Vec<String>,
}

/// One metric of one workload: the values of all rounds, per peer in the order of the report.
struct Row {
    workload: &'static str,
    metric: Metric,
    values: Vec<Vec<f64>>,
}

impl Report {
    pub(super) fn new(peers: Vec<Peer>) -> Report {
        Report { peers, rows: Vec::new(), failures: Vec::new() }
    }

    pub(super) fn add(&mut self, peer: Peer, workload: &'static str, metrics: Vec<Metric>) {
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

    /// A round that gave no numbers, and why.
    pub(super) fn add_failure(&mut self, failure: String) {
        self.failures.push(failure);
    }

    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(super) fn median(&self, workload: &str, metric: &str, peer: Peer) -> Option<f64> {
        let column = self.peers.iter().position(|known| *known == peer)?;
        median(&self.row(workload, metric)?.values[column])
    }

    pub(super) fn unit(&self, workload: &str, metric: &str) -> Option<&'static str> {
        Some(self.row(workload, metric)?.metric.unit)
    }

    pub(super) fn better(&self, workload: &str, metric: &str) -> Option<Better> {
        Some(self.row(workload, metric)?.metric.better)
    }

    fn row(&self, workload: &str, metric: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.workload == workload && row.metric.name == metric)
    }

    /// The goals of everything that was measured, as a Markdown table.
    pub(super) fn goals(&self) -> String {
        let mut lines = vec![cells(&["Work", "Goal", "Measured", ""])];
        for workload in WORKLOADS {
            let verdicts = workload.goals.iter().filter_map(|goal| goal.judge(self, workload.name));
            lines.extend(
                verdicts.map(|verdict| {
                    cells(&[workload.name, &verdict.wanted, &verdict.measured, verdict.word()])
                }),
            );
        }
        aligned(lines)
    }

    /// A Markdown section for each workload: medians (and ranges) of all peers that have the notion.
    pub(super) fn sections(&self) -> String {
        let mut out = String::new();
        for workload in WORKLOADS {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.workload == workload.name).collect();
            if !rows.is_empty() {
                let _ = write!(out, "### {}\n\n{}\n\n{}\n", workload.name, workload.about, self.table(&rows));
            }
        }
        out
    }

    fn table(&self, rows: &[&Row]) -> String {
        let measured = |column: &usize| rows.iter().any(|row| !row.values[*column].is_empty());
        let columns: Vec<usize> = (0..self.peers.len()).filter(measured).collect();
        let mut head = vec!["", "unit"];
        head.extend(columns.iter().map(|column| self.peers[*column].title()));
        let mut lines = vec![cells(&head)];
        for row in rows {
            let mut line = vec![row.metric.name.to_owned(), row.metric.unit.to_owned()];
            line.extend(columns.iter().map(|column| cell(&row.values[*column])));
            lines.push(line);
        }
        aligned(lines)
    }

    pub(super) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let per_peer = self.peers.iter().zip(&row.values).filter(|(_, values)| !values.is_empty());
            let values: Vec<Value> = per_peer
                .map(
                    |(peer, values)| json!({"peer": peer.name(), "rounds": values, "median": median(values)}),
                )
                .collect();
            json!({
                "workload": row.workload,
                "metric": row.metric.name,
                "unit": row.metric.unit,
                "better": if row.metric.better == Better::Higher { "higher" } else { "lower" },
                "values": values,
            })
        });
        Value::Array(rows.collect())
    }
}

fn cells(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A Markdown table, the first line its head, that can also be read as it is.
fn aligned(mut lines: Vec<Vec<String>>) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(|column| width(column).max(3)).collect();
    lines.insert(1, widths.iter().map(|width| "-".repeat(*width)).collect());
    let mut out = String::new();
    for line in lines {
        for (text, width) in line.iter().zip(&widths) {
            let _ = write!(out, "| {text:<width$} ");
        }
        out.push_str("|\n");
    }
    out
}

/// The median and the range of a peer's rounds.
fn cell(values: &[f64]) -> String {
    let Some(median) = median(values) else { return String::new() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values.len() {
        1 => number(median),
        _ => format!("{} ({}–{})", number(median), number(least), number(most)),
    }
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
    fn rounds_become_medians_beside_each_other() {
        let mut report = Report::new(vec![Peer::RabbitMq, Peer::Relay, Peer::Leveret]);
        for (peer, value) in
            [(Peer::RabbitMq, 10.0), (Peer::Leveret, 2.0), (Peer::RabbitMq, 30.0), (Peer::Leveret, 6.0)]
        {
            report.add(peer, "idle", vec![Metric::lower("RSS", "MiB", value)]);
        }
        let sections = report.sections();
        let expected = "|     | unit | RabbitMQ         | Leveret          |\n\
                        | --- | ---- | ---------------- | ---------------- |\n\
                        | RSS | MiB  | 20.0 (10.0–30.0) | 4.00 (2.00–6.00) |\n";
        assert!(sections.trim_end().ends_with(expected.trim_end()), "{sections}");
        assert!(report.goals().contains("| idle | RSS ≤ 10 MiB | 4.0      | holds |"), "{}", report.goals());
        assert_eq!(report.to_json()[0]["values"][1]["median"], 4.0);
    }
}
