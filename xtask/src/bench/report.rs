//! The results of all rounds: medians beside each other as tables, every single number as JSON.

use super::server::Peer;
use super::workloads::WORKLOADS;
use leveret_bench::figure::{Better, Figure, median, readable};
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(super) struct Report {
    peers: Vec<Peer>,
    rows: Vec<Row>,
    failures: Vec<String>,
}

/// One figure of one workload: the values of all rounds, per peer in the order of the report.
struct Row {
    workload: &'static str,
    /// Of the first round.
    figure: Figure,
    values: Vec<Vec<f64>>,
}

impl Report {
    pub(super) fn new(peers: Vec<Peer>) -> Report {
        Report { peers, rows: Vec::new(), failures: Vec::new() }
    }

    pub(super) fn add(&mut self, peer: Peer, workload: &'static str, figures: Vec<Figure>) {
        let Some(column) = self.peers.iter().position(|known| *known == peer) else { return };
        for figure in figures {
            let same = |row: &&mut Row| row.workload == workload && row.figure.name == figure.name;
            match self.rows.iter_mut().find(same) {
                Some(row) => row.values[column].push(figure.value),
                None => {
                    let mut values = vec![Vec::new(); self.peers.len()];
                    values[column].push(figure.value);
                    self.rows.push(Row { workload, figure, values });
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

    pub(super) fn median(&self, workload: &str, figure: &str, peer: Peer) -> Option<f64> {
        let column = self.peers.iter().position(|known| *known == peer)?;
        median(&self.row(workload, figure)?.values[column])
    }

    pub(super) fn unit(&self, workload: &str, figure: &str) -> Option<&'static str> {
        Some(self.row(workload, figure)?.figure.unit)
    }

    pub(super) fn better(&self, workload: &str, figure: &str) -> Option<Better> {
        Some(self.row(workload, figure)?.figure.better)
    }

    fn row(&self, workload: &str, figure: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.workload == workload && row.figure.name == figure)
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
            let mut line = vec![row.figure.name.to_owned(), row.figure.unit.to_owned()];
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
                "figure": row.figure.name,
                "unit": row.figure.unit,
                "better": if row.figure.better == Better::Higher { "higher" } else { "lower" },
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
        1 => readable(median),
        _ => format!("{} ({}–{})", readable(median), readable(least), readable(most)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_become_medians_beside_each_other() {
        let mut report = Report::new(vec![Peer::RabbitMq, Peer::Relay, Peer::Leveret]);
        for (peer, value) in
            [(Peer::RabbitMq, 10.0), (Peer::Leveret, 2.0), (Peer::RabbitMq, 30.0), (Peer::Leveret, 6.0)]
        {
            report.add(peer, "idle", vec![Figure::lower("RSS", "MiB", value)]);
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
