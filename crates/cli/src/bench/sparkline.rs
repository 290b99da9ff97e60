//! Numbers as a picture of characters.

const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const BAR_PARTS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// One column per value, as high as its share of `most`; at most `columns`, of several values their mean.
pub(super) fn sparkline(values: &[f64], most: f64, columns: usize) -> String {
    let width = values.len().div_ceil(columns.max(1)).max(1);
    let means = values.chunks(width).map(|chunk| chunk.iter().sum::<f64>() / chunk.len() as f64);
    means.map(|value| EIGHTHS[level(value / most, EIGHTHS.len() - 1)]).collect()
}

/// A bar of up to `columns` columns, `share` of them (0 to 1) long.
pub(super) fn bar(share: f64, columns: usize) -> String {
    let eighths = level(share, 8 * columns).max(1);
    let rest = (eighths % 8).checked_sub(1).map(|rest| BAR_PARTS[rest]);
    std::iter::repeat_n('█', eighths / 8).chain(rest).collect()
}

/// Where between 0 and `most` a share is.
fn level(share: f64, most: usize) -> usize {
    // A share that is no number, 0 of 0, is the lowest.
    (share.clamp(0.0, 1.0) * most as f64).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_columns() {
        assert_eq!(sparkline(&[0.0, 5.0, 10.0], 10.0, 60), "▁▅█");
        assert_eq!(sparkline(&[10.0, 10.0, 0.0, 0.0, 10.0], 10.0, 3), "█▁█");
        assert_eq!(sparkline(&[0.0], 0.0, 60), "▁");
        assert_eq!(sparkline(&[], 1.0, 60), "");
    }

    #[test]
    fn shares_become_bars() {
        for (share, expected) in [(1.0, "████"), (0.5, "██"), (0.0, "▏"), (0.28, "█▏"), (7.0, "████")]
        {
            assert_eq!(bar(share, 4), expected, "{share}");
        }
    }
}
