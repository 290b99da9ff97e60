//! `leveret services`: who serves what, on any broker.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use crate::discovery::{Asked, text, workers};
use crate::escape::{Place, escape};
use crate::failure::Failure;
use crate::toolkit::{BrokerUrl, duration};

/// List the services that answer, with what they have done
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    url: BrokerUrl,
    /// Only this service
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// How long to wait for another answer
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = duration)]
    silence: Duration,
    /// Print a JSON object per worker
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = arguments.url.connect("leveret services").await?;
    let found = workers(&client, Asked::Stats, arguments.service.as_deref(), arguments.silence).await;
    client.close().await;
    let workers = found?;
    if workers.is_empty() {
        return Err(Failure::NoRoute("no service answered".to_owned()));
    }
    let mut stdout = io::stdout().lock();
    if arguments.json {
        for worker in &workers {
            writeln!(stdout, "{worker}")?;
        }
    } else {
        write!(stdout, "{}", table(&workers))?;
    }
    Ok(())
}

fn table(workers: &[Value]) -> String {
    let mut rows =
        vec![["SERVICE", "ID", "VERSION", "REQUESTS", "ERRORS", "AVERAGE", "SINCE"].map(str::to_owned)];
    rows.extend(workers.iter().map(row));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn row(worker: &Value) -> [String; 7] {
    let endpoint = &worker["endpoints"][0];
    let number = |key: &str| endpoint[key].as_u64().unwrap_or(0);
    let average = format!("{:.3} ms", number("average_processing_time") as f64 / 1e6);
    let text = |key: &str| escape(&text(worker, key), Place::Screen);
    [
        text("name"),
        text("id"),
        text("version"),
        number("num_requests").to_string(),
        number("num_errors").to_string(),
        average,
        text("started"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_lines_up() {
        let worker = json!({ "name": "weather.ohio", "id": "ab", "version": "1.2.0", "started": "2026",
            "endpoints": [{ "num_requests": 7, "num_errors": 1, "average_processing_time": 1_500_000 }] });
        let table = table(&[worker]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "weather.ohio  ab  1.2.0    7         1       1.500 ms  2026");
    }
}
