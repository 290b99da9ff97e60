//! Messages as other libraries write them (`golden/`, captured from the real ones where they run here), and messages
//! that nobody should write.

use leveret_wire::{FieldTable, FieldValue, Properties};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::content::{self, Format};

const ALL: [Dialect; 7] = [
    Dialect::Celery,
    Dialect::Nameko,
    Dialect::EasyNetQ,
    Dialect::Nest,
    Dialect::Seed,
    Dialect::Spring,
    Dialect::Profile,
];

fn dialect(name: &Value) -> Dialect {
    ALL.into_iter().find(|dialect| format!("{dialect:?}") == name.as_str().unwrap()).unwrap()
}

fn field(value: &Value) -> FieldValue {
    match value {
        Value::Null => FieldValue::Void,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => FieldValue::I64(number.as_i64().unwrap()),
        Value::String(string) => text(string),
        Value::Array(values) => FieldValue::Array(values.iter().map(field).collect()),
        Value::Object(_) => FieldValue::Table(table(value)),
    }
}

fn table(value: &Value) -> FieldTable {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), field(value))).collect()
}

fn properties(value: &Value) -> Properties {
    let octets = |name: &str| value[name].as_str().map(|text| text.as_bytes().to_vec());
    Properties {
        content_type: octets("content_type"),
        content_encoding: octets("content_encoding"),
        headers: value.get("headers").map(table),
        delivery_mode: value["delivery_mode"].as_u64().map(|mode| mode as u8),
        correlation_id: octets("correlation_id"),
        reply_to: octets("reply_to"),
        message_id: octets("message_id"),
        kind: octets("type"),
        ..Properties::default()
    }
}

fn body(message: &Value) -> Bytes {
    let octet = |at: usize, hex: &str| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    match message["hex"].as_str() {
        Some(hex) => (0..hex.len()).step_by(2).map(|at| octet(at, hex)).collect::<Vec<_>>().into(),
        None => message["body"].as_str().unwrap().to_owned().into(),
    }
}

fn receive(enabled: &[Dialect], message: &Value) -> Envelope {
    let of = |name: &str| message[name].as_str().unwrap_or_default();
    read(enabled, of("exchange"), of("routing_key"), &properties(&message["properties"]), &body(message))
}

