//! The numbers as one JSON document: every round, not just what they amount to.

use leveret_bench::generator::Busy;
use leveret_bench::observe::{Phase, Sample};
use leveret_bench::outcome::{Account, Latency, Outcome};
use serde_json::{Map, Value, json};

use super::plan_json;
use super::results::{Measured, Results, spread};

/// Shares at which latencies are told.
const QUANTILES: [(f64, &str); 7] = [
    (0.5, "p50"),
    (0.75, "p75"),
    (0.9, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
    (1.0, "max"),
];

/// Names are those of the report; times are microseconds, sizes MiB, where the unit does not say otherwise.
pub(super) fn document(results: &Results) -> Value {
    let rows = results.rows();
    let brokers = results.measured.iter().enumerate().map(|(column, measured)| {
        let figures: Map<String, Value> = rows
            .iter()
            .filter_map(|row| {
                let (median, least, most) = spread(&row.values[column])?;
                let base = rows_base(column, &row.values).and_then(|base| row.better.ratio(base, median));
                let figure = json!({
                    "unit": row.unit,
                    "median": median,
                    "min": least,
                    "max": most,
                    "times_better": base,
                });
                Some((row.name.to_owned(), figure))
            })
            .collect();
        broker(measured, figures)
    });
    json!({
        "plan": plan_json::plan(&results.plan, results.span),
        "interrupted": results.interrupted,
        "broken_promises": results.broken_promises(),
        "remarks": results.remarks(),
        "brokers": brokers.collect::<Vec<_>>(),
    })
}

/// What a broker is compared with: the first one, unless it is that itself.
fn rows_base(column: usize, values: &[Vec<f64>]) -> Option<f64> {
    spread(&values[0]).filter(|_| column > 0).map(|(median, _, _)| median)
}

fn broker(measured: &Measured, figures: Map<String, Value>) -> Value {
    json!({
        "name": measured.name,
        "address": measured.address.to_string(),
        "figures": figures,
        "rounds": measured.rounds.iter().map(round).collect::<Vec<_>>(),
    })
}

fn round(outcome: &Outcome) -> Value {
    let figures: Map<String, Value> =
        outcome.figures.iter().map(|figure| (figure.name.to_owned(), json!(figure.value))).collect();
    let latencies: Map<String, Value> = outcome
        .latencies
        .iter()
        .map(|latency| (latency.kind.name().to_owned(), quantiles(latency)))
        .collect();
    let Busy { on_cpu, waiting } = outcome.generator;
    json!({
        "figures": figures,
        "latencies_us": latencies,
        "messages": outcome.account.map(account),
        "samples": outcome.samples.iter().map(sample).collect::<Vec<_>>(),
        "generator": { "on_cpu": on_cpu, "waiting_for_cpu": waiting },
    })
}

fn quantiles(latency: &Latency) -> Value {
    let histogram = &latency.histogram;
    let quantiles = QUANTILES.map(|(share, name)| (name.to_owned(), json!(histogram.quantile_us(share))));
    let mut quantiles: Map<String, Value> = quantiles.into_iter().collect();
    quantiles.insert("count".to_owned(), json!(histogram.count()));
    Value::Object(quantiles)
}

fn account(account: Account) -> Value {
    json!({
        "sent": account.sent,
        "confirmed": account.confirmed,
        "refused": account.refused,
        "returned": account.returned,
        "deliveries_expected": account.expected,
        "deliveries": account.received,
        "lost": account.lost,
        "still_waiting": account.waiting,
        "duplicated": account.duplicated,
        "reordered": account.reordered,
        "due_but_unsent": account.unsent,
    })
}

fn sample(sample: &Sample) -> Value {
    json!({
        "phase": match sample.phase {
            Phase::WarmUp => "warm-up",
            Phase::Measuring => "measuring",
            Phase::Filling => "filling",
            Phase::Draining => "draining",
        },
        "at_seconds": sample.at.as_secs_f64(),
        "in_per_second": sample.sent_per_second,
        "out_per_second": sample.received_per_second,
        "broker_mib": sample.broker_mib,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::results;

    #[test]
    fn every_round_is_there() {
        let document = document(&results());
        let bee = &document["brokers"][1];
        assert_eq!(bee["figures"]["delivered"]["median"], 4000.0);
        assert_eq!(bee["figures"]["delivered"]["times_better"], 2.0);
        assert!(document["brokers"][0]["figures"]["delivered"]["times_better"].is_null());
        assert_eq!(bee["rounds"][1]["figures"]["delivered"], 6000.0);
        assert_eq!(bee["rounds"][0]["latencies_us"]["end to end"]["count"], 2);
        assert_eq!(bee["rounds"][0]["messages"]["lost"], 2);
        assert_eq!(document["broken_promises"][2], "bee: 2 of 7 messages were lost");
        assert_eq!(document["plan"]["shape"], "flow");
        assert_eq!(bee["rounds"][0]["samples"][1]["phase"], "measuring");
    }
}
