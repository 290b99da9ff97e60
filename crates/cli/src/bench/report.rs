//! The numbers as a table, and the same as a picture of characters.

use std::fmt::Write as _;

use leveret_bench::figure::{Better, median, readable};
use leveret_bench::observe::Sample;
use leveret_bench::outcome::Kind;

use super::results::{Measured, Results, Row, spread};
use super::sparkline::{bar, sparkline};
use crate::escape::width;

/// Columns of the terminal that a picture takes.
const COLUMNS: usize = 60;
const BAR_COLUMNS: usize = 30;
const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max")];

/// Everything, with a line break at the end.
pub(super) fn report(results: &Results) -> String {
    let mut out = table(results);
    throughput(results, &mut out);
    results.kinds().into_iter().for_each(|kind| latencies(results, kind, &mut out));
    generator(results, &mut out);
    out
}

/// With several brokers, each but the first says how many times better it is.
fn table(results: &Results) -> String {
    let rows = results.rows();
    let mut lines = vec![titles(results)];
    lines.extend(rows.iter().map(cells));
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines.iter().filter_map(|line| line.get(column)).map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (column, (cell, column_width)) in line.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(column_width - width(cell));
            // Names and units to the left, numbers to the right.
            text += &if column < 2 { format!("{cell}{gap}  ") } else { format!("{gap}{cell}  ") };
        }
        out += text.trim_end();
        out.push('\n');
    }
    out
}

fn titles(results: &Results) -> Vec<String> {
    let mut titles = vec![String::new(), String::new()];
    for (index, measured) in results.measured.iter().enumerate() {
        titles.push(measured.name.clone());
        if index > 0 {
            titles.push("better".to_owned());
        }
    }
    titles
}

fn cells(row: &Row) -> Vec<String> {
    let mut cells = vec![row.name.to_owned(), row.unit.to_owned()];
    for (index, values) in row.values.iter().enumerate() {
        cells.push(cell(values));
        if index > 0 {
            cells.push(ratio(row.better, &row.values[0], values));
        }
    }
    cells
}

fn cell(values: &[f64]) -> String {
    match spread(values) {
        None => "-".to_owned(),
        Some((median, _, _)) if values.len() == 1 => readable(median),
        Some((median, least, most)) => {
            format!("{} ({}–{})", readable(median), readable(least), readable(most))
        }
    }
}

fn ratio(better: Better, base: &[f64], values: &[f64]) -> String {
    let medians = median(base).zip(median(values));
    let ratio = medians.and_then(|(base, value)| better.ratio(base, value));
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}x"))
}

/// What came out over time, in the last round.
fn throughput(results: &Results, out: &mut String) {
    let lines: Vec<(&Measured, Vec<f64>)> =
        results.measured.iter().map(|measured| (measured, rates(measured))).collect();
    let most = lines.iter().flat_map(|(_, rates)| rates).copied().fold(0.0, f64::max);
    if most == 0.0 {
        return;
    }
    let _ = writeln!(out, "\nthroughput over time, up to {}/s", readable(most));
    let names = names_width(results);
    for (measured, rates) in lines {
        let gap = " ".repeat(names - width(&measured.name));
        let _ = writeln!(out, "  {}{gap}  {}", measured.name, sparkline(&rates, most, COLUMNS));
    }
}

/// Of each sample of the last round what came out; what went in, in a phase where nothing comes out.
pub(super) fn rates(measured: &Measured) -> Vec<f64> {
    let samples = measured.rounds.last().map_or(&[][..], |round| &round.samples);
    let comes_out =
        |phase| samples.iter().any(|other| other.phase == phase && other.received_per_second > 0.0);
    let rate = |sample: &Sample| match comes_out(sample.phase) {
        true => sample.received_per_second,
        false => sample.sent_per_second,
    };
    samples.iter().map(rate).collect()
}

/// Bars on a logarithmic scale: a tail that is ten times longer is as visible as one that is a hundred times.
fn latencies(results: &Results, kind: Kind, out: &mut String) {
    let all: Vec<_> = results.measured.iter().map(|measured| (measured, measured.latencies(kind))).collect();
    let values =
        || all.iter().flat_map(|(_, histogram)| QUANTILES.map(|(share, _)| histogram.quantile_us(share)));
    let most = values().fold(0.0, f64::max);
    if most == 0.0 {
        return;
    }
    let least = values().filter(|value| *value > 0.0).fold(most, f64::min);
    let _ = writeln!(out, "\n{} latency, us, bars logarithmic", kind.name());
    let names = names_width(results);
    for (measured, histogram) in &all {
        for (index, (share, quantile)) in QUANTILES.iter().enumerate() {
            let name = if index == 0 { measured.name.as_str() } else { "" };
            let value = histogram.quantile_us(*share);
            let share = (value / least).max(1.0).ln_1p() / (most / least).ln_1p();
            let (gap, bar) = (" ".repeat(names - width(name)), bar(share, BAR_COLUMNS));
            let fill = " ".repeat(BAR_COLUMNS - width(&bar));
            let _ = writeln!(out, "  {name}{gap}  {quantile:<5}  {bar}{fill}  {}", readable(value));
        }
    }
}

