//! What becomes different about a message on its way.

use std::time::{SystemTime, UNIX_EPOCH};

use leveret_client::Delivery;
use leveret_wire::{FieldTable, FieldValue, Properties};

/// Header of a message that may be at the destination twice: its source delivered it before, so an earlier run may have
/// published it. A table: `redelivered` is true, `queue` names the queue it was taken from.
pub const MIGRATED_HEADER: &str = "x-leveret-migrated";

/// Where a migrated message keeps what the destination would act on.
const KEPT_CC: &str = "x-leveret-cc";
const KEPT_USER_ID: &str = "x-leveret-user-id";
/// The headers of RabbitMQ's shovel.
const SHOVELLED: &str = "x-shovelled";
const SHOVELLED_AT: &str = "x-shovelled-timestamp";

/// What is changed about every message. The default changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Properties to replace: those that are present.
    pub properties: Properties,
    /// Says where the message came by, in front of the list in header `x-shovelled`.
    pub forwarded: Option<FieldTable>,
    /// Says when, in seconds since 1970, in header `x-shovelled-timestamp`.
    pub timestamp: bool,
    /// Marks messages that the source delivered before with [`MIGRATED_HEADER`].
    pub mark_redelivered: bool,
    /// Puts aside what would make the destination refuse a message that is moved, or copy it: the user who published it
    /// first goes to header `x-leveret-user-id`, the list in header `CC` to `x-leveret-cc`.
    pub put_aside: bool,
}

impl Changes {
    /// The properties to publish with, and whether they carry the mark.
    pub(crate) fn apply(&self, delivery: &Delivery, queue: &str) -> (Properties, bool) {
        let mut properties = delivery.properties().to_properties();
        replace(&mut properties, &self.properties);
        if let Some(entry) = &self.forwarded {
            prepend(headers(&mut properties), entry);
        }
        if self.timestamp {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            headers(&mut properties).insert(SHOVELLED_AT, FieldValue::I64(now as i64));
        }
        if self.put_aside {
            put_aside(&mut properties);
        }
        let is_marked = self.mark_redelivered && delivery.redelivered;
        if is_marked {
            let queue = FieldValue::LongString(queue.as_bytes().to_vec());
            let mark = [("redelivered".to_owned(), FieldValue::Bool(true)), ("queue".to_owned(), queue)];
            headers(&mut properties).insert(MIGRATED_HEADER, FieldValue::Table(FieldTable(mark.into())));
        }
        (properties, is_marked)
    }
}

fn headers(properties: &mut Properties) -> &mut FieldTable {
    properties.headers.get_or_insert_with(FieldTable::new)
}

fn prepend(headers: &mut FieldTable, entry: &FieldTable) {
    let mut stations = vec![FieldValue::Table(entry.clone())];
    stations
        .extend(headers.get(SHOVELLED).and_then(FieldValue::as_array).unwrap_or_default().iter().cloned());
    headers.insert(SHOVELLED, FieldValue::Array(stations));
}

fn put_aside(properties: &mut Properties) {
    if let Some(user_id) = properties.user_id.take() {
        headers(properties).insert(KEPT_USER_ID, FieldValue::LongString(user_id));
    }
    if let Some(cc) = properties.headers.as_mut().and_then(|headers| headers.remove("CC")) {
        headers(properties).insert(KEPT_CC, cc);
    }
}

/// Puts the properties that are present in `by` in the place of those that are there. Headers are added one by one.
fn replace(properties: &mut Properties, by: &Properties) {
    let text = |old: &mut Option<Vec<u8>>, new: &Option<Vec<u8>>| {
        if new.is_some() {
            old.clone_from(new);
        }
    };
    text(&mut properties.content_type, &by.content_type);
    text(&mut properties.content_encoding, &by.content_encoding);
    text(&mut properties.correlation_id, &by.correlation_id);
    text(&mut properties.reply_to, &by.reply_to);
    text(&mut properties.expiration, &by.expiration);
    text(&mut properties.message_id, &by.message_id);
    text(&mut properties.kind, &by.kind);
    text(&mut properties.user_id, &by.user_id);
    text(&mut properties.app_id, &by.app_id);
    text(&mut properties.cluster_id, &by.cluster_id);
    properties.delivery_mode = by.delivery_mode.or(properties.delivery_mode);
    properties.priority = by.priority.or(properties.priority);
    properties.timestamp = by.timestamp.or(properties.timestamp);
    for (name, value) in by.headers.iter().flat_map(FieldTable::iter) {
        headers(properties).insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_destination_would_act_on_is_put_aside() {
        let cc = FieldValue::Array(vec![FieldValue::LongString(b"other".to_vec())]);
        let headers = FieldTable(vec![("CC".into(), cc.clone()), ("a".into(), FieldValue::I32(1))]);
        let mut properties =
            Properties { user_id: Some(b"me".to_vec()), headers: Some(headers), ..Default::default() };
        put_aside(&mut properties);
        let expected = vec![
            ("a".to_owned(), FieldValue::I32(1)),
            (KEPT_USER_ID.to_owned(), FieldValue::LongString(b"me".to_vec())),
            (KEPT_CC.to_owned(), cc),
        ];
        assert_eq!((properties.user_id, properties.headers), (None, Some(FieldTable(expected))));
        let mut plain = Properties::default();
        put_aside(&mut plain);
        assert_eq!(plain, Properties::default());
    }

    #[test]
    fn stations_are_listed_the_last_in_front() {
        let station = |name: &str| FieldTable::from([("shovel-name", name)]);
        let mut headers = FieldTable::new();
        prepend(&mut headers, &station("first"));
        prepend(&mut headers, &station("second"));
        let listed = [station("second"), station("first")].map(FieldValue::Table);
        assert_eq!(headers.get(SHOVELLED), Some(&FieldValue::Array(listed.into())));
    }

    #[test]
    fn only_present_properties_are_replaced() {
        let mut properties =
            Properties { priority: Some(3), app_id: Some(b"a".to_vec()), ..Default::default() };
        let by = Properties { delivery_mode: Some(2), app_id: Some(b"b".to_vec()), ..Default::default() };
        replace(&mut properties, &by);
        let expected = Properties { priority: Some(3), ..by };
        assert_eq!(properties, expected);
    }
}
