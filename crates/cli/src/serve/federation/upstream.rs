//! What parameters of components `federation-upstream` and `federation-upstream-set` mean, with RabbitMQ's names and its
//! texts for what makes no sense.

use std::time::Duration;

use leveret_shovel::AckMode;
use leveret_wire::AmqpUri;
use serde_json::{Map, Value};

use super::super::end::End;
use super::super::parameter::{self, Reader, shown};

const PREFETCH: f64 = 1_000.0;
/// So many messages may be in memory; more is taken as this.
const PREFETCH_MAX: f64 = 10_000.0;
const RECONNECT_DELAY_S: f64 = 5.0;
/// A broker that refuses is not asked more often than this.
const RECONNECT_DELAY_MIN_S: f64 = 0.1;
const RECONNECT_DELAY_MAX_S: f64 = 86_400.0;

/// All that an upstream may have, in RabbitMQ's order. `bind-nowait`, `channel-use-mode` and `ha-policy` are understood and
/// mean nothing here.
const FIELDS: [&str; 16] = [
    "uri",
    "exchange",
    "queue",
    "consumer-tag",
    "prefetch-count",
    "reconnect-delay",
    "max-hops",
    "expires",
    "message-ttl",
    "trust-user-id",
    "ack-mode",
    "ha-policy",
    "bind-nowait",
    "resource-cleanup-mode",
    "channel-use-mode",
    "queue-type",
];

/// A broker to take messages from, and how.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    /// Where it is.
    pub(super) end: End,
    /// Its addresses, without users and passwords.
    pub(super) uri: String,
    /// The virtual host there; `None`: the one that is called as the one here.
    pub(super) vhost: Option<String>,
    /// The exchange there; `None`: the one of the same name.
    pub(super) exchange: Option<String>,
    /// The queue there; `None`: the one of the same name.
    pub(super) queue: Option<String>,
    pub(super) consumer_tag: Option<String>,
    pub(super) prefetch: u16,
    pub(super) reconnect_delay: Duration,
    pub(super) max_hops: i64,
    /// Arguments of the queue that an exchange's messages wait in there.
    pub(super) expires_ms: Option<i64>,
    pub(super) message_ttl_ms: Option<i64>,
    pub(super) queue_type: Option<String>,
    /// Messages keep the name of the user who published them there.
    pub(super) trusts_user_id: bool,
    pub(super) ack_mode: AckMode,
    /// The queue there stays when the link is taken away.
    pub(super) keeps_queue: bool,
}

impl Upstream {
    /// Reads the value of an upstream.
    ///
    /// # Errors
    /// What makes no sense, one line each, in RabbitMQ's order.
    pub(super) fn read(name: &str, fields: &Map<String, Value>) -> Result<Self, String> {
        let mut reader = Reader::new(name, fields);
        let end = reader.end("uri");
        let settings = settings(&mut reader);
        let unknown = reader.unknown(&FIELDS);
        let errors: Vec<_> = unknown.into_iter().chain(reader.errors.into_iter().rev()).collect();
        match (end, errors.is_empty()) {
            (Some((end, _)), true) => {
                let uris = parameter::addresses("uri", &fields["uri"])?;
                let vhost = uris.first().and_then(|uri| vhost_of(uri));
                let uri = uris.iter().map(|uri| without_credentials(uri)).collect::<Vec<_>>().join(",");
                Ok(Self { end, uri, vhost, ..settings })
            }
            (_, _) => Err(errors.join("\n")),
        }
    }
}

/// An upstream of a set, by its name, and what is different for it there.
pub(super) type Element = (String, Map<String, Value>);

/// Reads a set.
///
/// # Errors
/// What makes no sense, one line each.
pub(super) fn read_set(name: &str, value: &str) -> Result<Vec<Element>, String> {
    let value = parameter::parse(name, value)?;
    let elements = match &value {
        Value::Array(elements) => elements.as_slice(),
        Value::Object(fields) if fields.is_empty() => &[],
        other => return Err(format!("{name} should be list, actually was {}", shown(other))),
    };
    elements.iter().map(|element| read_element(name, element)).collect()
}

