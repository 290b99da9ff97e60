//! What a parameter of component `shovel` means, with RabbitMQ's names and its texts for what makes no sense.

use std::time::Duration;

use leveret_shovel::{Changes, Give, Take, Transfer, Until};
use leveret_wire::{FieldTable, Properties};
use serde_json::{Map, Value, json};

use super::super::end::End;
use super::super::parameter::{self, Reader, shown};
use crate::json_table::table;

const RECONNECT_DELAY_S: u64 = 5;
const PREFETCH: u64 = 1_000;
/// So many messages may be in memory; more is taken as this.
const PREFETCH_MAX: u64 = 10_000;

/// A shovel as its parameter describes it.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) transfer: Transfer,
    pub(super) source: End,
    pub(super) destination: End,
    /// `None`: it is not started again.
    pub(super) reconnect_delay: Option<Duration>,
    /// What the status shows of it: no passwords.
    pub(super) shown: Map<String, Value>,
}

/// All that a parameter may have. Only AMQP 0-9-1 is spoken, so the protocols are `amqp091` or absent.
const FIELDS: [&str; 27] = [
    "src-protocol",
    "src-uri",
    "src-queue",
    "src-queue-args",
    "src-exchange",
    "src-exchange-key",
    "src-consumer-args",
    "src-prefetch-count",
    "src-delete-after",
    "dest-protocol",
    "dest-uri",
    "dest-queue",
    "dest-queue-args",
    "dest-exchange",
    "dest-exchange-key",
    "dest-publish-properties",
    "dest-add-forward-headers",
    "dest-add-timestamp-header",
    "prefetch-count",
    "delete-after",
    "add-forward-headers",
    "add-timestamp-header",
    "publish-properties",
    "ack-mode",
    "reconnect-delay",
    "src-predeclared",
    "dest-predeclared",
];

impl Definition {
    /// Reads the value of a parameter.
    ///
    /// # Errors
    /// What makes no sense, one line each.
    pub(super) fn parse(vhost: &str, name: &str, value: &str) -> Result<Definition, String> {
        let fields = parameter::object(name, value)?;
        let mut reader = Reader::new(name, &fields);
        reader.combinations();
        let definition = reader.definition(vhost);
        let unknown = reader.unknown(&FIELDS);
        reader.errors.extend(unknown);
        match (definition, reader.errors.is_empty()) {
            (Some(definition), true) => Ok(definition),
            (_, _) => Err(reader.errors.join("\n")),
        }
    }
}

