//! Prometheus' text format and OpenMetrics, written line by line.
//!
//! ```text
//!   # HELP rabbitmq_queues Queues available
//!   # TYPE rabbitmq_queues gauge
//!   rabbitmq_queues{vhost="/"} 5
//! ```
//!
//! In OpenMetrics a counter is described without the `_total` of its samples, and the text has an end.

use std::fmt::Write;

/// The two ways to write metrics that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' own, 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a scraper with this `Accept` header gets: OpenMetrics if it names that at all, as Prometheus does.
    pub(crate) fn accepted(header: &str) -> Format {
        let named =
            |range: &str| range.split(';').next().map(str::trim) == Some("application/openmetrics-text");
        if header.split(',').any(named) { Self::OpenMetrics } else { Self::Text }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

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
pub(super) struct Text {
    format: Format,
    written: String,
}

impl Text {
    pub(super) fn new(format: Format) -> Text {
        Text { format, written: String::new() }
    }

    /// Begins a metric; all its samples follow.
    pub(super) fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let described = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.written, "# HELP {described} {help}\n# TYPE {described} {kind}\n");
    }

    /// A sample.
    pub(super) fn sample(&mut self, name: &str, labels: &[Label<'_>], value: f64) {
        self.written.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            self.written.push(if at == 0 { '{' } else { ',' });
            let _ = write!(self.written, "{label}=\"");
            self.escaped(value);
            self.written.push('"');
        }
        if !labels.is_empty() {
            self.written.push('}');
        }
        let _ = writeln!(self.written, " {value}");
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

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        if self.format == Format::OpenMetrics {
            self.written.push_str("# EOF\n");
        }
        self.written.into_bytes()
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.written.push_str("\\\\"),
                '"' => self.written.push_str("\\\""),
                '\n' => self.written.push_str("\\n"),
                character => self.written.push(character),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_lines_with_escaped_labels() {
        let mut text = Text::new(Format::Text);
        text.single("a", Kind::Counter, "All of it", 3.0);
        text.metric("b", Kind::Gauge, "Some of it");
        text.sample("b", &[("q", "x\"\\\n{}"), ("v", "/")], 0.5);
        let expected = "# HELP a All of it\n# TYPE a counter\na 3\n\
                        # HELP b Some of it\n# TYPE b gauge\nb{q=\"x\\\"\\\\\\n{}\",v=\"/\"} 0.5\n";
        assert_eq!(String::from_utf8(text.into_bytes()).unwrap(), expected);
    }

    #[test]
    fn openmetrics_describes_counters_without_total_and_has_an_end() {
        let mut text = Text::new(Format::OpenMetrics);
        text.single("a_total", Kind::Counter, "All of it", 3.0);
        text.single("b", Kind::Gauge, "Some of it", 1.0);
        let expected = "# HELP a All of it\n# TYPE a counter\na_total 3\n\
                        # HELP b Some of it\n# TYPE b gauge\nb 1\n# EOF\n";
        assert_eq!(String::from_utf8(text.into_bytes()).unwrap(), expected);
    }

    #[test]
    fn scrapers_get_what_they_take() {
        let check =
            |header: &str, expected: Format| assert_eq!(Format::accepted(header), expected, "{header}");
        check("", Format::Text);
        check("*/*", Format::Text);
        check("text/plain;version=0.0.4;q=0.5", Format::Text);
        check("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics);
        check("text/plain, application/openmetrics-text ; version=0.0.1", Format::OpenMetrics);
        check("application/openmetrics-textual", Format::Text);
    }

    #[test]
    fn a_histogram_ends_with_all_of_it() {
        let mut text = Text::new(Format::Text);
        text.histogram("h", &[("s", "x")], [(0.1, 1), (1.0, 3)], 4, 7.5);
        let expected = "h_bucket{s=\"x\",le=\"0.1\"} 1\nh_bucket{s=\"x\",le=\"1\"} 3\n\
                        h_bucket{s=\"x\",le=\"+Inf\"} 4\nh_sum{s=\"x\"} 7.5\nh_count{s=\"x\"} 4\n";
        assert_eq!(String::from_utf8(text.into_bytes()).unwrap(), expected);
    }
}