fn utf8(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

fn golden(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

fn requests() -> Vec<Value> {
    golden(include_str!("golden/requests.json"))
}

/// What is read of a request, in the form of the golden file.
fn seen(envelope: &Envelope) -> Value {
    let payload = envelope.payload.clone().decompress(1000).unwrap();
    json!({
        "method": envelope.method,
        "body": utf8(&payload.body),
        "reply": envelope.reply.as_ref().map(|reply| [&reply.exchange, &reply.routing_key]),
        "correlation_id": envelope.correlation_id.as_deref().map(utf8),
    })
}

#[test]
fn requests_of_other_libraries() {
    for message in requests() {
        let expected = dialect(&message["dialect"]);
        for enabled in [&[expected][..], &ALL] {
            let envelope = receive(enabled, &message);
            assert_eq!(envelope.dialect, expected, "{message}");
            assert_eq!(seen(&envelope), message["expect"], "{}", message["library"]);
        }
        let unaware = receive(&[], &message);
        assert_eq!(unaware.dialect, Dialect::Profile);
        assert_eq!(unaware.payload.body, body(&message), "level 0 leaves the body alone");
    }
}

#[test]
fn answers_to_them() {
    let sky = Payload::new("application/json", r#"{"sky":"grey"}"#);
    let oz = Failure::not_found("no place called Oz");
    for message in requests() {
        let envelope = receive(&ALL, &message);
        let library = &message["library"];
        let (properties, body) = write(&envelope, Ok(&sky), ErrorStyle::Headers);
        assert_eq!(utf8(&body), message["success"], "{library}");
        assert_eq!(properties.correlation_id, envelope.correlation_id, "{library}");
        assert_eq!(properties.headers, None, "{library}");
        assert_eq!(read_answer(envelope.dialect, &properties, body).unwrap().body, sky.body, "{library}");
        properties.encode().unwrap();

        let (properties, body) = write(&envelope, Err(&oz), ErrorStyle::Headers);
        assert_eq!(utf8(&body), message["failure"], "{library}");
        let failure = read_answer(envelope.dialect, &properties, body).unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (oz.code, "no place called Oz"), "{library}");
        properties.encode().unwrap();
    }
}

#[test]
fn answers_of_other_libraries() {
    for message in golden(include_str!("golden/answers.json")) {
        let library = &message["library"];
        let answer =
            read_answer(dialect(&message["dialect"]), &properties(&message["properties"]), body(&message));
        match answer {
            Ok(payload) => assert_eq!(utf8(&payload.body), message["success"], "{library}"),
            Err(failure) => {
                assert_eq!(json!([failure.code.name(), failure.message]), message["failure"], "{library}");
            }
        }
    }
}

#[test]
fn requests_we_write_are_read_as_such() {
    let check = |dialect: Dialect, value: Value, expected: &str| {
        let payload = content::encode(Format::Json, &value).unwrap();
        let request =
            write_request(dialect, "weather", Some("forecast"), &payload, Some("replies.1"), "c-1").unwrap();
        let envelope =
            read(&[dialect], &request.exchange, &request.routing_key, &request.properties, &request.body);
        assert_eq!((envelope.dialect, utf8(&envelope.payload.body)), (dialect, expected), "{value}");
        assert_eq!(envelope.correlation_id.as_deref(), Some(&b"c-1"[..]));
        let bound = request.reply_binding.clone();
        assert_eq!(envelope.reply, Some(bound.unwrap_or(ReplyAddress::queue("replies.1"))), "{dialect:?}");
        request.properties.encode().unwrap();
        (envelope.method, request)
    };
    let forecast = Some("forecast".to_owned());
    for dialect in [Dialect::Profile, Dialect::Nest, Dialect::Nameko, Dialect::Celery] {
        assert_eq!(check(dialect, json!({"a": [1]}), r#"{"a":[1]}"#).0, forecast, "{dialect:?}");
        assert_eq!(check(dialect, json!("Ohio"), r#""Ohio""#).0, forecast);
        assert_eq!(check(dialect, json!(["Ohio", 3]), r#"["Ohio",3]"#).0, forecast);
        assert_eq!(check(dialect, json!(null), "null").0, forecast);
    }
    let (_, seed) = check(Dialect::Seed, json!("why?"), r#""why?""#);
    assert_eq!(utf8(&seed.body), r#"{"q":"why?","qid":"c-1"}"#);
    let (_, celery) = check(Dialect::Celery, json!([1, 2]), "[1,2]");
    assert!(utf8(&celery.body).starts_with("[[1,2],{},{"));
    assert_eq!(celery.properties.headers.unwrap().get("task").unwrap().as_str(), Some("weather.forecast"));
    let (_, nameko) = check(Dialect::Nameko, json!({"a": 1}), r#"{"a":1}"#);
    assert_eq!((nameko.exchange.as_str(), nameko.routing_key.as_str()), ("nameko-rpc", "weather.forecast"));
    let name = "Acme.ForecastRequest, Acme";
    let request =
        write_request(Dialect::EasyNetQ, name, None, &Payload::bytes("{}"), Some("r"), "c").unwrap();
    let key = request.routing_key.as_str();
    let envelope = read(&ALL, &request.exchange, key, &request.properties, &request.body);
    assert_eq!((envelope.dialect, envelope.method, key), (Dialect::EasyNetQ, forecast, name));
}

#[test]
fn tasks_we_write_want_no_answer() {
    for dialect in ALL {
        let request = write_request(dialect, "weather", None, &Payload::bytes("1"), None, "c-1").unwrap();
        let envelope =
            read(&[dialect], &request.exchange, &request.routing_key, &request.properties, &request.body);
        assert_eq!((envelope.reply, request.reply_binding), (None, None), "{dialect:?}");
    }
}

#[test]
fn failures_in_headers_and_body() {
    let envelope = receive(&[], &json!({"body": "30", "properties": {"reply_to": "r", "delivery_mode": 2}}));
    let failure = Failure::unavailable("später\u{1F407}".repeat(200))
        .retry_after(std::time::Duration::from_millis(1500))
        .with_details(&json!({"until": "noon"}));
    for (style, content_type) in
        [(ErrorStyle::Headers, "application/problem+json"), (ErrorStyle::Body, "application/json")]
    {
        let (properties, body) = write(&envelope, Err(&failure), style);
        assert_eq!(properties.content_type.as_deref().map(utf8), Some(content_type));
        assert_eq!(properties.delivery_mode, Some(2));
        let header = properties.headers.as_ref().and_then(|headers| headers.get("rpc-error")).unwrap();
        assert!(header.as_str().is_some_and(|text| text.len() <= ERROR_MAX_BYTES));
        assert_eq!(read_answer(Dialect::Profile, &properties, body).unwrap_err(), failure);
    }
    // A worker that is not ours, and wrong about types.
    let headers = FieldTable::from([("rpc-status", "UNAVAILABLE")]);
    let properties = Properties { headers: Some(headers), ..Properties::default() };
    let body = Bytes::from_static(br#"{"message":7,"retryable":"yes","retry_after_ms":-1,"detail":"full"}"#);
    let failure = read_answer(Dialect::Profile, &properties, body).unwrap_err();
    assert_eq!(failure, Failure::unavailable("full"));
}

#[test]
fn a_list_is_nobodys_wrapper() {
    let everybody = Properties::default();
    for list in ["[1]", "[1,2]", r#"["forecast",{},"7"]"#, "[[],{}]", "[[1],null]"] {
        let list = Bytes::from_static(list.as_bytes());
        assert_eq!(read(&ALL, "", "weather", &everybody, &list).dialect, Dialect::Profile, "{list:?}");
        for dialect in ALL {
            let answer = read_answer(dialect, &everybody, list.clone()).unwrap();
            assert_eq!(answer.body, list, "{dialect:?}");
        }
    }
}

#[test]
fn pickle_is_not_opened() {
    let headers = json!({"task": "weather.forecast", "id": "1", "ignore_result": "maybe"});
    let properties = json!({"content_type": "application/x-python-serialize", "headers": headers});
    let envelope = receive(&ALL, &json!({"properties": properties, "body": "\u{80}cos\nsystem\n"}));
    assert_eq!(envelope.dialect, Dialect::Celery);
    let error = content::decode::<Value>(&envelope.payload).unwrap_err().to_string();
    assert!(error.starts_with("content type application/x-python-serialize is not understood"), "{error}");
}

#[test]
fn nameko_answers_in_the_format_of_the_request() {
    let packed = content::encode(Format::MessagePack, &json!({"args": [1], "kwargs": {}})).unwrap();
    let properties = Properties {
        content_type: Some(b"application/x-msgpack".to_vec()),
        reply_to: Some(b"q".to_vec()),
        ..Properties::default()
    };
    let envelope = read(&[Dialect::Nameko], "nameko-rpc", "a.b", &properties, &packed.body);
    let (properties, body) = write(&envelope, Ok(&Payload::bytes("2")), ErrorStyle::Headers);
    assert_eq!(properties.content_type.as_deref().map(utf8), Some("application/x-msgpack"));
    let payload = Payload::new("application/msgpack", body);
    assert_eq!(content::decode::<Value>(&payload).unwrap(), json!({"result": 2, "error": null}));
}

#[test]
fn an_answer_that_has_no_form_is_a_failure_that_says_so() {
    for message in requests() {
        let envelope = receive(&ALL, &message);
        let octets = Payload::new("application/octet-stream", &b"\xff\x00"[..]);
        let (properties, body) = write(&envelope, Ok(&octets), ErrorStyle::Headers);
        match read_answer(envelope.dialect, &properties, body) {
            Ok(payload) => assert_eq!(payload.body, octets.body),
            Err(failure) => {
                assert_eq!(failure.code, Code::Internal);
                assert!(failure.message.contains("has no form in JSON"), "{failure}");
            }
        }
    }
}

#[test]
fn signs_of_life_are_no_answers() {
    let celery = |status: &str| format!(r#"{{"task_id":"1","status":"{status}","result":null}}"#);
    for (dialect, status, body, expected) in [
        (Dialect::Profile, "", "1".to_owned(), true),
        (Dialect::Profile, "IN_PROGRESS", String::new(), false),
        (Dialect::Profile, "NOT_FOUND", String::new(), true),
        (Dialect::Celery, "", celery("SUCCESS"), true),
        (Dialect::Celery, "", celery("STARTED"), false),
        (Dialect::Celery, "", celery("RETRY"), false),
        (Dialect::Celery, "", celery("CUSTOM"), true),
    ] {
        let headers = super::headers((!status.is_empty()).then(|| ("rpc-status", text(status))));
        let properties = Properties { headers, ..Properties::default() };
        assert_eq!(is_answer(dialect, &properties, &body.into()), expected, "{dialect:?} {status}");
    }
}

#[test]
fn what_nobody_should_send() {
    let long = "x".repeat(300);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies = [
        String::new(),
        deep.clone(),
        format!(r#"{{"pattern":"a","data":{deep},"id":"1"}}"#),
        format!(r#"{{"pattern":{deep},"data":1,"id":"1"}}"#),
        format!(r#"{{"pattern":"a","data":1,"id":"{long}"}}"#),
        format!(r#"{{"q":{deep},"qid":"1"}}"#),
        format!(r#"{{"q":1,"qid":"{long}"}}"#),
        format!(r#"{{"q":1,"qid":{deep}}}"#),
        r#"{"q":1,"qid":""}"#.into(),
        r#"{"q":1,"qid":null}"#.into(),
        format!(r#"{{"args":{deep},"kwargs":{{}}}}"#),
        format!("[{deep},{{}},{{}}]"),
        r#"[1,2,3]"#.into(),
        r#"{"args":1,"kwargs":2}"#.into(),
        r#"{"status":1,"result":{}}"#.into(),
        format!(r#"{{"err":{deep},"isDisposed":true}}"#),
        format!(r#"{{"result":1,"error":{deep}}}"#),
    ];
    let octets = |text: &str| Some(text.as_bytes().to_vec());
    let celery = FieldTable::from([("task", text("")), ("id", text(&long))]);
    let wrong = FieldTable::from([
        ("task", FieldValue::I8(1)),
        ("id", FieldValue::Void),
        ("rpc-status", true.into()),
    ]);
    let all_properties = [
        Properties::default(),
        Properties { headers: Some(celery), reply_to: octets("r"), ..Properties::default() },
        Properties { headers: Some(wrong), reply_to: octets(&long), ..Properties::default() },
        Properties {
            correlation_id: octets(&long),
            message_id: Some(vec![0xff; 255]),
            ..Properties::default()
        },
        Properties { reply_to: Some(vec![0xff]), kind: Some(vec![0xff]), ..Properties::default() },
        Properties {
            content_type: octets(&long),
            content_encoding: octets("gzip,gzip"),
            ..Properties::default()
        },
    ];
    for body in &bodies {
        for properties in &all_properties {
            for exchange in ["", "nameko-rpc", "easy_net_q_rpc"] {
                survive(exchange, properties, &body.clone().into());
            }
        }
    }
}

/// Whatever comes in, what goes out can be published.
fn survive(exchange: &str, properties: &Properties, body: &Bytes) {
    for dialect in ALL {
        let envelope = read(&[dialect], exchange, "", properties, body);
        if let Some(reply) = &envelope.reply {
            assert!(reply.routing_key.len() <= 255 && reply.exchange.len() <= 255);
        }
        let failure = Failure::internal("x".repeat(2000));
        for outcome in [Ok(&envelope.payload), Err(&failure)] {
            let (properties, _) = write(&envelope, outcome, ErrorStyle::default());
            properties.encode().unwrap();
        }
        let _ = content::decode::<Value>(&envelope.payload);
        let _ = read_answer(dialect, properties, body.clone());
        is_answer(dialect, properties, body);
        let _ = write_request(dialect, "s", None, &envelope.payload, Some("r"), "c");
    }
}

#[test]
fn a_bomb_in_a_wrapper_stays_closed() {
    let bomb = Payload::bytes(vec![b' '; content::DECOMPRESSED_MAX_BYTES + 1]);
    let bomb = bomb.compress(content::Compression::Gzip).unwrap();
    let headers = FieldTable::from([("task", "a.b"), ("id", "1")]);
    let properties = Properties {
        content_type: Some(b"application/json".to_vec()),
        content_encoding: Some(b"gzip".to_vec()),
        headers: Some(headers),
        ..Properties::default()
    };
    let envelope = read(&[Dialect::Celery], "", "q", &properties, &bomb.body);
    assert_eq!((envelope.dialect, &envelope.payload.body), (Dialect::Celery, &bomb.body));
    let error = content::decode::<Value>(&envelope.payload).unwrap_err();
    assert_eq!(error.to_string(), "the body is larger than 134217728 octets when decompressed");
}

fn any_field() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        any::<bool>().prop_map(FieldValue::Bool),
        any::<i64>().prop_map(FieldValue::I64),
        any::<f64>().prop_map(FieldValue::F64),
        any::<u64>().prop_map(FieldValue::Timestamp),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(FieldValue::LongString),
        "(NOT_FOUND|OK|IN_PROGRESS|true|application/zstd|a\\.b, c)".prop_map(|value| text(&value)),
        Just(FieldValue::Void),
        Just(FieldValue::Table(FieldTable::new())),
        Just(FieldValue::Array(vec![FieldValue::Void])),
    ]
}

fn any_headers() -> impl Strategy<Value = FieldTable> {
    let name = prop_oneof![
        "(task|id|ignore_result|compression|rpc-status|rpc-error|rpc-accept|traceparent|tracestate)",
        "(MT-Activity-Id|IsFaulted|ExceptionMessage|__TypeId__)",
        ".{0,5}",
    ];
    proptest::collection::vec((name, any_field()), 0..5).prop_map(FieldTable)
}

fn any_octets() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![
        Just(None),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Some),
        "(gzip|zstd|deflate|utf-8|gzip:UTF-8|application/json|application/x-msgpack|application/cbor|a/b|/|://)"
            .prop_map(|value| Some(value.into_bytes())),
    ]
}

fn any_body() -> impl Strategy<Value = Bytes> {
    let count = requests().len();
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from),
        r#"[\[\]{}",:0-9a-z\\ ]{0,60}"#.prop_map(Bytes::from),
        // A message that is nearly right.
        (0..count, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(which, at, octet)| {
            let mut body = body(&requests()[which]).to_vec();
            let at = at.index(body.len());
            body[at] = octet;
            body.into()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_panics(
        exchange in "(|nameko-rpc|easy_net_q_rpc|x)",
        headers in proptest::option::of(any_headers()),
        (content_type, content_encoding, correlation_id) in (any_octets(), any_octets(), any_octets()),
        (reply_to, message_id, kind) in (any_octets(), any_octets(), any_octets()),
        delivery_mode in any::<Option<u8>>(),
        body in any_body(),
    ) {
        let properties = Properties {
            content_type, content_encoding, headers, delivery_mode, correlation_id, reply_to, message_id, kind,
            ..Properties::default()
        };
        survive(&exchange, &properties, &body);
    }

    #[test]
    fn ids_are_echoed_to_the_octet(
        correlation_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..=255)),
        message_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..=255)),
    ) {
        let expected = correlation_id.clone().or(message_id.clone());
        let properties = Properties { correlation_id, message_id, ..Properties::default() };
        let envelope = read(&ALL, "", "q", &properties, &Bytes::from_static(b"30"));
        let (answer, _) = write(&envelope, Ok(&Payload::default()), ErrorStyle::Headers);
        prop_assert_eq!(answer.correlation_id, expected);
    }
}
