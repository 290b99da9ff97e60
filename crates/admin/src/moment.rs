//! Moments as text.

/// `2026-11-21T17:01:37.568+00:00`: RabbitMQ's form for what has milliseconds.
pub(crate) fn rfc3339(at_ms: u64) -> String {
    let (date, time) = date_and_time(at_ms / 1000);
    format!("{date}T{time}.{:03}+00:00", at_ms % 1000)
}

/// `2026-11-21 17:03:08`: its form for what has seconds.
pub(crate) fn in_seconds(at_s: u64) -> String {
    let (date, time) = date_and_time(at_s);
    format!("{date} {time}")
}

fn date_and_time(at_s: u64) -> (String, String) {
    let (days, of_day) = (at_s / 86_400, at_s % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{hour:02}:{minute:02}:{second:02}"))
}

/// Year, month and day of a number of days since 1970, by eras of 400 years that begin in March: Howard Hinnant's
/// `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
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
    #[test]
    fn times_are_rabbitmqs() {
        let check = |since_s, expected: &str| assert_eq!(in_seconds(since_s), expected);
        check(0, "1970-01-01 00:00:00");
        check(951_782_400, "2000-02-29 00:00:00");
        check(1_795_280_588, "2026-11-21 17:03:08");
        check(4_107_542_399, "2100-02-28 23:59:59");
        check(4_107_542_400, "2100-03-01 00:00:00");
    }
}
