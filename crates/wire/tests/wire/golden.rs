//! Frames recorded from RabbitMQ (`tests/golden/README.md`): their values are what the recording
//! client sent, and encoding them again gives the same octets.

use std::path::Path;

use leveret_wire::method::*;
use leveret_wire::{
    FRAME_BODY, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD, FieldTable, FieldValue, Method, ProtocolHeader,
    RawFrame, RawTable, parse_header, protocol_header, sasl, split_frame, write_content, write_heartbeat,
    write_method,
};

const FRAME_MAX: u32 = 131_072;

/// A recorded line.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) from_client: bool,
    pub(crate) octets: Vec<u8>,
}

/// The lines of a recording with the comment before each.
pub(crate) fn recording(name: &str) -> Vec<(String, Line)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut comment = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        match line.split_at(1) {
            ("#", rest) => comment = rest.trim().to_owned(),
            (side, hex) => {
                let line = Line { from_client: side == ">", octets: from_hex(hex.trim()) };
                lines.push((comment.clone(), line));
            }
        }
    }
    lines
}

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The frames of a recording, without the protocol header.
fn frames(name: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = recording(name).into_iter().map(|(_, line)| line).collect();
    if lines[0].octets.starts_with(b"AMQP") {
        let header = lines.remove(0).octets;
        assert_eq!(protocol_header(header.as_slice().try_into().unwrap()), ProtocolHeader::Amqp091);
    }
    lines
}

fn split(octets: &[u8]) -> RawFrame<'_> {
    let (frame, size_bytes) = split_frame(octets, FRAME_MAX).unwrap().unwrap();
    assert_eq!(size_bytes, octets.len());
    frame
}

/// The methods of a recording from one side, from `channel` on.
fn check_methods(lines: &[Line], from_client: bool, channel: u16, expected: &[Method<'_>]) {
    let found: Vec<Method<'_>> = lines
        .iter()
        .filter(|line| line.from_client == from_client)
        .map(|line| split(&line.octets))
        .filter(|frame| frame.kind == FRAME_METHOD && frame.channel == channel)
        .map(|frame| Method::decode(frame.payload).unwrap())
        .collect();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

fn table(entries: &FieldTable) -> Vec<u8> {
    entries.raw_bytes().unwrap()
}

#[test]
fn every_frame_is_encoded_to_the_same_octets() {
    for name in ["handshake.hex", "topology.hex", "messages.hex", "rare.hex", "tables.hex", "split-body.hex"]
    {
        for line in frames(name) {
            check_same_octets(&line.octets);
        }
    }
}

fn check_same_octets(octets: &[u8]) {
    let frame = split(octets);
    let mut out = Vec::new();
    match frame.kind {
        FRAME_METHOD => {
            write_method(&mut out, frame.channel, &Method::decode(frame.payload).unwrap()).unwrap();
            assert_eq!(out, octets);
        }
        FRAME_HEADER => {
            let header = parse_header(frame.payload).unwrap();
            let publish = Method::from(BasicPublish::default());
            let body = vec![0; header.body_size as usize];
            write_content(&mut out, frame.channel, &publish, header.properties, &body, FRAME_MAX).unwrap();
            let (_, method_bytes) = split_frame(&out, FRAME_MAX).unwrap().unwrap();
            assert_eq!(out[method_bytes..method_bytes + octets.len()], *octets);
        }
        FRAME_HEARTBEAT => {
            write_heartbeat(&mut out);
            assert_eq!(out, octets);
        }
        kind => assert_eq!(kind, FRAME_BODY),
    }
}

#[test]
fn handshake() {
    let lines = frames("handshake.hex");
    let Method::ConnectionStart(start) = Method::decode(split(&lines[0].octets).payload).unwrap() else {
        panic!("no start")
    };
    assert_eq!((start.version_major, start.version_minor, start.locales), (0, 9, &b"en_US"[..]));
    let mut mechanisms: Vec<&[u8]> = start.mechanisms.split(|&octet| octet == b' ').collect();
    mechanisms.sort_unstable();
    assert_eq!(mechanisms, [&b"AMQPLAIN"[..], b"PLAIN"]);
    let properties = start.server_properties.to_table();
    assert_eq!(properties.get("product").and_then(FieldValue::as_str), Some("RabbitMQ"));
    assert_eq!(properties.get("version").and_then(FieldValue::as_str), Some("3.10.8"));
    let capabilities = properties.get("capabilities").and_then(FieldValue::as_table).unwrap();
    assert_eq!(capabilities.len(), 9);
    assert!(capabilities.iter().all(|(_, value)| *value == FieldValue::Bool(true)));

    let Method::ConnectionStartOk(start_ok) = Method::decode(split(&lines[1].octets).payload).unwrap() else {
        panic!("no start-ok")
    };
    assert_eq!((start_ok.mechanism, start_ok.locale), ("PLAIN", "en_US"));
    let credentials = sasl::parse_plain(start_ok.response).unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.expose()), ("guest", &b"guest"[..]));

    let tune = ConnectionTune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    let open_ok = ConnectionOpenOk { known_hosts: "" };
    check_methods(&lines, false, 0, &[start.into(), tune.into(), open_ok.into(), ConnectionCloseOk.into()]);
    let tune_ok = ConnectionTuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
    let open = ConnectionOpen { virtual_host: "/", capabilities: "", insist: true };
    let close = ConnectionClose { reply_code: 200, reply_text: "Normal shutdown", ..Default::default() };
    check_methods(&lines, true, 0, &[start_ok.into(), tune_ok.into(), open.into(), close.into()]);
}