/// Whether these numbers are the broker's.
fn generator(results: &Results, out: &mut String) {
    let rounds = results.measured.iter().flat_map(|measured| &measured.rounds);
    let busiest =
        rounds.map(|round| round.generator).max_by(|one, other| one.ready().total_cmp(&other.ready()));
    if let Some(busy) = busiest.filter(|busy| busy.ready() > 0.0) {
        let _ = writeln!(
            out,
            "\nload generator: its busiest thread ran {:.0} % of the time and waited {:.0} % for a core",
            busy.on_cpu * 100.0,
            busy.waiting * 100.0
        );
    }
}

fn names_width(results: &Results) -> usize {
    results.measured.iter().map(|measured| width(&measured.name)).max().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use leveret_bench::figure::Figure;
    use leveret_bench::generator::Busy;
    use leveret_bench::load::Histogram;
    use leveret_bench::observe::Phase;
    use leveret_bench::outcome::{Account, Latency, Outcome};
    use leveret_bench::plan::{Flow, Plan, Span};
    use std::time::Duration;

    fn outcome(rate: f64) -> Outcome {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_micros(100));
        histogram.record(Duration::from_millis(10));
        let sample = |second| Sample {
            phase: Phase::Measuring,
            at: Duration::from_secs(second),
            sent_per_second: rate,
            received_per_second: rate,
            broker_mib: None,
        };
        Outcome {
            figures: vec![
                Figure::higher("delivered", "msg/s", rate),
                Figure::lower("end to end p50", "us", 100.0),
            ],
            samples: vec![sample(1), sample(2)],
            latencies: vec![Latency { kind: Kind::EndToEnd, histogram }],
            account: Some(Account { sent: 7, lost: 2, ..Account::default() }),
            generator: Busy { on_cpu: 0.95, waiting: 0.01 },
            interrupted: false,
        }
    }

    /// Two brokers, the second twice as fast.
    pub(in super::super) fn results() -> Results {
        let measured = |name: &str, rate: f64| Measured {
            name: name.to_owned(),
            address: "127.0.0.1:5672".parse().unwrap(),
            has_process: true,
            rounds: vec![outcome(rate), outcome(rate * 3.0)],
        };
        let plan = Plan::Flow(Flow::default());
        let span = Span::Time { warm_up: Duration::ZERO, observed: Duration::from_secs(2) };
        let measured = vec![measured("a", 1000.0), measured("bee", 2000.0)];
        Results { measured, plan, span, loss_is_expected: false, interrupted: false }
    }

    #[test]
    fn a_report_has_a_table_and_pictures() {
        let report = report(&results());
        let expected = "                                         a                  bee  better
delivered       msg/s  2,000 (1,000–3,000)  4,000 (2,000–6,000)   2.00x
end to end p50  us           100 (100–100)        100 (100–100)   1.00x

throughput over time, up to 6,000/s
  a    ▅▅
  bee  ██
";
        assert!(report.starts_with(expected), "{report}");
        assert!(report.contains("\n  bee  p50    "), "{report}");
        assert!(report.contains("ran 95 % of the time and waited 1 %"), "{report}");
    }

    #[test]
    fn what_a_reader_must_know_is_said() {
        let remarks = results().remarks();
        assert!(remarks.iter().any(|remark| remark.starts_with("a: a thread of the load generator")));
        assert!(remarks.iter().any(|remark| remark.starts_with("bee: 2 of 7 messages were lost")));
    }

    #[test]
    fn broken_promises_are_told_unless_they_were_none() {
        let check = |account: Account, loss_is_expected: bool, expected: &[&str]| {
            let mut results = results();
            results.loss_is_expected = loss_is_expected;
            results.measured.truncate(1);
            results.measured[0].rounds.truncate(1);
            results.measured[0].rounds[0].account = Some(account);
            assert_eq!(results.broken_promises(), expected);
        };
        let account = Account { sent: 7, ..Account::default() };
        check(Account { unsent: 1, waiting: 1, refused: 1, returned: 1, ..account }, false, &[]);
        check(Account { lost: 2, ..account }, false, &["a: 2 of 7 messages were lost"]);
        check(Account { lost: 2, ..account }, true, &[]);
        let odd = Account { duplicated: 1, reordered: 3, ..account };
        let expected = ["a: 1 of 7 messages came twice", "a: 3 of 7 messages came out of order"];
        check(odd, true, &expected);
    }
}
