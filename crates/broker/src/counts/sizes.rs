//! How large the bodies of published messages are, in RabbitMQ's buckets (`message_size_bytes`).

use std::ops::AddAssign;

use super::counter::Counter;

/// Body sizes of published messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeHistogram {
    /// Messages by bucket, each counted in the lowest that holds it; the last is for those above all
    /// [`BOUNDS_BYTES`](Self::BOUNDS_BYTES).
    pub counts: [u64; SizeHistogram::BUCKETS],
    /// Octets of all bodies together.
    pub sum_bytes: u64,
}

impl SizeHistogram {
    /// The largest body of each bucket but the last, octets.
    pub const BOUNDS_BYTES: [u64; 8] =
        [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];
    /// How many buckets there are.
    pub const BUCKETS: usize = Self::BOUNDS_BYTES.len() + 1;

    /// Messages of any size.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl AddAssign for SizeHistogram {
    fn add_assign(&mut self, other: Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum_bytes += other.sum_bytes;
    }
}

/// The same while it grows, written by one.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    counts: [Counter; SizeHistogram::BUCKETS],
    sum_bytes: Counter,
}

impl Sizes {
    #[inline]
    pub(super) fn add(&self, size_bytes: u64) {
        self.counts[bucket(size_bytes)].add(1);
        self.sum_bytes.add(size_bytes);
    }

    pub(super) fn snapshot(&self) -> SizeHistogram {
        let counts = std::array::from_fn(|at| self.counts[at].value());
        SizeHistogram { counts, sum_bytes: self.sum_bytes.value() }
    }
}

/// Small ones first, as most are.
#[inline]
fn bucket(size_bytes: u64) -> usize {
    let bounds = &SizeHistogram::BOUNDS_BYTES;
    bounds.iter().position(|bound| size_bytes <= *bound).unwrap_or(bounds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_counted_in_the_lowest_bucket_that_holds_it() {
        let check = |size_bytes, expected| assert_eq!(bucket(size_bytes), expected, "{size_bytes}");
        check(0, 0);
        check(100, 0);
        check(101, 1);
        check(1_000_000, 4);
        check(100_000_000, 7);
        check(100_000_001, 8);
    }

    #[test]
    fn histograms_add_up() {
        let sizes = Sizes::default();
        [1, 100, 5_000].iter().for_each(|size| sizes.add(*size));
        let mut twice = sizes.snapshot();
        twice += sizes.snapshot();
        assert_eq!((twice.count(), twice.sum_bytes), (6, 10_202));
        assert_eq!(twice.counts[..3], [4, 0, 2]);
    }
}
