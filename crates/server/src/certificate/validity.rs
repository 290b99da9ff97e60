//! Until when a certificate is valid.

use super::der::Der;

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a validity (RFC 5280, 4.1.2.5), s since 1970; `None` if it cannot be read or is before 1970.
pub(super) fn not_after_s(mut validity: Der<'_>) -> Option<u64> {
    validity.next()?;
    let (tag, text) = validity.next()?;
    let text = text.strip_suffix(b"Z")?;
    let year_digits = match tag {
        UTC_TIME => 2,
        GENERALIZED_TIME => 4,
        _ => return None,
    };
    let (year, rest) = text.split_at_checked(year_digits)?;
    let year = match (tag, number(year)?) {
        // Two digits: 1950 to 2049.
        (UTC_TIME, year) => year + if year < 50 { 2000 } else { 1900 },
        (_, year) => year,
    };
    let parts: Vec<u64> = rest.chunks(2).map(number).collect::<Option<_>>()?;
    let &[month @ 1..=12, day @ 1..=31, hour @ 0..=23, minute @ 0..=59, second @ 0..=60] = &*parts else {
        return None;
    };
    Some(days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Option<u64> {
    let all_digits = digits.iter().all(u8::is_ascii_digit) && digits.len() >= 2;
    all_digits.then(|| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// Days since 1970 of a date, by eras of 400 years that begin in March: Howard Hinnant's `days_from_civil`.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_validity_is_read_in_both_forms() {
        let check = |tag: u8, text: &str, expected: Option<u64>| {
            let mut octets = vec![UTC_TIME, 13];
            octets.extend_from_slice(b"700101000000Z");
            octets.extend_from_slice(&[tag, text.len() as u8]);
            octets.extend_from_slice(text.as_bytes());
            assert_eq!(not_after_s(Der(&octets)), expected, "{text}");
            assert_eq!(not_after_s(Der(&octets[..octets.len() - 1])), None, "{text}, cut");
        };
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "261121170308Z", Some(1_795_280_588));
        check(UTC_TIME, "000229000000Z", Some(951_782_400));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(UTC_TIME, "500101000000Z", None);
        check(GENERALIZED_TIME, "20991231235959Z", Some(4_102_444_799));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        check(GENERALIZED_TIME, "20261321000000Z", None);
        check(GENERALIZED_TIME, "2026112100000Z", None);
        check(UTC_TIME, "2611211703+1Z", None);
        check(UTC_TIME, "261121170308", None);
        check(0x13, "261121170308Z", None);
    }
}