#[test]
fn topology_of_the_client() {
    let alternate = table(&[("alternate-exchange", "golden.b")].into());
    let one = table(&[("k", 1)].into());
    let match_all = table(&[("x-match", "all")].into());
    let limits = table(&FieldTable::from([
        ("x-message-ttl", FieldValue::I32(60_000)),
        ("x-dead-letter-exchange", FieldValue::from("")),
        ("x-max-length", FieldValue::I64(1 << 33)),
    ]));
    let raw = |octets| RawTable::parse(octets).unwrap();
    let (a, b, q) = ("golden.a", "golden.b", "golden.q");
    let declare_exchange = ExchangeDeclare { exchange: b, kind: "direct", ..Default::default() };
    let declare_queue = QueueDeclare { queue: q, ..Default::default() };
    let bind_args = ("#.ohio", raw(&one));
    let expected: [Method<'_>; 15] = [
        ChannelOpen { out_of_band: "" }.into(),
        ExchangeDeclare {
            exchange: a,
            kind: "topic",
            durable: true,
            arguments: raw(&alternate),
            ..Default::default()
        }
        .into(),
        ExchangeDeclare { kind: "fanout", auto_delete: true, internal: true, ..declare_exchange }.into(),
        ExchangeDeclare { passive: true, ..declare_exchange }.into(),
        ExchangeBind {
            ticket: 0,
            destination: b,
            source: a,
            routing_key: bind_args.0,
            nowait: false,
            arguments: bind_args.1,
        }
        .into(),
        ExchangeUnbind {
            ticket: 0,
            destination: b,
            source: a,
            routing_key: bind_args.0,
            nowait: false,
            arguments: bind_args.1,
        }
        .into(),
        QueueDeclare { durable: true, arguments: raw(&limits), ..declare_queue }.into(),
        QueueDeclare { queue: "", exclusive: true, auto_delete: true, ..declare_queue }.into(),
        QueueBind {
            queue: q,
            exchange: a,
            routing_key: "news.*",
            arguments: raw(&match_all),
            ..Default::default()
        }
        .into(),
        QueueUnbind { ticket: 0, queue: q, exchange: a, routing_key: "news.*", arguments: raw(&match_all) }
            .into(),
        QueuePurge { queue: q, ..Default::default() }.into(),
        QueueDelete { queue: q, if_empty: true, ..Default::default() }.into(),
        ExchangeDelete { exchange: b, ..Default::default() }.into(),
        ExchangeDelete { exchange: a, if_unused: true, ..Default::default() }.into(),
        ChannelClose { reply_text: "Normal shutdown", ..Default::default() }.into(),
    ];
    check_methods(&frames("topology.hex"), true, 1, &expected);
}

