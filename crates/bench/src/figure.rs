//! Single numbers with a name, and what several rounds of them amount to.

/// One number of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured, the same text in every run of a plan.
    pub name: &'static str,
    /// Unit of `value`.
    pub unit: &'static str,
    /// Which direction is better.
    pub better: Better,
    /// The number.
    pub value: f64,
}

/// Which of two numbers is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger one: messages a second.
    Higher,
    /// The smaller one: latencies, CPU time, memory, what is lost.
    Lower,
}

impl Figure {
    /// A number that should be large.
    pub fn higher(name: &'static str, unit: &'static str, value: f64) -> Figure {
        Figure { name, unit, better: Better::Higher, value }
    }

    /// A number that should be small.
    pub fn lower(name: &'static str, unit: &'static str, value: f64) -> Figure {
        Figure { name, unit, better: Better::Lower, value }
    }
}

impl Better {
    /// How many times better `value` is than `base`; None if one of them is 0 or no number.
    pub fn ratio(self, base: f64, value: f64) -> Option<f64> {
        let ratio = if self == Better::Higher { value / base } else { base / value };
        Some(ratio).filter(|ratio| ratio.is_finite() && *ratio > 0.0)
    }
}

/// The middle of `values`; of an even number of them, between the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// A number for reading: three digits or more, thousands apart.
pub fn readable(value: f64) -> String {
    if value.abs() < 9.995 {
        return format!("{value:.2}");
    }
    if value.abs() < 99.95 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_reading() {
        for (value, expected) in
            [(0.5, "0.50"), (9.999, "10.0"), (42.25, "42.2"), (999.6, "1,000"), (1_234_567.0, "1,234,567")]
        {
            assert_eq!(readable(value), expected);
        }
    }

    #[test]
    fn medians_and_ratios() {
        assert_eq!(
            [median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])],
            [None, Some(2.0), Some(2.5)]
        );
        assert_eq!(Better::Higher.ratio(10.0, 20.0), Some(2.0));
        assert_eq!(Better::Lower.ratio(10.0, 20.0), Some(0.5));
        assert_eq!(Better::Lower.ratio(0.0, 20.0), None);
    }
}
