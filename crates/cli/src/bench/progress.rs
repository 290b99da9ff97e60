//! How the load goes, on stderr: one line that changes on a terminal, else a line per sample.

use std::io::{self, Write};

use leveret_bench::figure::readable;
use leveret_bench::observe::{Phase, Sample};

/// Where samples are shown, if anywhere.
pub(super) enum Progress {
    Hidden,
    /// A line that is written over.
    Line,
    Lines,
}

impl Progress {
    /// On a terminal always, elsewhere if it is asked for.
    pub(super) fn new(wanted: bool, is_terminal: bool) -> Progress {
        match (wanted, is_terminal) {
            (_, true) => Progress::Line,
            (true, false) => Progress::Lines,
            (false, false) => Progress::Hidden,
        }
    }

    pub(super) fn show(&mut self, title: &str, sample: Sample) {
        let text = line(title, sample);
        // Nobody may be reading any more; the load goes on.
        let _ = match self {
            Progress::Hidden => Ok(()),
            Progress::Line => write!(io::stderr(), "\r\x1b[K{text}"),
            Progress::Lines => writeln!(io::stderr(), "{text}"),
        };
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if let Progress::Line = self {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(title: &str, sample: Sample) -> String {
    let phase = match sample.phase {
        Phase::WarmUp => "warming up",
        Phase::Measuring => "measuring",
        Phase::Filling => "filling",
        Phase::Draining => "draining",
    };
    let memory = sample.broker_mib.map_or(String::new(), |mib| format!(", broker {} MiB", readable(mib)));
    format!(
        "{title}{phase} {:.0} s: {}/s in, {}/s out{memory}",
        sample.at.as_secs_f64(),
        readable(sample.sent_per_second),
        readable(sample.received_per_second)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_sample_is_a_line() {
        let sample = Sample {
            phase: Phase::Measuring,
            at: Duration::from_secs(4),
            sent_per_second: 123_456.0,
            received_per_second: 42.0,
            broker_mib: Some(9.5),
        };
        let expected = "round 1/3 measuring 4 s: 123,456/s in, 42.0/s out, broker 9.50 MiB";
        assert_eq!(line("round 1/3 ", sample), expected);
    }
}