#[test]
fn topology_of_the_server() {
    let expected: [Method<'_>; 15] = [
        ChannelOpenOk { channel_id: b"" }.into(),
        ExchangeDeclareOk.into(),
        ExchangeDeclareOk.into(),
        ExchangeDeclareOk.into(),
        ExchangeBindOk.into(),
        ExchangeUnbindOk.into(),
        QueueDeclareOk { queue: "golden.q", message_count: 0, consumer_count: 0 }.into(),
        QueueDeclareOk { queue: "amq.gen-9ntLwN9wLngdVtbhgIA2WA", message_count: 0, consumer_count: 0 }
            .into(),
        QueueBindOk.into(),
        QueueUnbindOk.into(),
        QueuePurgeOk { message_count: 0 }.into(),
        QueueDeleteOk { message_count: 0 }.into(),
        ExchangeDeleteOk.into(),
        ExchangeDeleteOk.into(),
        ChannelCloseOk.into(),
    ];
    check_methods(&frames("topology.hex"), false, 1, &expected);
}

#[test]
fn messages_of_the_client() {
    let lines = frames("messages.hex");
    let names: Vec<&str> = lines
        .iter()
        .map(|line| (line.from_client, split(&line.octets)))
        .filter(|(from_client, frame)| *from_client && frame.kind == FRAME_METHOD && frame.channel == 1)
        .map(|(_, frame)| Method::decode(frame.payload).unwrap().name())
        .collect();
    let expected = "channel.open queue.declare basic.qos basic.publish basic.publish basic.consume \
         basic.consume basic.cancel basic.cancel basic.recover basic.get basic.reject basic.get basic.nack \
         basic.get basic.publish basic.get basic.ack queue.delete confirm.select basic.publish \
         channel.close";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    let expected: [Method<'_>; 7] = [
        ChannelOpen { out_of_band: "" }.into(),
        TxSelect.into(),
        BasicPublish { routing_key: "nowhere", ..Default::default() }.into(),
        TxCommit.into(),
        TxRollback.into(),
        QueueDeclare { queue: "missing", passive: true, ..Default::default() }.into(),
        ChannelCloseOk.into(),
    ];
    check_methods(&lines, true, 2, &expected);
}

#[test]
fn messages_of_the_server() {
    let tag = "ctag1.a11df72d34a144fcb2c947a53f985d96";
    let deliver = BasicDeliver {
        consumer_tag: "ctag",
        delivery_tag: 1,
        redelivered: false,
        exchange: "",
        routing_key: "golden.m",
    };
    let get_ok = |delivery_tag, redelivered, message_count| {
        let (exchange, routing_key) = ("", "golden.m");
        Method::from(BasicGetOk { delivery_tag, redelivered, exchange, routing_key, message_count })
    };
    let returned =
        BasicReturn { reply_code: 312, reply_text: "NO_ROUTE", exchange: "", routing_key: "nowhere" };
    let expected: [Method<'_>; 19] = [
        ChannelOpenOk { channel_id: b"" }.into(),
        QueueDeclareOk { queue: "golden.m", message_count: 0, consumer_count: 0 }.into(),
        BasicQosOk.into(),
        BasicConsumeOk { consumer_tag: "ctag" }.into(),
        deliver.into(),
        BasicDeliver { delivery_tag: 2, ..deliver }.into(),
        BasicConsumeOk { consumer_tag: tag }.into(),
        BasicCancelOk { consumer_tag: "ctag" }.into(),
        BasicCancelOk { consumer_tag: tag }.into(),
        BasicRecoverOk.into(),
        get_ok(3, true, 1),
        get_ok(4, true, 0),
        BasicGetEmpty { cluster_id: "" }.into(),
        get_ok(5, false, 0),
        QueueDeleteOk { message_count: 0 }.into(),
        ConfirmSelectOk.into(),
        returned.into(),
        BasicAck { delivery_tag: 1, multiple: false }.into(),
        ChannelCloseOk.into(),
    ];
    check_methods(&frames("messages.hex"), false, 1, &expected);
    let close = ChannelClose {
        reply_code: 404,
        reply_text: "NOT_FOUND - no queue 'missing' in vhost '/'",
        class_id: 50,
        method_id: 10,
    };
    let expected: [Method<'_>; 5] = [
        ChannelOpenOk { channel_id: b"" }.into(),
        TxSelectOk.into(),
        TxCommitOk.into(),
        TxRollbackOk.into(),
        close.into(),
    ];
    check_methods(&frames("messages.hex"), false, 2, &expected);
}

