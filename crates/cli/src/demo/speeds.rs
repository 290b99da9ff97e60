//! Who was asked, who answered, and how long the asker waited.

use std::time::Duration;

/// Waiting times by who was asked and who answered, in the order of their first answers.
#[derive(Default)]
pub(super) struct Speeds(Vec<Answerer>);

struct Answerer {
    asked: String,
    name: String,
    times: Vec<Duration>,
}

impl Speeds {
    /// Notes an answer.
    pub(super) fn note(&mut self, asked: &str, answered_by: &str, took: Duration) {
        match self.0.iter_mut().find(|known| known.asked == asked && known.name == answered_by) {
            Some(known) => known.times.push(took),
            None => {
                let (asked, name) = (asked.to_owned(), answered_by.to_owned());
                self.0.push(Answerer { asked, name, times: vec![took] });
            }
        }
    }

    /// A line per answerer, under a line of titles; columns line up.
    pub(super) fn table(&self) -> Vec<String> {
        let titles = ["ASKED", "ANSWERED BY", "ANSWERS", "P50", "P99"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(titles).chain(self.0.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let [asked, by, answers, p50, p99] = [0, 1, 2, 3, 4].map(width);
        let line = |[a, b, c, d, e]: &[String; 5]| {
            format!("{a:<asked$}  {b:<by$}  {c:>answers$}  {d:>p50$}  {e:>p99$}")
        };
        rows.iter().map(line).collect()
    }
}

fn row(answerer: &Answerer) -> [String; 5] {
    let mut times = answerer.times.clone();
    times.sort_unstable();
    let shown = |percent| format!("{:.2} ms", percentile(&times, percent).as_secs_f64() * 1e3);
    [answerer.asked.clone(), answerer.name.clone(), times.len().to_string(), shown(50), shown(99)]
}

/// The time that so many percent did not exceed; of sorted times.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Vec<Duration> {
        (1..=count).map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let check = |count, percent, expected_ms| {
            assert_eq!(percentile(&ms(count), percent), Duration::from_millis(expected_ms));
        };
        check(100, 50, 50);
        check(100, 99, 99);
        check(200, 99, 198);
        check(3, 50, 2);
        check(3, 99, 3);
        check(1, 50, 1);
        check(0, 99, 0);
    }

    #[test]
    fn a_table_lines_up() {
        let mut speeds = Speeds::default();
        for time in ms(3) {
            speeds.note("rpc_queue", "rpc_queue/ab", time);
        }
        let table = speeds.table();
        assert_eq!(table[0], "ASKED      ANSWERED BY   ANSWERS      P50      P99");
        assert_eq!(table[1], "rpc_queue  rpc_queue/ab        3  2.00 ms  3.00 ms");
    }
}
