//! Which messages of a stream a consumer wants (`x-stream-filter`): by the value that their publisher gave them.
//!
//! RabbitMQ only skips chunks that surely hold nothing wanted, and consumers filter again. We leave out every single
//! message that was not asked for.

use leveret_wire::{FieldTable, FieldValue, RawProperties};

/// The header in which a publisher says what a message is filtered by.
const VALUE_HEADER: &str = "x-stream-filter-value";

/// What a consumer asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    values: Vec<String>,
    /// Messages without a value are wanted too.
    with_unfiltered: bool,
}

impl Filter {
    /// Reads a consumer's arguments; `Ok(None)`: it wants everything.
    ///
    /// # Errors
    /// The name of the argument that is invalid.
    pub fn parse(arguments: &FieldTable) -> Result<Option<Self>, &'static str> {
        let with_unfiltered = match arguments.get("x-stream-match-unfiltered") {
            None => false,
            Some(value) => value.as_bool().ok_or("x-stream-match-unfiltered")?,
        };
        let Some(wanted) = arguments.get("x-stream-filter") else { return Ok(None) };
        let text = |value: &FieldValue| value.as_str().map(str::to_owned).ok_or("x-stream-filter");
        let values = match wanted {
            FieldValue::Array(values) => values.iter().map(text).collect::<Result<Vec<_>, _>>()?,
            value => vec![text(value)?],
        };
        Ok((!values.is_empty()).then_some(Self { values, with_unfiltered }))
    }

    /// Whether a message is wanted.
    pub fn wants(&self, properties: RawProperties<'_>) -> bool {
        let value = properties.headers().and_then(|headers| headers.find(VALUE_HEADER));
        match value.as_ref().and_then(FieldValue::as_str) {
            Some(value) => self.values.iter().any(|wanted| wanted == value),
            None => self.with_unfiltered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leveret_wire::Properties;

    fn parsed(pairs: &[(&str, FieldValue)]) -> Result<Option<Filter>, &'static str> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        Filter::parse(&FieldTable(pairs.collect()))
    }

    #[test]
    fn arguments_are_a_text_or_several() {
        assert_eq!(parsed(&[]), Ok(None));
        assert_eq!(parsed(&[("x-stream-match-unfiltered", true.into())]), Ok(None));
        let array = |values: Vec<FieldValue>| [("x-stream-filter", FieldValue::Array(values))];
        assert_eq!(parsed(&array(Vec::new())), Ok(None));
        assert!(parsed(&array(vec!["a".into(), "b".into()])).unwrap().is_some());
        assert_eq!(parsed(&array(vec![1.into()])), Err("x-stream-filter"));
        assert_eq!(parsed(&[("x-stream-filter", 1.into())]), Err("x-stream-filter"));
        assert_eq!(parsed(&[("x-stream-match-unfiltered", 1.into())]), Err("x-stream-match-unfiltered"));
    }

    #[test]
    fn only_what_was_asked_for_is_wanted() {
        let check = |unfiltered: bool, value: Option<&str>, expected: bool| {
            let wanted = FieldValue::Array(vec!["a".into(), "b".into()]);
            let filter =
                parsed(&[("x-stream-filter", wanted), ("x-stream-match-unfiltered", unfiltered.into())]);
            let headers = value.map(|value| FieldTable(vec![(VALUE_HEADER.into(), value.into())]));
            let octets = Properties { headers, ..Properties::default() }.encode().unwrap();
            let wants = filter.unwrap().unwrap().wants(RawProperties::from_validated(&octets));
            assert_eq!(wants, expected, "{unfiltered} {value:?}");
        };
        check(false, Some("a"), true);
        check(false, Some("b"), true);
        check(true, Some("c"), false);
        check(false, None, false);
        check(true, None, true);
    }
}