#[test]
fn all_properties_as_published_and_as_delivered() {
    let contents: Vec<Line> = frames("messages.hex")
        .into_iter()
        .filter(|line| split(&line.octets).kind == FRAME_HEADER && line.octets.len() > 30)
        .collect();
    assert_eq!(contents.len(), 3); // published, delivered, got
    for line in &contents {
        let header = parse_header(split(&line.octets).payload).unwrap();
        assert_eq!((header.class_id, header.body_size), (60, 5));
        let properties = header.properties;
        assert_eq!(properties.content_type(), Some(&b"text/plain"[..]));
        assert_eq!(properties.content_encoding(), Some(&b"utf-8"[..]));
        assert_eq!((properties.delivery_mode(), properties.priority()), (Some(2), Some(9)));
        assert_eq!(properties.correlation_id(), Some(&b"cid"[..]));
        assert_eq!(properties.reply_to(), Some(&b"rq"[..]));
        assert_eq!(properties.expiration(), Some(&b"60000"[..]));
        assert_eq!(properties.message_id(), Some(&b"mid"[..]));
        assert_eq!(properties.timestamp(), Some(1_700_000_000));
        assert_eq!(properties.kind(), Some(&b"kind"[..]));
        assert_eq!(properties.user_id(), Some(&b"guest"[..]));
        assert_eq!((properties.app_id(), properties.cluster_id()), (Some(&b"app"[..]), Some(&b"cl"[..])));
        let three = FieldTable::from([("three", 3)]);
        let list = FieldValue::Array(vec![1.into(), "two".into(), three.into()]);
        let headers = FieldTable::from([
            ("a", "b".into()),
            ("n", FieldValue::I32(-5)),
            ("big", FieldValue::I64(1 << 40)),
            ("yes", FieldValue::Bool(true)),
            ("none", FieldValue::Void),
            ("list", list),
        ]);
        assert_eq!(properties.headers().map(RawTable::to_table), Some(headers));
        assert_eq!(properties.to_properties().encode().unwrap(), properties.as_bytes());
    }
}

#[test]
fn rare_methods() {
    let lines = frames("rare.hex");
    let tag = "amq.ctag-4UO2rsoEHDrCaUqhy9h8zA";
    let expected: [Method<'_>; 11] = [
        ChannelOpenOk { channel_id: b"" }.into(),
        AccessRequestOk { ticket: 1 }.into(),
        ChannelFlowOk { active: true }.into(),
        BasicQosOk.into(),
        QueueDeclareOk { queue: "golden.c", message_count: 0, consumer_count: 0 }.into(),
        BasicConsumeOk { consumer_tag: tag }.into(),
        QueueDeleteOk { message_count: 0 }.into(),
        BasicCancel { consumer_tag: tag, nowait: true }.into(),
        ConfirmSelectOk.into(),
        BasicAck { delivery_tag: 1, multiple: false }.into(),
        BasicAck { delivery_tag: 2, multiple: false }.into(),
    ];
    check_methods(&lines, false, 1, &expected);
    let expected: [Method<'_>; 3] = [
        ConnectionUpdateSecretOk.into(),
        ConnectionBlocked { reason: "low on memory" }.into(),
        ConnectionUnblocked.into(),
    ];
    check_methods(&lines, false, 0, &expected);
    let access = AccessRequest {
        realm: "/data",
        exclusive: true,
        passive: true,
        active: true,
        write: true,
        read: true,
    };
    assert_eq!(Method::decode(split(&lines[2].octets).payload), Ok(access.into()));
}