fn read_element(name: &str, element: &Value) -> Result<Element, String> {
    let Value::Object(fields) = element else {
        return Err(format!("{name} should be list, actually was {}", shown(element)));
    };
    let mut reader = Reader::new(name, fields);
    let upstream = match fields.contains_key("upstream") {
        true => reader.text("upstream"),
        false => {
            reader.wrong(format!("Key \"upstream\" not found in {name}"));
            None
        }
    };
    let _checked = settings(&mut reader);
    let known: Vec<_> = FIELDS.iter().map(|field| if *field == "uri" { "upstream" } else { field }).collect();
    let unknown = reader.unknown(&known);
    let errors: Vec<_> = unknown.into_iter().chain(reader.errors.into_iter().rev()).collect();
    let mut different = fields.clone();
    different.remove("upstream");
    match (upstream, errors.is_empty()) {
        (Some(upstream), true) => Ok((upstream, different)),
        (_, _) => Err(errors.join("\n")),
    }
}

/// Everything but where it is, which is this broker until it is known.
fn settings(reader: &mut Reader<'_>) -> Upstream {
    let exchange = reader.text("exchange");
    let queue = reader.text("queue");
    let consumer_tag = reader.text("consumer-tag");
    let prefetch = decimal(reader, "prefetch-count").unwrap_or(PREFETCH);
    let delay_s = decimal(reader, "reconnect-delay").unwrap_or(RECONNECT_DELAY_S);
    let max_hops = decimal(reader, "max-hops").map_or(1, |hops| hops as i64);
    let expires_ms = decimal(reader, "expires").map(|ms| ms as i64);
    let message_ttl_ms = decimal(reader, "message-ttl").map(|ms| ms as i64);
    let trusts_user_id = reader.flag("trust-user-id", "trust-user-id");
    let ack_mode = reader.ack_mode();
    let _mirrored = reader.text("ha-policy");
    let _binds_blindly = reader.flag("bind-nowait", "bind-nowait");
    let keeps_queue = reader.word("resource-cleanup-mode", &["never", "default"]) == "never"
        && reader.fields.contains_key("resource-cleanup-mode");
    let _channels = reader.word("channel-use-mode", &["single", "multiple"]);
    let queue_type = reader.text("queue-type");
    let delay_s = delay_s.clamp(RECONNECT_DELAY_MIN_S, RECONNECT_DELAY_MAX_S);
    Upstream {
        end: End::Here(String::new()),
        uri: String::new(),
        vhost: None,
        exchange,
        queue,
        consumer_tag,
        prefetch: if prefetch < 1.0 { PREFETCH_MAX } else { prefetch.min(PREFETCH_MAX) } as u16,
        reconnect_delay: Duration::from_secs_f64(delay_s),
        max_hops,
        expires_ms,
        message_ttl_ms,
        queue_type,
        trusts_user_id,
        ack_mode,
        keeps_queue,
    }
}

/// RabbitMQ takes any number, also one with a fraction.
fn decimal(reader: &mut Reader<'_>, name: &str) -> Option<f64> {
    let value = reader.fields.get(name)?;
    let number = value.as_f64();
    if number.is_none() {
        reader.wrong(format!("{name} should be a number, actually was {}", shown(value)));
    }
    number
}

/// What follows the scheme of a URI, as far as the query: users and host, and the path.
fn parts(uri: &str) -> Option<(&str, &str, Option<&str>)> {
    let (scheme, rest) = uri.split_once("://")?;
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(left, path)| (left, Some(path)));
    Some((scheme, authority, path))
}

fn vhost_of(uri: &str) -> Option<String> {
    let (_, _, path) = parts(uri)?;
    path.and_then(|_| AmqpUri::parse(uri).ok()).map(|uri| uri.vhost)
}

