//! Moments as text.

/// `2026-11-21T17:01:37.568+00:00`, as RabbitMQ writes it; days since 1970 become a date after Howard Hinnant's
/// `civil_from_days`.
pub(crate) fn rfc3339(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_a_date() {
        let check = |at_ms, expected| assert_eq!(rfc3339(at_ms), expected);
        check(0, "1970-01-01T00:00:00.000+00:00");
        check(951_782_399_999, "2000-02-28T23:59:59.999+00:00");
        check(951_782_400_000, "2000-02-29T00:00:00.000+00:00");
        check(1_795_280_497_568, "2026-11-21T17:01:37.568+00:00");
    }
}
