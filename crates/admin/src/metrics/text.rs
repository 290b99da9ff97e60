//! Prometheus' text format, written line by line.
//!
//! ```text
//!   # HELP rabbitmq_queues Queues available
//!   # TYPE rabbitmq_queues gauge
//!   rabbitmq_queues{vhost="/"} 5
//! ```

use std::fmt::Write;

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only grows.
    Counter,
    /// Counts by bucket.
    Histogram,
}

/// A label: its name, and its value as it is.
pub(super) type Label<'a> = (&'a str, &'a str);

/// The text so far.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a metric; all its samples follow.
    pub(super) fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample.
    pub(super) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: f64) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.0.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"");
            self.escaped(value);
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric with one sample and no labels.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The samples of a histogram: how many values were at most each bound, how many there were, and their sum.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[Label<'_>],
        up_to: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let bucket = format!("{name}_bucket");
        let with = |bound: &str, text: &mut Self, value: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            text.sample(&bucket, &labels, value as f64);
        };
        up_to.into_iter().for_each(|(bound, value)| with(&bound.to_string(), self, value));
        with("+Inf", self, count);
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count as f64);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                character => self.0.push(character),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_lines_with_escaped_labels() {
        let mut text = Text::default();
        text.single("a", Kind::Counter, "All of it", 3.0);
        text.metric("b", Kind::Gauge, "Some of it");
        text.sample("b", &[("q", "x\"\\\n{}"), ("v", "/")], 0.5);
        let expected = "# HELP a All of it\n# TYPE a counter\na 3\n\
                        # HELP b Some of it\n# TYPE b gauge\nb{q=\"x\\\"\\\\\\n{}\",v=\"/\"} 0.5\n";
        assert_eq!(String::from_utf8(text.into_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_histogram_ends_with_all_of_it() {
        let mut text = Text::default();
        text.histogram("h", &[("s", "x")], [(0.1, 1), (1.0, 3)], 4, 7.5);
        let expected = "h_bucket{s=\"x\",le=\"0.1\"} 1\nh_bucket{s=\"x\",le=\"1\"} 3\n\
                        h_bucket{s=\"x\",le=\"+Inf\"} 4\nh_sum{s=\"x\"} 7.5\nh_count{s=\"x\"} 4\n";
        assert_eq!(String::from_utf8(text.into_bytes()).unwrap(), expected);
    }
}
