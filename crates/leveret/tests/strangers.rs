//! Requests and answers of programs that make mistakes, or mean harm: a worker serves on, a caller gets its one outcome.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leveret::dialect::Dialect;
use leveret::{CallError, Client, Context, Failure, FieldTable, FieldValue, Handler, Properties};
use leveret_client::{Connection, Consume, Flush, Publish, QueueDeclare};
use support::{PATIENCE, Site, publish, soon, square, until};

/// Counts what it is given, and what it is given again.
#[derive(Clone, Default)]
struct Tally {
    requests: Arc<AtomicUsize>,
    again: Arc<AtomicUsize>,
}

impl Tally {
    fn handler(&self) -> impl Handler {
        let tally = self.clone();
        leveret::handler(move |cx: Context, n: i64| {
            tally.requests.fetch_add(1, Ordering::SeqCst);
            tally.again.fetch_add(usize::from(cx.redelivered()), Ordering::SeqCst);
            async move { Ok::<_, Failure>(n * n) }
        })
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn again(&self) -> usize {
        self.again.load(Ordering::SeqCst)
    }
}

fn replying_to(reply_to: &[u8]) -> Properties {
    Properties {
        reply_to: Some(reply_to.to_vec()),
        correlation_id: Some(b"1".to_vec()),
        ..Properties::default()
    }
}

async fn ask(client: &Client, service: &str) {
    let answer = client.call::<_, i64>(service, &3).timeout(PATIENCE);
    assert_eq!(soon(answer.into_future()).await.unwrap(), 9);
}

#[tokio::test]
async fn a_forged_reply_to_costs_the_worker_nothing() {
    let site = Site::new();
    let client = site.client().await;
    let connection = client.connection().await.unwrap();
    let (service, tally) = (site.name("square"), Tally::default());
    let serve = site.serve(&client, "square", tally.handler());
    let worker = serve.dialects(&[Dialect::Spring, Dialect::Profile]).start().await.unwrap();
    let channel = connection.channel().await.unwrap();
    let addresses: [&[u8]; 13] = [
        b"amq.rabbitmq.reply-to.forged",
        b"amq.rabbitmq.reply-to.g1h2AA5yZXBseUAyNjQ3ODMxNQAAB+sAAAAAYXgBUg==.Am1vc3RseSBnYXJiYWdl",
        b"amq.rabbitmq.reply-to.",
        b"no-such-queue",
        b"missing-exchange/key",
        b"missing-exchange/",
        b"amq.rabbitmq.trace/key",
        b"amq.topic/nobody.listens",
        b"//",
        b"\xff\xfe",
        b"",
        b"rpc.bounce/key",
        &[b'q'; 255],
    ];
    for (n, reply_to) in addresses.iter().enumerate() {
        publish(&connection, &service, &replying_to(reply_to), b"7").await;
        until("the request is served", || tally.requests() > 2 * n).await;
        let ping = format!("ping.{service}");
        let asked = replying_to(reply_to);
        let discovery = Publish { exchange: "rpc.ctl", mandatory: false, ..to(&ping, &asked, b"") };
        channel.publish(&discovery).await.unwrap();
        ask(&client, &service).await;
    }
    assert_eq!((tally.requests(), tally.again()), (2 * addresses.len(), 0));
    worker.drain().await;
}

/// A broker refuses it from whoever takes no direct replies, at the expense of that channel only.
#[tokio::test]
async fn direct_reply_to_without_a_consumer_reaches_nobody() {
    let site = Site::new();
    let client = site.client().await;
    let connection = client.connection().await.unwrap();
    let (service, tally) = (site.name("square"), Tally::default());
    let worker = site.serve(&client, "square", tally.handler()).start().await.unwrap();
    let channel = connection.channel().await.unwrap();
    let properties = replying_to(b"amq.rabbitmq.reply-to");
    channel.publish(&to(&service, &properties, b"7")).await.unwrap();
    assert_eq!(soon(channel.closed()).await.code, 406);
    ask(&client, &service).await;
    assert_eq!((tally.requests(), tally.again()), (1, 0));
    worker.drain().await;
}

#[tokio::test]
async fn an_answer_sent_to_another_service_is_no_request_of_it() {
    let site = Site::new();
    let client = site.client().await;
    let (tally, victim) = (Tally::default(), Tally::default());
    let worker = site.serve(&client, "square", tally.handler()).start().await.unwrap();
    let other = site.serve(&client, "victim", victim.handler()).start().await.unwrap();
    let properties = replying_to(site.name("victim").as_bytes());
    publish(&client.connection().await.unwrap(), &site.name("square"), &properties, b"7").await;
    until("the answer is refused", || other.stats().refused == 1).await;
    ask(&client, &site.name("victim")).await;
    assert_eq!((tally.requests(), victim.requests(), victim.again()), (1, 1, 0));
    worker.drain().await;
    other.drain().await;
}

fn oddities() -> Vec<FieldValue> {
    let mut table = FieldTable::new();
    table.insert("reason", FieldValue::I64(1));
    vec![
        FieldValue::LongString(b"soon".to_vec()),
        FieldValue::LongString(vec![0xff; 300]),
        FieldValue::Bool(true),
        FieldValue::I64(i64::MIN),
        FieldValue::F64(-0.5),
        FieldValue::Timestamp(u64::MAX >> 1),
        FieldValue::Void,
        FieldValue::Table(table.clone()),
        FieldValue::Array(vec![FieldValue::Void, FieldValue::Table(table)]),
    ]
}

#[tokio::test]
async fn headers_of_the_wrong_type_are_as_good_as_absent() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    let connection = client.connection().await.unwrap();
    let names = [
        "rpc-deadline",
        "rpc-caller",
        "rpc-attempt",
        "rpc-accept",
        "rpc-credit-to",
        "rpc-seq",
        "rpc-end",
        "rpc-worker",
        "traceparent",
        "tracestate",
        "x-death",
        "x-delivery-count",
        "task",
        "__TypeId__",
    ];
    for value in oddities() {
        let mut headers = FieldTable::new();
        for name in names {
            headers.insert(name, value.clone());
        }
        let properties = Properties { headers: Some(headers), ..Properties::default() };
        let answer = soon(call_plainly(&connection, &site.name("square"), properties)).await;
        assert_eq!(answer, b"49", "{value:?}");
    }
    assert_eq!(worker.stats().requests, oddities().len() as u64);
    worker.drain().await;
}

