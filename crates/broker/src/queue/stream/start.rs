//! Where a consumer of a stream starts to read (`x-stream-offset`).

use leveret_wire::FieldValue;

use super::Offset;
use crate::arguments::age_ms;

/// Where to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest message that is still there.
    First,
    /// The newest message. RabbitMQ starts with the last chunk, whatever that holds.
    Last,
    /// The next message to come.
    #[default]
    Next,
    /// The message with this offset: the oldest one when it is gone, and if it is yet to come, not before it.
    Offset(Offset),
    /// The first message published at or after this time, ms since 1970.
    Time(u64),
}

impl StartAt {
    /// Reads the argument at a time; `None` when it means nothing.
    pub fn parse(value: &FieldValue, now_ms: u64) -> Option<Self> {
        match value {
            FieldValue::Timestamp(seconds) => Some(Self::Time(seconds.saturating_mul(1000))),
            FieldValue::LongString(_) => match value.as_str()? {
                "first" => Some(Self::First),
                "last" => Some(Self::Last),
                "next" => Some(Self::Next),
                age => Some(Self::Time(now_ms.saturating_sub(age_ms(age)?))),
            },
            // RabbitMQ: below the first message is the first one.
            number => Some(Self::Offset(number.as_i64()?.max(0) as Offset)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_word_a_number_a_time_or_a_span() {
        let check = |value: FieldValue, expected: Option<StartAt>| {
            assert_eq!(StartAt::parse(&value, 10_000_000), expected, "{value:?}");
        };
        check("first".into(), Some(StartAt::First));
        check("last".into(), Some(StartAt::Last));
        check("next".into(), Some(StartAt::Next));
        check(5.into(), Some(StartAt::Offset(5)));
        check(FieldValue::I64(-1), Some(StartAt::Offset(0)));
        check(FieldValue::Timestamp(3), Some(StartAt::Time(3000)));
        check("1h".into(), Some(StartAt::Time(6_400_000)));
        check("1Y".into(), Some(StartAt::Time(0)));
        check("1".into(), None);
        check("second".into(), None);
        check(true.into(), None);
        check(FieldValue::Void, None);
    }
}
