//! How long a message asks to wait before it is delivered: the headers that say so.
//!
//! | header | value | whose |
//! |---|---|---|
//! | `x-delay` | ms | the delayed-message plugin of RabbitMQ, LavinMQ |
//! | `x-opt-delivery-delay` | ms | the delayed queues of Tanzu RabbitMQ, ActiveMQ |
//! | `x-opt-delivery-time` | ms since 1970 | likewise |
//!
//! The first one that is there counts. As in the plugin a number may also be text or have a fraction, which is cut
//! off; what is no number delays nothing.

use leveret_wire::{FieldValue, Properties, RawProperties};

use crate::stamp::Stamp;

const DELAY_HEADERS: [&str; 2] = ["x-delay", "x-opt-delivery-delay"];
const TIME_HEADER: &str = "x-opt-delivery-time";

/// Whether a message asks to wait at all.
pub(crate) fn is_asked(properties: RawProperties<'_>) -> bool {
    asked(properties).is_some()
}

/// What the store keeps beside a message that waits: when it is due.
pub(crate) fn stamp(properties: RawProperties<'_>, now_ms: u64) -> Stamp {
    Stamp::due_at(match asked(properties) {
        None => now_ms,
        Some(Asked::Delay(delay_ms)) => now_ms.saturating_add(delay_ms),
        Some(Asked::Time(at_ms)) => at_ms.max(now_ms),
    })
}

enum Asked {
    Delay(u64),
    Time(u64),
}

fn asked(properties: RawProperties<'_>) -> Option<Asked> {
    let headers = properties.headers()?;
    match DELAY_HEADERS.iter().find_map(|header| headers.find(header)) {
        Some(delay) => milliseconds(&delay).map(Asked::Delay),
        None => milliseconds(&headers.find(TIME_HEADER)?).map(Asked::Time),
    }
}

/// The properties of a message that has waited. Its headers are negative now, as the plugin has it: consumers see that
/// there was a delay, and a dead letter that comes by again does not wait again.
pub(crate) fn waited(properties: RawProperties<'_>) -> Properties {
    let mut properties = properties.to_properties();
    let headers = properties.headers.iter_mut().flat_map(|headers| &mut headers.0);
    for (_, value) in headers.filter(|(key, _)| DELAY_HEADERS.contains(&key.as_str()) || key == TIME_HEADER) {
        if let Some(delay_ms) = milliseconds(value) {
            *value = negative(delay_ms);
        }
    }
    properties
}

/// Above zero, or `None`.
fn milliseconds(value: &FieldValue) -> Option<u64> {
    let number = match value {
        FieldValue::LongString(_) => value.as_str()?.trim().parse().ok()?,
        FieldValue::F32(number) => *number as u64, // saturates; what is no number becomes 0
        FieldValue::F64(number) => *number as u64,
        FieldValue::Decimal { scale, value } => decimal(*scale, *value)?,
        FieldValue::Timestamp(seconds) => seconds.saturating_mul(1000),
        other => u64::try_from(other.as_i64()?).ok()?,
    };
    (number > 0).then_some(number)
}

fn decimal(scale: u8, value: i32) -> Option<u64> {
    let whole = i64::from(value).checked_div(10_i64.checked_pow(scale.into())?)?;
    u64::try_from(whole).ok()
}

/// The plugin writes a 32-bit integer whatever it was; longer delays need more.
fn negative(delay_ms: u64) -> FieldValue {
    let delay_ms = i64::try_from(delay_ms).unwrap_or(i64::MAX);
    match i32::try_from(-delay_ms) {
        Ok(short) => FieldValue::I32(short),
        Err(_) => FieldValue::I64(-delay_ms),
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::FieldTable;

    use super::*;

    const NOW_MS: u64 = 1_000;

    fn properties(headers: &[(&str, FieldValue)]) -> Vec<u8> {
        let table = headers.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        Properties { headers: Some(FieldTable(table)), ..Properties::default() }.encode().unwrap()
    }

    fn text(text: &str) -> FieldValue {
        FieldValue::LongString(text.as_bytes().to_vec())
    }

    /// How long such a message waits; 0: not at all.
    fn delay_ms(headers: &[(&str, FieldValue)]) -> u64 {
        let properties = properties(headers);
        let properties = RawProperties::parse(&properties).unwrap();
        let delay_ms = stamp(properties, NOW_MS).due_ms() - NOW_MS;
        assert!(is_asked(properties) || delay_ms == 0);
        delay_ms
    }

    #[test]
    fn a_delay_is_any_number_above_zero() {
        let check = |value: FieldValue, expected: u64| {
            assert_eq!(delay_ms(&[("x-delay", value.clone())]), expected, "{value:?}");
        };
        check(FieldValue::I32(5), 5);
        check(FieldValue::U8(255), 255);
        check(FieldValue::I64(i64::MAX), i64::MAX as u64);
        check(FieldValue::I32(0), 0);
        check(FieldValue::I32(-5), 0);
        check(text("31536000000"), 31_536_000_000);
        check(text("18446744073709551615"), u64::MAX - NOW_MS);
        check(text("soon"), 0);
        check(text("-1"), 0);
        check(FieldValue::F64(1500.9), 1500);
        check(FieldValue::F32(f32::NAN), 0);
        check(FieldValue::Decimal { scale: 1, value: 155 }, 15);
        check(FieldValue::Decimal { scale: 200, value: 155 }, 0);
        check(FieldValue::Void, 0);
    }

    #[test]
    fn the_first_header_counts() {
        let check = |headers: &[(&str, FieldValue)], expected: u64| {
            assert_eq!(delay_ms(headers), expected, "{headers:?}");
        };
        let time = |value| ("x-opt-delivery-time", value);
        check(&[("x-opt-delivery-delay", FieldValue::I32(7))], 7);
        check(&[time(FieldValue::I64(9_000))], 8_000);
        check(&[time(FieldValue::I64(999))], 0);
        check(&[time(FieldValue::Timestamp(9))], 8_000);
        check(&[("x-delay", FieldValue::I32(3)), time(FieldValue::I64(9_000))], 3);
        check(&[("x-delay", FieldValue::I32(-3)), time(FieldValue::I64(9_000))], 0);
        check(&[], 0);
    }

    #[test]
    fn who_has_waited_does_not_wait_again() {
        let check = |header: &str, value: FieldValue, expected: FieldValue| {
            let before = properties(&[(header, value), ("colour", text("red"))]);
            let after = waited(RawProperties::parse(&before).unwrap());
            let headers = after.headers.as_ref().unwrap();
            assert_eq!((headers.get(header), headers.get("colour")), (Some(&expected), Some(&text("red"))));
            assert!(!is_asked(RawProperties::parse(&after.encode().unwrap()).unwrap()));
        };
        check("x-delay", FieldValue::I32(5_000), FieldValue::I32(-5_000));
        check("x-delay", FieldValue::U16(5), FieldValue::I32(-5));
        check("x-delay", text("5"), FieldValue::I32(-5));
        check("x-delay", FieldValue::I64(31_536_000_000), FieldValue::I64(-31_536_000_000));
        check("x-delay", text("18446744073709551615"), FieldValue::I64(-i64::MAX));
        check("x-opt-delivery-time", FieldValue::Timestamp(9), FieldValue::I32(-9_000));
    }
}