/// Calls as a program without any library of ours does: the answer of whoever echoes the correlation id.
async fn call_plainly(connection: &Connection, service: &str, properties: Properties) -> Vec<u8> {
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue(&QueueDeclare::exclusive("")).await.unwrap().name;
    let mut answers = channel.consume(&Consume::queue(&queue).no_ack()).await.unwrap();
    let correlation_id = properties.correlation_id.clone().unwrap_or_else(|| b"plain".to_vec());
    let properties = Properties {
        reply_to: Some(queue.into_bytes()),
        correlation_id: Some(correlation_id.clone()),
        ..properties
    };
    channel.publish(&to(service, &properties, b"7")).await.unwrap();
    let answer = answers.next().await.unwrap();
    assert_eq!(answer.properties().correlation_id(), Some(&correlation_id[..]));
    let body = answer.body.to_vec();
    channel.close().await.unwrap();
    body
}

fn to<'a>(queue: &'a str, properties: &'a Properties, body: &'a [u8]) -> Publish<'a> {
    Publish { exchange: "", routing_key: queue, mandatory: true, properties, body, flush: Flush::Now }
}

#[tokio::test]
async fn identifiers_come_back_octet_by_octet_or_are_not_sent() {
    let site = Site::new();
    let client = site.client().await;
    let service = site.name("square");
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    let connection = client.connection().await.unwrap();
    for id in [&b"1"[..], b"\xff\x00\xfe", &[b'i'; 255]] {
        let properties = Properties { correlation_id: Some(id.to_vec()), ..Properties::default() };
        soon(call_plainly(&connection, &service, properties)).await;
    }
    let channel = connection.channel().await.unwrap();
    let too_long = Properties { correlation_id: Some(vec![b'i'; 300]), ..Properties::default() };
    assert!(channel.publish(&to(&service, &too_long, b"7")).await.is_err());
    let error = client.call::<_, i64>(&service, &7).message_id("i".repeat(300)).await.unwrap_err();
    assert!(matches!(error, CallError::Unsendable(_)), "{error:?}");
    let error = client.call::<_, i64>(&"s".repeat(300), &7).await.unwrap_err();
    assert!(matches!(error, CallError::Unsendable(_)), "{error:?}");
    let error = client.call::<_, i64>(&service, &7).header("x", f64::NAN).await.unwrap_err();
    assert!(matches!(error, CallError::Unsendable(_)), "{error:?}");
    ask(&client, &service).await;
    worker.drain().await;
}

/// A worker without any library of ours, which answers every request with these headers.
async fn answer_plainly(client: &Client, service: &str, headers: FieldTable) -> leveret_client::Channel {
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    channel.declare_queue(&QueueDeclare::durable(service)).await.unwrap();
    let mut requests = channel.consume(&Consume::queue(service)).await.unwrap();
    let answers = channel.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let asked = request.properties().to_properties();
            let reply_to = String::from_utf8(asked.reply_to.unwrap()).unwrap();
            let properties = Properties {
                correlation_id: asked.correlation_id,
                headers: Some(headers.clone()),
                ..Properties::default()
            };
            answers.publish(&to(&reply_to, &properties, b"49")).await.unwrap();
            request.ack();
        }
    });
    channel
}

#[tokio::test]
async fn an_odd_answer_is_one_outcome_for_one_caller() {
    let site = Site::new();
    let client = site.client().await;
    for (n, value) in oddities().into_iter().enumerate() {
        let mut headers = FieldTable::new();
        for name in
            ["rpc-status", "rpc-error", "rpc-seq", "rpc-end", "rpc-worker", "x-death", "x-delivery-count"]
        {
            headers.insert(name, value.clone());
        }
        let service = site.name(&format!("odd-{n}"));
        let stranger = answer_plainly(&client, &service, headers).await;
        let call = client.call::<_, i64>(&service, &7).timeout(PATIENCE);
        let outcome = soon(call.into_future()).await;
        assert!(!matches!(outcome, Err(CallError::Expired { .. })), "{value:?}: {outcome:?}");
        stranger.delete_queue(&service).await.unwrap();
        stranger.close().await.unwrap();
    }
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    ask(&client, &site.name("square")).await;
    worker.drain().await;
}
