//! Who may do what over AMQP: `amqp.txt` against the broker, in all combinations. A method of the
//! protocol without a row fails, and so does a row that nobody knows how to try.

use std::collections::BTreeSet;

use crate::support::{CHANNEL, Frame, Peer, plain};
use leveret_broker::Broker as Rules;
use leveret_broker::users::{PasswordHash, Permissions};
use leveret_server::Broker;
use leveret_wire::method::*;
use leveret_wire::{FieldTable, Method, Properties, RawTable};
use tokio::io::DuplexStream;

const TABLE: &str = include_str!("amqp.txt");
const SPECIFICATION: &str = include_str!("../../../wire/spec/amqp-rabbitmq-0.9.1.json");

const TAGS: [&str; 6] = ["", "management", "monitoring", "policymaker", "administrator", "impersonator"];

/// A line of the table.
#[derive(Debug)]
struct Row {
    operation: &'static str,
    rights: Vec<Right>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Configure(&'static str),
    Write(&'static str),
    Read(&'static str),
    Any(&'static str),
    TopicWrite(&'static str),
    TopicRead(&'static str),
    Tag(&'static str),
    Never,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (operation, rights) = line.split_once('|').unwrap_or_else(|| panic!("no rights in {line:?}"));
            Row {
                operation: operation.trim(),
                rights: rights.split(',').filter_map(|right| read(right.trim())).collect(),
            }
        })
        .collect()
}

fn read(right: &'static str) -> Option<Right> {
    Some(match right.split_once(' ') {
        None if right == "nothing" => return None,
        None if right == "never" => Right::Never,
        Some(("configure", name)) => Right::Configure(name),
        Some(("write", name)) => Right::Write(name),
        Some(("read", name)) => Right::Read(name),
        Some(("any", name)) => Right::Any(name),
        Some(("topic-write", key)) => Right::TopicWrite(key),
        Some(("topic-read", key)) => Right::TopicRead(key),
        Some(("tag", tag)) => Right::Tag(tag),
        _ => panic!("no such right: {right:?}"),
    })
}

/// A broker, somebody who puts things in place, and the user `u` who tries.
struct Trial {
    broker: Broker,
    caretaker: Peer<DuplexStream>,
    user: Peer<DuplexStream>,
    last_channel: u16,
}

impl Trial {
    async fn start() -> Self {
        let broker = Broker::builder().in_memory().listen([]).start().await.unwrap();
        let rules = broker.rules();
        rules.add_vhost("foreign").unwrap();
        rules.users.add("u", PasswordHash::new_public(b"u").unwrap(), Vec::new()).unwrap();
        rules.users.set_permissions("u", "/", Permissions::new("", "", "").unwrap()).unwrap();
        let caretaker = Peer::open(broker.connect_in_memory(), 0).await;
        let user = log_in(&broker, "/").await.unwrap();
        let mut trial = Self { broker, caretaker, user, last_channel: CHANNEL };
        trial.furnish().await;
        trial
    }

    fn rules(&self) -> &Rules {
        self.broker.rules()
    }

    /// Everything is there that rows name, and `n` is not.
    async fn furnish(&mut self) {
        let peer = &mut self.caretaker;
        for (exchange, kind, internal) in
            [("x", "fanout", false), ("d", "fanout", false), ("t", "topic", false), ("i", "fanout", true)]
        {
            let declare = ExchangeDeclare { exchange, kind, internal, ..Default::default() };
            peer.ask(CHANNEL, declare, "exchange.declare-ok").await;
        }
        peer.declare("q").await;
        peer.ask(CHANNEL, QueueDelete { queue: "n", ..Default::default() }, "queue.delete-ok").await;
        peer.ask(CHANNEL, ExchangeDelete { exchange: "n", ..Default::default() }, "exchange.delete-ok").await;
    }

    fn permit(&self, configure: &str, write: &str, read: &str) {
        let permissions = Permissions::new(configure, write, read).unwrap();
        self.rules().users.set_permissions("u", "/", permissions).unwrap();
    }

    fn tag(&self, tag: &str) {
        let tags = if tag.is_empty() { Vec::new() } else { vec![tag.to_owned()] };
        self.rules().users.set_tags("u", tags).unwrap();
    }

    /// Gives exactly these rights, by name.
    fn grant(&self, rights: &[Right]) {
        let names = |of: fn(Right) -> Option<&'static str>| {
            let names: Vec<_> =
                rights.iter().filter_map(|right| of(*right)).map(|name| name.replace('.', "\\.")).collect();
            if names.is_empty() { String::new() } else { format!("^({})$", names.join("|")) }
        };
        let configure =
            names(
                |right| if let Right::Configure(name) | Right::Any(name) = right { Some(name) } else { None },
            );
        let write = names(|right| if let Right::Write(name) = right { Some(name) } else { None });
        let read = names(|right| if let Right::Read(name) = right { Some(name) } else { None });
        self.permit(&configure, &write, &read);
        let write = names(|right| if let Right::TopicWrite(key) = right { Some(key) } else { None });
        let read = names(|right| if let Right::TopicRead(key) = right { Some(key) } else { None });
        self.rules().users.set_topic_permissions("u", "/", "t", &write, &read).unwrap();
        let tag = rights.iter().find_map(|right| if let Right::Tag(tag) = right { Some(*tag) } else { None });
        self.tag(tag.unwrap_or_default());
    }

    /// Tries an operation on a channel of its own; `Err`: it was refused for want of a right.
    async fn attempt(&mut self, operation: &str) -> Result<(), String> {
        if operation.starts_with("connection.") {
            return Ok(()); // what every login of this test does
        }
        self.last_channel += 1;
        let channel = self.last_channel;
        self.user.ask(channel, ChannelOpen::default(), "channel.open-ok").await;
        if operation == "channel.close" {
            self.close(channel).await;
            return Ok(());
        }
        perform(&mut self.user, channel, operation).await;
        // Whatever is refused is refused before this is answered.
        self.user.send(channel, BasicQos::default()).await;
        let refused = loop {
            let frame = self.user.frame().await.expect("the connection goes on");
            if frame.kind != leveret_wire::FRAME_METHOD {
                continue;
            }
            match frame.method() {
                Method::BasicQosOk(_) => break None,
                Method::ChannelClose(close) => break Some(close.reply_text.to_owned()),
                Method::ConnectionClose(close) => panic!("{operation}: {}", close.reply_text),
                _ => {}
            }
        };
        match refused {
            None => self.close(channel).await,
            Some(_) => self.user.send(channel, ChannelCloseOk).await,
        }
        if self.last_channel.is_multiple_of(8) {
            self.last_channel = CHANNEL;
        }
        match refused {
            Some(text) if text.starts_with("ACCESS_REFUSED") || text.contains("user_id property") => {
                Err(text)
            }
            _ => {
                self.furnish().await;
                Ok(())
            }
        }
    }

    async fn close(&mut self, channel: u16) {
        let close = ChannelClose { reply_code: 200, ..Default::default() };
        self.user.send(channel, close).await;
        // A consumer's deliveries may come before the answer.
        while !matches!(self.user.frame().await, Some(frame) if is_close_ok(&frame)) {}
    }
}

fn is_close_ok(frame: &Frame) -> bool {
    frame.kind == leveret_wire::FRAME_METHOD && matches!(frame.method(), Method::ChannelCloseOk(_))
}

async fn log_in(broker: &Broker, vhost: &str) -> Result<Peer<DuplexStream>, String> {
    let mut peer = Peer::log_in(broker.connect_in_memory(), "PLAIN", &plain("u", "u")).await.unwrap();
    match peer.enter(vhost, 0).await {
        Ok(()) => Ok(peer),
        Err(frame) => match frame.unwrap().method() {
            Method::ConnectionClose(close) => Err(close.reply_text.to_owned()),
            other => panic!("{other:?}"),
        },
    }
}

/// Sends what the row says.
async fn perform(peer: &mut Peer<DuplexStream>, channel: u16, operation: &str) {
    match operation.split('.').next() {
        Some("exchange") => perform_on_exchange(peer, channel, operation).await,
        Some("queue") => perform_on_queue(peer, channel, operation).await,
        Some("basic") => perform_basic(peer, channel, operation).await,
        _ => perform_other(peer, channel, operation).await,
    }
}

async fn perform_on_exchange(peer: &mut Peer<DuplexStream>, channel: u16, operation: &str) {
    let (method, variant) = operation.split_once(' ').unwrap_or((operation, ""));
    match method {
        "exchange.declare" => {
            let arguments = FieldTable::from([("alternate-exchange", "d")]).raw_bytes().unwrap();
            let mut declare = ExchangeDeclare { exchange: "n", kind: "fanout", ..Default::default() };
            match variant {
                "new" => {}
                "existing" => declare.exchange = "x",
                "passive" => (declare.exchange, declare.passive) = ("x", true),
                "alternate" => declare.arguments = RawTable::parse(&arguments).unwrap(),
                "default" => declare.exchange = "",
                "reserved" => declare.exchange = "amq.n",
                _ => panic!("no way to try {operation}"),
            }
            peer.send(channel, declare).await;
        }
        "exchange.delete" => {
            let exchange = pick(
                operation,
                &[("", "x"), ("missing", "n"), ("default", ""), ("predeclared", "amq.fanout")],
            );
            peer.send(channel, ExchangeDelete { exchange, ..Default::default() }).await;
        }
        "exchange.bind" => {
            let source = pick(operation, &[("", "x"), ("topic", "t"), ("from-default", "")]);
            peer.send(
                channel,
                ExchangeBind { destination: "d", source, routing_key: "k", ..Default::default() },
            )
            .await;
        }
        "exchange.unbind" => {
            let source = pick(operation, &[("", "x"), ("topic", "t")]);
            peer.send(
                channel,
                ExchangeUnbind { destination: "d", source, routing_key: "k", ..Default::default() },
            )
            .await;
        }
        _ => panic!("no way to try {operation}"),
    }
}

async fn perform_on_queue(peer: &mut Peer<DuplexStream>, channel: u16, operation: &str) {
    let (method, variant) = operation.split_once(' ').unwrap_or((operation, ""));
    match method {
        "queue.declare" => {
            let arguments = FieldTable::from([("x-dead-letter-exchange", "d")]).raw_bytes().unwrap();
            let mut declare = QueueDeclare { queue: "n", ..Default::default() };
            match variant {
                "new" => {}
                "existing" => declare.queue = "q",
                "passive" => (declare.queue, declare.passive) = ("q", true),
                "dead-letters" => declare.arguments = RawTable::parse(&arguments).unwrap(),
                "reserved" => declare.queue = "amq.n",
                _ => panic!("no way to try {operation}"),
            }
            peer.send(channel, declare).await;
        }
        "queue.delete" => {
            let queue = pick(operation, &[("", "q"), ("missing", "n")]);
            peer.send(channel, QueueDelete { queue, ..Default::default() }).await;
        }
        "queue.purge" => peer.send(channel, QueuePurge { queue: "q", ..Default::default() }).await,
        "queue.bind" => {
            let exchange =
                pick(operation, &[("", "x"), ("topic", "t"), ("to-default", ""), ("reply-address", "x")]);
            let queue = if variant == "reply-address" { "amq.rabbitmq.reply-to.g1" } else { "q" };
            peer.send(channel, QueueBind { queue, exchange, routing_key: "k", ..Default::default() }).await;
        }
        "queue.unbind" => {
            let exchange = pick(operation, &[("", "x"), ("topic", "t")]);
            peer.send(channel, QueueUnbind { queue: "q", exchange, routing_key: "k", ..Default::default() })
                .await;
        }
        _ => panic!("no way to try {operation}"),
    }
}

async fn perform_basic(peer: &mut Peer<DuplexStream>, channel: u16, operation: &str) {
    let (method, variant) = operation.split_once(' ').unwrap_or((operation, ""));
    match method {
        "basic.publish" => publish(peer, channel, operation).await,
        "basic.consume" => {
            let queue = pick(operation, &[("", "q"), ("reply-to", "amq.rabbitmq.reply-to")]);
            let no_ack = variant == "reply-to";
            peer.send(channel, BasicConsume { queue, no_ack, ..Default::default() }).await;
        }
        "basic.get" => peer.send(channel, BasicGet { queue: "q", ..Default::default() }).await,
        "basic.cancel" => peer.send(channel, BasicCancel { consumer_tag: "c", ..Default::default() }).await,
        "basic.qos" => peer.send(channel, BasicQos::default()).await,
        "basic.ack" => peer.send(channel, BasicAck { delivery_tag: 1, multiple: false }).await,
        "basic.nack" => peer.send(channel, BasicNack { delivery_tag: 1, ..Default::default() }).await,
        "basic.reject" => peer.send(channel, BasicReject { delivery_tag: 1, requeue: true }).await,
        "basic.recover" => peer.send(channel, BasicRecover { requeue: true }).await,
        "basic.recover-async" => peer.send(channel, BasicRecoverAsync { requeue: true }).await,
        _ => panic!("no way to try {operation}"),
    }
}

async fn perform_other(peer: &mut Peer<DuplexStream>, channel: u16, operation: &str) {
    match operation {
        "confirm.select" => peer.send(channel, ConfirmSelect::default()).await,
        "tx.select" => peer.send(channel, TxSelect).await,
        "tx.commit" => peer.send(channel, TxCommit).await,
        "tx.rollback" => peer.send(channel, TxRollback).await,
        "access.request" => peer.send(channel, AccessRequest::default()).await,
        "channel.open" => {} // every attempt begins with it
        "channel.flow" => peer.send(channel, ChannelFlow { active: true }).await,
        _ => panic!("no way to try {operation}"),
    }
}

async fn publish(peer: &mut Peer<DuplexStream>, channel: u16, operation: &str) {
    let to = [
        ("", "x"),
        ("default", ""),
        ("topic", "t"),
        ("topic-copy", "t"),
        ("internal", "i"),
        ("foreign-user-id", "x"),
    ];
    let exchange = pick(operation, &to);
    let mut properties = Properties::default();
    if operation.ends_with("topic-copy") {
        let copies = leveret_wire::FieldValue::Array(vec!["c".into()]);
        properties.headers = Some(FieldTable::from([("CC", copies)]));
    }
    if operation.ends_with("foreign-user-id") {
        properties.user_id = Some("guest".into());
    }
    let publish = BasicPublish { exchange, routing_key: "k", ..Default::default() };
    peer.publish_to(channel, publish, &properties, b"m").await;
}

/// The name that goes with the variant of an operation.
fn pick(operation: &str, names: &[(&str, &'static str)]) -> &'static str {
    let variant = operation.split_once(' ').map_or("", |(_, variant)| variant);
    let found = names.iter().find(|(known, _)| *known == variant);
    found.unwrap_or_else(|| panic!("no way to try {operation}")).1
}

#[tokio::test]
async fn exactly_the_rights_in_the_table_are_enough() {
    let mut trial = Trial::start().await;
    for Row { operation, rights } in rows() {
        if rights.contains(&Right::Never) {
            trial.permit(".*", ".*", ".*");
            assert!(trial.attempt(operation).await.is_err(), "{operation}: refused to everybody");
            continue;
        }
        trial.grant(&rights);
        assert_eq!(trial.attempt(operation).await, Ok(()), "{operation} with {rights:?}");
        for missing in 0..rights.len() {
            let mut fewer = rights.clone();
            let taken = fewer.remove(missing);
            trial.grant(&fewer);
            let refused = trial.attempt(operation).await.expect_err(operation);
            check_text(operation, taken, &refused);
        }
    }
}

/// The refusal says which right is missing.
fn check_text(operation: &str, taken: Right, refused: &str) {
    let expected = match taken {
        Right::Configure(name) | Right::Any(name) => format!("configure access to ~ '{name}' in vhost '/'"),
        Right::Write(name) => format!("write access to ~ '{name}' in vhost '/'"),
        Right::Read(name) => format!("read access to ~ '{name}' in vhost '/'"),
        Right::TopicWrite(key) => format!("write access to topic '{key}' in ~ 't' in vhost '/'"),
        Right::TopicRead(key) => format!("read access to topic '{key}' in ~ 't' in vhost '/'"),
        Right::Tag(_) => "user_id property set to".to_owned(),
        Right::Never => return,
    };
    let said = refused.replace("exchange '", "~ '").replace("queue '", "~ '");
    assert!(said.contains(&expected), "{operation}: {refused:?} does not say {expected:?}");
}

#[tokio::test]
async fn no_combination_allows_more_than_the_table_says() {
    let mut trial = Trial::start().await;
    for tag in TAGS {
        trial.tag(tag);
        for bits in 0..8 {
            let [configure, write, read] = [1, 2, 4].map(|bit| bits & bit != 0);
            let pattern = |granted| if granted { ".*" } else { "" };
            trial.permit(pattern(configure), pattern(write), pattern(read));
            for Row { operation, rights } in rows() {
                let has = |right: &Right| match right {
                    Right::Configure(_) => configure,
                    Right::Write(_) => write,
                    Right::Read(_) => read,
                    Right::Any(_) => configure || write || read,
                    Right::TopicWrite(_) | Right::TopicRead(_) => true,
                    Right::Tag(needed) => *needed == tag,
                    Right::Never => false,
                };
                let allowed = rights.iter().all(has);
                let found = trial.attempt(operation).await;
                assert_eq!(found.is_ok(), allowed, "{operation} as {tag:?} with {bits:03b}: {found:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_tag_opens_somebody_elses_virtual_host() {
    let trial = Trial::start().await;
    trial.permit(".*", ".*", ".*");
    for tag in TAGS {
        trial.tag(tag);
        let refused = log_in(&trial.broker, "foreign").await.err();
        assert_eq!(
            refused.as_deref(),
            Some("NOT_ALLOWED - access to vhost 'foreign' refused for user 'u'"),
            "{tag}"
        );
    }
}

#[test]
fn every_method_that_a_client_may_send_has_a_row() {
    let specification: serde_json::Value = serde_json::from_str(SPECIFICATION).unwrap();
    let mut methods = BTreeSet::new();
    for class in specification["classes"].as_array().unwrap() {
        for method in class["methods"].as_array().unwrap() {
            methods.insert(format!(
                "{}.{}",
                class["name"].as_str().unwrap(),
                method["name"].as_str().unwrap()
            ));
        }
    }
    let listed: BTreeSet<String> =
        rows().iter().map(|row| row.operation.split(' ').next().unwrap().to_owned()).collect();
    let is_answer = |method: &&String| {
        let only_servers = [
            "basic.return",
            "basic.deliver",
            "basic.get-empty",
            "connection.blocked",
            "connection.unblocked",
        ];
        let handshake = ["connection.start", "connection.secure", "connection.tune"];
        method.ends_with("-ok")
            || only_servers.contains(&method.as_str())
            || handshake.contains(&method.as_str())
    };
    let missing: Vec<_> = methods.difference(&listed).filter(|method| !is_answer(method)).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
    let unknown: Vec<_> = listed.difference(&methods).collect();
    assert!(unknown.is_empty(), "no methods of AMQP: {unknown:?}");
}
