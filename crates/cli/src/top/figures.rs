//! Numbers and lines that fit 80 columns.

use serde_json::Value;

use super::poll::Sample;
use super::tabs::Kind;
use crate::escape::{Place, escape};
use crate::table::at;

/// A value as its column shows it; nothing where there is none.
pub(super) fn cell(value: &Value, kind: Kind) -> String {
    match (kind, value.as_f64()) {
        (Kind::Text, _) => escape(value.as_str().unwrap_or_default(), Place::Screen),
        (_, None) => String::new(),
        (Kind::Count, Some(number)) => count(number),
        (Kind::Rate, Some(number)) => decimal(number),
        (Kind::Microseconds, Some(number)) => decimal(number / 1_000.0),
        (Kind::Bytes, Some(number)) => bytes(number),
    }
}

/// Who it is and how it is: version, node, uptime, memory, disk, alarms.
pub(super) fn headline(sample: &Sample) -> String {
    let text = |path: &str| escape(at(&sample.overview, path).as_str().unwrap_or("?"), Place::Screen);
    let mut line = format!("{} {}", text("product_name"), text("product_version"));
    match sample.nodes.first() {
        None => line += &format!("  {}", text("node")),
        Some(node) => {
            let number = |key: &str| node[key].as_f64().unwrap_or(0.0);
            let name = escape(node["name"].as_str().unwrap_or("?"), Place::Screen);
            line += &format!("  {name}  up {}", uptime(number("uptime")));
            line += &format!("  mem {}/{}", bytes(number("mem_used")), bytes(number("mem_limit")));
            line += &format!("  disk {}", bytes(number("disk_free")));
        }
    }
    line
}

/// The alarms that are on, of all nodes.
pub(super) fn alarms(sample: &Sample) -> Option<String> {
    let kinds = [("mem_alarm", "memory"), ("disk_free_alarm", "disk")];
    let raised = |key: &str| sample.nodes.iter().any(|node| node[key] == true);
    let raised: Vec<&str> = kinds.iter().filter(|(key, _)| raised(key)).map(|(_, name)| *name).collect();
    (!raised.is_empty()).then(|| format!("ALARM: {}, publishers are blocked", raised.join(" and ")))
}

/// How much of everything there is.
pub(super) fn totals(sample: &Sample) -> String {
    let number = |path: &str| count(at(&sample.overview, path).as_f64().unwrap_or(0.0));
    format!(
        "{} connections  {} channels  {} consumers  {} queues  {} ready  {} unacked",
        number("object_totals.connections"),
        number("object_totals.channels"),
        number("object_totals.consumers"),
        number("object_totals.queues"),
        number("queue_totals.messages_ready"),
        number("queue_totals.messages_unacknowledged"),
    )
}

/// Messages per second: in, and out.
pub(super) fn rates(sample: &Sample) -> (f64, f64) {
    let rate = |key: &str| {
        at(&sample.overview, &format!("message_stats.{key}_details.rate")).as_f64().unwrap_or(0.0)
    };
    (rate("publish"), rate("deliver_get"))
}

/// `99999`, `123k`, `4.56M`.
pub(super) fn count(number: f64) -> String {
    match number {
        number if number < 100_000.0 => format!("{number:.0}"),
        number => scaled(number, 1_000.0, &["", "k", "M", "G", "T"]),
    }
}

/// `0`, `0.4`, `12.5`, `1234`.
pub(super) fn decimal(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => count(number),
    }
}

/// `512B`, `1.50K`, `4.56G`, in powers of 1024.
pub(super) fn bytes(number: f64) -> String {
    scaled(number, 1_024.0, &["B", "K", "M", "G", "T", "P"])
}

/// Three digits and a unit.
fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let mut number = number;
    let mut unit = 0;
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    let digits = match (unit, number) {
        (0, _) => 0,
        (_, number) if number < 10.0 => 2,
        (_, number) if number < 100.0 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", units[unit])
}

/// From milliseconds: `42s`, `12m`, `3h12m`, `4d3h`.
fn uptime(milliseconds: f64) -> String {
    let seconds = (milliseconds / 1_000.0) as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_stay_short() {
        let check = |value: Value, kind, expected: &str| assert_eq!(cell(&value, kind), expected, "{value}");
        check(json!(0), Kind::Count, "0");
        check(json!(99_999), Kind::Count, "99999");
        check(json!(123_456), Kind::Count, "123k");
        check(json!(4_560_000), Kind::Count, "4.56M");
        check(json!(0.0), Kind::Rate, "0");
        check(json!(0.4), Kind::Rate, "0.40");
        check(json!(12.54), Kind::Rate, "12.5");
        check(json!(1234.5), Kind::Rate, "1234");
        check(json!(1_234), Kind::Microseconds, "1.23");
        check(json!(512), Kind::Bytes, "512B");
        check(json!(1_536), Kind::Bytes, "1.50K");
        check(json!(u64::MAX), Kind::Bytes, "16384P");
        check(Value::Null, Kind::Count, "");
        check(json!("a\x1b[2J"), Kind::Text, "a\\u{1b}[2J");
    }

    #[test]
    fn uptime_has_two_units_at_most() {
        let check = |seconds: f64, expected: &str| assert_eq!(uptime(seconds * 1_000.0), expected);
        check(42.9, "42s");
        check(720.0, "12m");
        check(11_520.0, "3h12m");
        check(356_400.0, "4d3h");
    }
}