impl Reader<'_> {
    fn combinations(&mut self) {
        let has = |name: &str| self.fields.contains_key(name);
        match (has("src-queue"), has("src-exchange")) {
            (false, false) => self.wrong("Must specify 'src-exchange' or 'src-queue'".to_owned()),
            (true, true) => self.wrong("Cannot specify 'src-exchange' and 'src-queue'".to_owned()),
            (_, _) => {}
        }
        if has("dest-queue") && has("dest-exchange") {
            self.wrong("Cannot specify 'dest-exchange' and 'dest-queue'".to_owned());
        }
        let counts = self.either("src-delete-after", "delete-after").is_some_and(|(_, after)| after.is_u64());
        if counts && self.fields.get("ack-mode").and_then(Value::as_str) == Some("no-ack") {
            self.wrong("Cannot specify 'no-ack' and numerical 'delete-after'".to_owned());
        }
    }

    /// Reads everything, so that everything that is wrong is named.
    fn definition(&mut self, vhost: &str) -> Option<Definition> {
        self.protocol("src-protocol");
        self.protocol("dest-protocol");
        let destination = self.end("dest-uri");
        let source = self.end("src-uri");
        let take = self.take();
        let give = self.give();
        let prefetch = self.number("src-prefetch-count", "prefetch-count", PREFETCH);
        let (ack_mode, until) = (self.ack_mode(), self.until());
        let delay_s = self.number("reconnect-delay", "reconnect-delay", RECONNECT_DELAY_S);
        let consumer_arguments = self.object("src-consumer-args").unwrap_or_default();
        let properties = self.properties();
        let forwards = self.flag("dest-add-forward-headers", "add-forward-headers");
        let timestamp = self.flag("dest-add-timestamp-header", "add-timestamp-header");
        let ((source, src_uri), (destination, dest_uri)) = (source?, destination?);
        let shown = self.shown(&src_uri, &dest_uri);
        let forwarded = forwards.then(|| self.station(vhost, &src_uri, &dest_uri));
        let changes = Changes { properties, forwarded, timestamp, ..Changes::default() };
        let prefetch = if prefetch == 0 { PREFETCH } else { prefetch.min(PREFETCH_MAX) } as u16;
        let transfer = Transfer {
            take,
            consumer_tag: String::new(),
            consumer_arguments,
            prefetch,
            give,
            changes,
            ack_mode,
            until,
            federation: None,
        };
        let reconnect_delay = (delay_s > 0).then(|| Duration::from_secs(delay_s));
        Some(Definition { transfer, source, destination, reconnect_delay, shown })
    }

    fn protocol(&mut self, name: &str) {
        match self.fields.get(name) {
            None => {}
            Some(Value::String(protocol)) if protocol == "amqp091" => {}
            Some(other) => {
                self.wrong(format!("{name} should be <<\"amqp091\">>, actually was {}", shown(other)))
            }
        }
    }

    fn until(&mut self) -> Until {
        let Some((name, after)) = self.either("src-delete-after", "delete-after") else {
            return Until::Stopped;
        };
        match (after.as_str(), after.as_u64()) {
            (Some("never"), _) => Until::Stopped,
            (Some("queue-length"), _) => Until::QueueLength,
            (_, Some(count)) => Until::Count(count),
            (_, None) => {
                self.wrong(format!(
                    "{name} should be a number greater than or equal to 0, \"never\" or \"queue-length\", actually \
                     was {}",
                    shown(after)
                ));
                Until::Stopped
            }
        }
    }

    fn take(&mut self) -> Take {
        let declare = self.object("src-queue-args").unwrap_or_default();
        let key = self.text("src-exchange-key").unwrap_or_default();
        match (self.text("src-queue"), self.text("src-exchange")) {
            (None, Some(name)) => Take::Exchange { name, key },
            (name, _) => Take::Queue { name: name.unwrap_or_default(), declare: Some(declare) },
        }
    }

    fn give(&mut self) -> Give {
        let declare = self.object("dest-queue-args").unwrap_or_default();
        let key = self.text("dest-exchange-key");
        match (self.text("dest-queue"), self.text("dest-exchange")) {
            (Some(name), _) => Give::Queue { name, declare: Some(declare) },
            (None, name) => Give::Exchange { name, key },
        }
    }

    fn properties(&mut self) -> Properties {
        let Some((name, value)) = self.either("dest-publish-properties", "publish-properties") else {
            return Properties::default();
        };
        let parsed = match value {
            Value::Object(fields) => properties(fields),
            other => Err(format!("should be an object, actually was {}", shown(other))),
        };
        parsed.unwrap_or_else(|what| {
            self.errors.push(format!("{name} {what}"));
            Properties::default()
        })
    }

    /// The names that RabbitMQ's status has.
    fn shown(&self, src_uri: &str, dest_uri: &str) -> Map<String, Value> {
        let mut shown = Map::new();
        let fixed = [
            ("src_uri", src_uri),
            ("dest_uri", dest_uri),
            ("src_protocol", "amqp091"),
            ("dest_protocol", "amqp091"),
        ];
        for (name, value) in fixed {
            shown.insert(name.to_owned(), json!(value));
        }
        for name in [
            "src-queue",
            "src-exchange",
            "src-exchange-key",
            "dest-queue",
            "dest-exchange",
            "dest-exchange-key",
        ] {
            if let Some(value) = self.fields.get(name) {
                shown.insert(name.replace('-', "_"), value.clone());
            }
        }
        shown
    }

    /// The entry in header `x-shovelled`.
    fn station(&self, vhost: &str, src_uri: &str, dest_uri: &str) -> FieldTable {
        let mut station = FieldTable::new();
        let fixed = [("shovelled-by", "leveret"), ("shovel-type", "dynamic"), ("shovel-name", self.name)];
        let fixed =
            fixed.into_iter().chain([("shovel-vhost", vhost), ("src-uri", src_uri), ("dest-uri", dest_uri)]);
        fixed.for_each(|(name, value)| station.insert(name, value));
        for name in [
            "src-exchange",
            "src-exchange-key",
            "src-queue",
            "dest-exchange",
            "dest-exchange-key",
            "dest-queue",
        ] {
            if let Some(value) = self.fields.get(name).and_then(Value::as_str) {
                station.insert(name, value);
            }
        }
        station
    }
}