/// What the script published: every type RabbitMQ knows.
fn every_type() -> Vec<(&'static str, FieldValue)> {
    let inner = FieldTable::from([("k", FieldValue::I8(3))]);
    let array = vec![
        FieldValue::I32(1),
        "two".into(),
        FieldValue::Void,
        false.into(),
        FieldValue::Array(Vec::new()),
        inner.into(),
    ];
    let deepest = FieldTable::from([("ner", "")]);
    let table = FieldTable::from([("in", FieldValue::Table(deepest)), ("", FieldValue::Void)]);
    vec![
        ("longstr", "text".into()),
        ("int", FieldValue::I32(-2)),
        ("uint", FieldValue::U32(4_000_000_000)),
        ("long", FieldValue::I64(-(1 << 40))),
        ("Long", FieldValue::I64(1 << 40)),
        ("short", FieldValue::I16(-300)),
        ("ushort", FieldValue::U16(60_000)),
        ("byte", FieldValue::I8(-1)),
        ("ubyte", FieldValue::U8(200)),
        ("bool", FieldValue::Bool(true)),
        ("double", FieldValue::F64(2.5)),
        ("float", FieldValue::F32(-0.5)),
        ("decimal", FieldValue::Decimal { scale: 2, value: 12_345 }),
        ("time", FieldValue::Timestamp(1_700_000_000)),
        ("void", FieldValue::Void),
        ("bytes", FieldValue::Bytes(vec![0, 1, 255])),
        ("array", FieldValue::Array(array)),
        ("table", table.into()),
    ]
}

#[test]
fn tables_of_every_type() {
    let headers: Vec<Line> =
        frames("tables.hex").into_iter().filter(|line| split(&line.octets).kind == FRAME_HEADER).collect();
    let published = parse_header(split(&headers[0].octets).payload).unwrap().properties;
    let expected: FieldTable = every_type().into_iter().collect();
    assert_eq!(published.headers().map(RawTable::to_table), Some(expected.clone()));

    let dead_lettered = parse_header(split(&headers[1].octets).payload).unwrap().properties;
    let raw = dead_lettered.headers().unwrap();
    let found = raw.to_table();
    for (name, value) in &expected {
        assert_eq!(found.get(name), Some(value), "{name}");
    }
    assert_eq!(found.get("x-first-death-reason").and_then(FieldValue::as_str), Some("expired"));
    let death = found.get("x-death").and_then(FieldValue::as_array).unwrap()[0].as_table().unwrap();
    assert_eq!(death.get("count"), Some(&FieldValue::I64(1)));
    assert_eq!(death.get("queue").and_then(FieldValue::as_str), Some("golden.dl"));
    assert!(matches!(death.get("time"), Some(FieldValue::Timestamp(_))));
    // RabbitMQ wrote this table itself: ours must be the same octets.
    assert_eq!(found.raw_bytes().unwrap(), raw.as_bytes());
}

#[test]
fn a_split_body_has_the_same_frames() {
    let lines: Vec<Line> = frames("split-body.hex").into_iter().filter(|line| !line.from_client).collect();
    let method = Method::decode(split(&lines[0].octets).payload).unwrap();
    let header = parse_header(split(&lines[1].octets).payload).unwrap();
    let body: Vec<u8> = (0..17).flat_map(|_| 0..=255).collect();
    let mut out = Vec::new();
    write_content(&mut out, 1, &method, header.properties, &body, 4096).unwrap();
    let recorded: Vec<u8> = lines.iter().flat_map(|line| line.octets.clone()).collect();
    assert_eq!((out, lines.len()), (recorded, 4));
}