fn without_credentials(uri: &str) -> String {
    let Some((scheme, authority, path)) = parts(uri) else { return String::new() };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.map(|path| format!("/{path}")).unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Result<Upstream, String> {
        Upstream::read("val", value.as_object().unwrap())
    }

    /// The texts are RabbitMQ 3.10's.
    #[test]
    fn what_makes_no_sense_is_refused_in_rabbitmqs_words() {
        let check = |value: Value, expected: Result<(), &str>| {
            let value = match value {
                Value::Object(mut fields) if !fields.contains_key("uri") && !fields.is_empty() => {
                    fields.insert("uri".into(), json!("amqp://a"));
                    Value::Object(fields)
                }
                other => other,
            };
            assert_eq!(read(&value).map(drop), expected.map_err(str::to_owned), "{value}");
        };
        check(json!({"max-hops": 0, "expires": 0, "prefetch-count": -1, "reconnect-delay": 1.5}), Ok(()));
        check(json!({"bind-nowait": true, "resource-cleanup-mode": "never", "ha-policy": "x"}), Ok(()));
        check(json!({}), Err("Key \"uri\" not found in val"));
        check(json!({"uri": 5}), Err("uri should be list, actually was 5"));
        check(json!({"uri": ["amqp://a", 5]}), Err("uri should be list, actually was 5"));
        let number = "prefetch-count should be a number, actually was <<\"a\">>";
        check(json!({"prefetch-count": "a"}), Err(number));
        check(json!({"trust-user-id": 1}), Err("trust-user-id should be boolean, actually was 1"));
        let mode = "ack-mode should be one of [<<\"no-ack\">>,<<\"on-publish\">>,<<\"on-confirm\">>], actually was \
                    <<\"x\">>";
        check(json!({"ack-mode": "x"}), Err(mode));
        check(json!({"exchange": 1}), Err("exchange should be binary, actually was 1"));
        check(json!({"bind-nowait": 1}), Err("bind-nowait should be boolean, actually was 1"));
        let cleanup =
            "resource-cleanup-mode should be one of [<<\"default\">>,<<\"never\">>], actually was <<\"x\">>";
        check(json!({"resource-cleanup-mode": "x"}), Err(cleanup));
        let channels =
            "channel-use-mode should be one of [<<\"multiple\">>,<<\"single\">>], actually was <<\"x\">>";
        check(json!({"channel-use-mode": "x"}), Err(channels));
        let unknown = "Unrecognised terms [{<<\"bogus\">>,1},{<<\"bogus2\">>,<<\"s\">>}] in val";
        check(json!({"bogus": 1, "bogus2": "s"}), Err(unknown));
        let three = "Unrecognised terms [{<<\"zz\">>,1}] in val\nexpires should be a number, actually was \
                     <<\"y\">>\nmax-hops should be a number, actually was <<\"x\">>";
        check(json!({"max-hops": "x", "expires": "y", "zz": 1}), Err(three));
    }

    #[test]
    fn a_set_lists_upstreams() {
        let check = |value: Value, expected: Result<usize, &str>| {
            let set = read_set("val", &value.to_string()).map(|set| set.len());
            assert_eq!(set, expected.map_err(str::to_owned), "{value}");
        };
        check(json!([]), Ok(0));
        check(json!({}), Ok(0));
        check(json!([{"upstream": "a", "exchange": "x", "max-hops": 3}, {"upstream": "b"}]), Ok(2));
        check(json!([{}]), Err("Key \"upstream\" not found in val"));
        check(json!([{"exchange": "x"}]), Err("Key \"upstream\" not found in val"));
        check(json!([{"upstream": 5}]), Err("upstream should be binary, actually was 5"));
        let uri = "Unrecognised terms [{<<\"uri\">>,<<\"amqp://x\">>}] in val";
        check(json!([{"upstream": "a", "uri": "amqp://x"}]), Err(uri));
        let two =
            "max-hops should be a number, actually was <<\"a\">>\nupstream should be binary, actually was 5";
        check(json!([{"upstream": "a"}, {"max-hops": "a", "upstream": 5}]), Err(two));
        check(json!("s"), Err("val should be list, actually was <<\"s\">>"));
    }

    #[test]
    fn no_password_is_shown() {
        let value = json!({"uri": ["amqp://u:canary@h:1/v%2f?heartbeat=5", "amqps://u:canary@g"]});
        let upstream = read(&value).unwrap();
        assert_eq!(upstream.uri, "amqp://h:1/v%2f,amqps://g");
        assert_eq!(upstream.vhost.as_deref(), Some("v/"));
        assert!(!format!("{upstream:?}").contains("canary"));
        let refused = read(&json!({"uri": "amqp://u:canary@h:x"})).unwrap_err();
        assert_eq!(refused, "not a valid URI: the port in the URI is not a number from 1 to 65535");
    }

    #[test]
    fn what_is_not_given_is_as_in_rabbitmq() {
        let plain = read(&json!({"uri": "amqp://h"})).unwrap();
        assert_eq!((plain.prefetch, plain.max_hops, plain.vhost), (1000, 1, None));
        assert_eq!((plain.reconnect_delay, plain.ack_mode), (Duration::from_secs(5), AckMode::OnConfirm));
        assert!(!plain.keeps_queue && !plain.trusts_user_id);
        let given = json!({"uri": "amqp://h", "prefetch-count": 0, "reconnect-delay": 0, "queue-type": "quorum",
                           "resource-cleanup-mode": "default", "message-ttl": 7});
        let given = read(&given).unwrap();
        assert_eq!((given.prefetch, given.reconnect_delay), (10_000, Duration::from_millis(100)));
        assert_eq!((given.queue_type.as_deref(), given.message_ttl_ms), (Some("quorum"), Some(7)));
        assert!(!given.keeps_queue);
    }
}
