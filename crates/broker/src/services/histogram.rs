//! How long answers took: a histogram of fixed size whose buckets grow with the value.
//!
//! ```text
//!   µs      0 … 31 │ 32 … 63 │ 64, 66 … 126 │ 128, 132 … 252 │ …  up to 2^36 µs, 19 hours
//!   width        1 │       1 │            2 │              4 │ …  32 buckets for each power of two
//! ```
//!
//! A bucket is at most 1/32 of its values wide, and its middle stands for all of them: what is read back is
//! within 1.6 % of what was put in. 4 KiB, whatever the number of values.

/// Buckets for each power of two.
const STEPS: usize = 32;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// The powers of two that are told apart: one row of [`STEPS`] buckets for each, the first for all below 32 µs.
const ROWS: usize = 32;
const VALUE_MAX_US: u64 = (1 << (STEPS_LOG2 + ROWS as u32 - 1)) - 1;

/// Durations in microseconds, counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u32; ROWS * STEPS]>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: Box::new([0; ROWS * STEPS]), count: 0, sum_us: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts one duration. What is longer than 19 hours counts as that long.
    pub fn record(&mut self, value_us: u64) {
        let bucket = &mut self.buckets[bucket_of(value_us)];
        *bucket = bucket.saturating_add(1);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(value_us);
        self.max_us = self.max_us.max(value_us);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All of them together, exactly.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The longest, exactly; 0: none.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// The duration that `percent` of the values do not exceed, within 1.6 %; `None`: nothing was counted.
    pub fn percentile_us(&self, percent: f64) -> Option<u64> {
        let counted: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let rank = ((percent / 100.0 * counted as f64).ceil() as u64).clamp(1, counted.max(1));
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += u64::from(*count);
            below >= rank
        })?;
        Some(middle_us(bucket).min(self.max_us))
    }

    /// How many values did not exceed `limit_us`, as far as buckets tell: for a coarser histogram.
    pub fn count_up_to(&self, limit_us: u64) -> u64 {
        let within = (0..self.buckets.len()).take_while(|bucket| middle_us(*bucket) <= limit_us);
        within.map(|bucket| u64::from(self.buckets[bucket])).sum()
    }
}

fn bucket_of(value_us: u64) -> usize {
    let value = value_us.min(VALUE_MAX_US);
    if value < STEPS as u64 {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS_LOG2;
    (shift as usize + 1) * STEPS + (value >> shift) as usize - STEPS
}

fn middle_us(bucket: usize) -> u64 {
    let (row, step) = (bucket / STEPS, bucket % STEPS);
    if row == 0 {
        return step as u64;
    }
    let shift = row - 1;
    (((STEPS + step) as u64) << shift) + ((1 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_near_the_middle_of_its_bucket() {
        let powers = (0..36).flat_map(|power| [1 << power, (1 << power) + 1, (2 << power) - 1]);
        for value in powers.chain(0..5000).chain([VALUE_MAX_US]) {
            let read = middle_us(bucket_of(value));
            assert!(read.abs_diff(value) as f64 <= value as f64 * 0.016, "{value} read back as {read}");
        }
        assert_eq!(bucket_of(VALUE_MAX_US), ROWS * STEPS - 1);
        assert_eq!(bucket_of(u64::MAX), ROWS * STEPS - 1);
    }

    #[test]
    fn buckets_follow_each_other() {
        for bucket in 1..ROWS * STEPS {
            assert_eq!(bucket_of(middle_us(bucket)), bucket);
            assert!(middle_us(bucket) > middle_us(bucket - 1));
        }
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let check = |values: &[u64]| {
            let mut histogram = Histogram::default();
            values.iter().for_each(|value| histogram.record(*value));
            let mut sorted = values.to_vec();
            sorted.sort_unstable();
            for percent in [0.0, 1.0, 50.0, 95.0, 99.0, 99.9, 100.0] {
                let rank = ((percent / 100.0 * sorted.len() as f64).ceil() as usize).max(1);
                let (exact, read) = (sorted[rank - 1], histogram.percentile_us(percent).unwrap());
                let near = read.abs_diff(exact) as f64 <= exact as f64 * 0.016;
                assert!(near, "p{percent} of {} values: {read} instead of {exact}", sorted.len());
            }
            assert_eq!(histogram.sum_us(), values.iter().sum::<u64>());
            assert_eq!(histogram.max_us(), *sorted.last().unwrap());
        };
        check(&[7]);
        check(&[1, 1_000_000]);
        check(&(1..=1000).collect::<Vec<u64>>());
        check(&(1..=1000).map(|n| n * n).rev().collect::<Vec<u64>>());
        check(&(0..10_000).map(|n| (n * 2_654_435_761) % 60_000_000).collect::<Vec<u64>>());
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Histogram::default().percentile_us(50.0), None);
        assert!(size_of_val(&*Histogram::default().buckets) <= 4096);
    }

    #[test]
    fn coarser_buckets_hold_what_the_finer_ones_hold() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value * 1000));
        let check = |limit_us, expected: u64| {
            let counted = histogram.count_up_to(limit_us);
            assert!(counted.abs_diff(expected) <= 16, "{counted} up to {limit_us} µs");
        };
        check(0, 0);
        check(100_000, 100);
        check(500_000, 500);
        check(u64::MAX, 1000);
    }
}