/// Properties under the names of AMQP.
fn properties(fields: &Map<String, Value>) -> Result<Properties, String> {
    let mut properties = Properties::default();
    for (name, value) in fields {
        let octets = value.as_str().filter(|text| text.len() <= 255).map(|text| text.as_bytes().to_vec());
        let small = value.as_u64().and_then(|number| u8::try_from(number).ok());
        let text = match name.as_str() {
            "content_type" => &mut properties.content_type,
            "content_encoding" => &mut properties.content_encoding,
            "correlation_id" => &mut properties.correlation_id,
            "reply_to" => &mut properties.reply_to,
            "expiration" => &mut properties.expiration,
            "message_id" => &mut properties.message_id,
            "type" => &mut properties.kind,
            "user_id" => &mut properties.user_id,
            "app_id" => &mut properties.app_id,
            "cluster_id" => &mut properties.cluster_id,
            "delivery_mode" if small.is_some() => {
                properties.delivery_mode = small;
                continue;
            }
            "priority" if small.is_some() => {
                properties.priority = small;
                continue;
            }
            "timestamp" if value.is_u64() => {
                properties.timestamp = value.as_u64();
                continue;
            }
            "headers" if value.is_object() => {
                properties.headers = value.as_object().map(table);
                continue;
            }
            _ => return Err(format!("has an unusable property {name}: {}", shown(value))),
        };
        *text = Some(octets.ok_or_else(|| format!("has an unusable property {name}: {}", shown(value)))?);
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use leveret_shovel::AckMode;

    use super::*;

    fn check(value: Value, expected: Result<(), &str>) {
        let parsed = Definition::parse("/", "s", &value.to_string()).map(drop);
        assert_eq!(parsed, expected.map_err(str::to_owned), "{value}");
    }

    /// The texts are RabbitMQ 3.10's.
    #[test]
    fn what_makes_no_sense_is_refused_in_rabbitmqs_words() {
        let uris = |more: Value| {
            let mut value = json!({"src-uri": "amqp://", "dest-uri": "amqp://", "src-queue": "a"});
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            value
        };
        check(uris(json!({})), Ok(()));
        let missing = "Must specify 'src-exchange' or 'src-queue'\nKey \"dest-uri\" not found in s\n\
                       Key \"src-uri\" not found in s";
        check(json!({}), Err(missing));
        check(uris(json!({"src-exchange": "b"})), Err("Cannot specify 'src-exchange' and 'src-queue'"));
        let both = uris(json!({"dest-queue": "a", "dest-exchange": "b"}));
        check(both, Err("Cannot specify 'dest-exchange' and 'dest-queue'"));
        check(uris(json!({"x": 1})), Err("Unrecognised terms [{<<\"x\">>,1}] in s"));
        check(uris(json!({"dest-uri": 5})), Err("dest-uri should be list, actually was 5"));
        check(uris(json!({"src-queue": 5})), Err("src-queue should be binary, actually was 5"));
        let mode = "ack-mode should be one of [<<\"no-ack\">>,<<\"on-publish\">>,<<\"on-confirm\">>], actually was \
                    <<\"x\">>";
        check(uris(json!({"ack-mode": "x"})), Err(mode));
        let number = "src-prefetch-count should be a number, actually was <<\"a\">>";
        check(uris(json!({"src-prefetch-count": "a"})), Err(number));
        let flag = "dest-add-forward-headers should be boolean, actually was 3";
        check(uris(json!({"dest-add-forward-headers": 3})), Err(flag));
        let after = "src-delete-after should be a number greater than or equal to 0, \"never\" or \
                     \"queue-length\", actually was <<\"x\">>";
        check(uris(json!({"src-delete-after": "x"})), Err(after));
        let counted = uris(json!({"src-delete-after": 5, "ack-mode": "no-ack"}));
        check(counted, Err("Cannot specify 'no-ack' and numerical 'delete-after'"));
        check(json!([]), Err("s should be an object, actually was []"));
    }

    #[test]
    fn no_password_is_shown() {
        let value = json!({"src-uri": "amqp://u:canary@h", "dest-uri": ["amqp://", "amqp://v:canary@h"],
                           "src-queue": "a", "dest-add-forward-headers": true});
        let definition = Definition::parse("/", "s", &value.to_string()).unwrap();
        assert!(!format!("{definition:?}").contains("canary"));
        check(
            json!({"src-uri": "amqp://u:canary@h:x", "dest-uri": "amqp://", "src-queue": "a"}),
            Err("not a valid URI: the port in the URI is not a number from 1 to 65535"),
        );
    }

    #[test]
    fn a_uri_without_a_host_is_this_broker() {
        let vhost_of = |uri: &str| {
            let value = json!({"src-uri": uri, "dest-uri": "amqp://h", "src-queue": "a"});
            let definition = Definition::parse("/", "s", &value.to_string()).unwrap();
            definition.source.vhost_here().map(str::to_owned)
        };
        assert_eq!(vhost_of("amqp://").as_deref(), Some("/"));
        assert_eq!(vhost_of("amqp:///a%2fb").as_deref(), Some("a/b"));
        assert_eq!(vhost_of("amqp://localhost"), None);
    }

    #[test]
    fn everything_that_is_given_counts() {
        let value = json!({
            "src-uri": "amqp://", "dest-uri": "amqp://", "src-exchange": "x", "src-exchange-key": "#",
            "dest-queue": "q", "dest-queue-args": {"x-queue-type": "quorum"}, "src-prefetch-count": 7,
            "src-delete-after": "queue-length", "ack-mode": "on-publish", "reconnect-delay": 0,
            "dest-publish-properties": {"delivery_mode": 2}, "dest-add-timestamp-header": true,
        });
        let Definition { transfer, reconnect_delay, .. } =
            Definition::parse("/", "s", &value.to_string()).unwrap();
        assert!(matches!(transfer.take, Take::Exchange { name, key } if (&*name, &*key) == ("x", "#")));
        let declare = Some(FieldTable::from([("x-queue-type", "quorum")]));
        assert_eq!(transfer.give, Give::Queue { name: "q".into(), declare });
        assert_eq!((transfer.prefetch, transfer.ack_mode), (7, AckMode::OnPublish));
        assert_eq!((transfer.until, reconnect_delay), (Until::QueueLength, None));
        assert_eq!((transfer.changes.properties.delivery_mode, transfer.changes.timestamp), (Some(2), true));
    }
}
