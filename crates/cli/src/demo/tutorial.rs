//! The tutorial RPC, as every RabbitMQ client library teaches it: `rpc_queue`, `reply_to`, `correlation_id`,
//! `prefetch_count=1`, and Fibonacci numbers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use lapin::options::BasicAckOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use tokio::task::JoinSet;

use super::peer::{Inbox, Life, Peer, consume, declare_queue, publish, watched};
use super::report::Report;
use super::stage::Stage;

const RPC_QUEUE: &str = "rpc_queue";
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";
const NUMBERS: std::ops::Range<u32> = 0..20;
const SLOW: Duration = Duration::from_millis(100);

pub(super) async fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    let client = Peer::connect(&stage.url()).await?;
    declare_queue(&client.channel, RPC_QUEUE, Life::Transient).await?;
    let (slow, fast) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut servers = JoinSet::new();
    servers.spawn(watched("the slow server", serve(stage.url(), SLOW, slow.clone())));
    servers.spawn(watched("the fast server", serve(stage.url(), Duration::ZERO, fast.clone())));

    let callback = declare_queue(&client.channel, "", Life::Temporary).await?.name().clone();
    let mut inbox = consume(&client.channel, callback.as_str(), None).await?;
    let expected: BTreeMap<u32, u64> = NUMBERS.map(|number| (number, fibonacci(number))).collect();
    let found = call_all(&client.channel, &callback, &mut inbox).await?;
    report.check(
        "20 calls at once over a callback queue: every answer finds its call",
        found,
        expected.clone(),
    );
    let (slow, fast) = (slow.load(Ordering::Relaxed), fast.load(Ordering::Relaxed));
    report.check("prefetch 1: the slow server does not hoard what the fast one could do", fast > slow, true);

    let mut inbox = consume(&client.channel, DIRECT_REPLY_TO, None).await?;
    let found = call_all(&client.channel, &DIRECT_REPLY_TO.into(), &mut inbox).await?;
    report.check("and 20 over direct reply-to, without any queue", found, expected);
    client.close().await
}

/// Calls for all numbers before the first answer is read.
async fn call_all(
    channel: &Channel,
    reply_to: &ShortString,
    inbox: &mut Inbox,
) -> Result<BTreeMap<u32, u64>> {
    for number in NUMBERS {
        let properties = BasicProperties::default()
            .with_reply_to(reply_to.clone())
            .with_correlation_id(number.to_string().into());
        publish(channel, ("", RPC_QUEUE), properties, number.to_string().as_bytes()).await?;
    }
    let mut answers = BTreeMap::new();
    for _ in NUMBERS {
        let answer = inbox.next().await?;
        let call =
            answer.properties.correlation_id().as_ref().context("an answer to no call")?.as_str().parse()?;
        answers.insert(call, String::from_utf8(answer.data)?.parse()?);
    }
    Ok(answers)
}

async fn serve(url: String, pace: Duration, served: Arc<AtomicUsize>) -> Result<()> {
    let server = Peer::connect(&url).await?;
    let mut inbox = consume(&server.channel, RPC_QUEUE, Some(1)).await?;
    while let Ok(request) = inbox.next().await {
        let number = std::str::from_utf8(&request.data)?.parse()?;
        tokio::time::sleep(pace).await;
        let reply_to = request.properties.reply_to().clone().context("a call without reply_to")?;
        let correlation_id = request.properties.correlation_id().clone().context("a call without an id")?;
        let properties = BasicProperties::default().with_correlation_id(correlation_id);
        let answer = fibonacci(number).to_string();
        publish(&server.channel, ("", reply_to.as_str()), properties, answer.as_bytes()).await?;
        request.ack(BasicAckOptions::default()).await?;
        served.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The tutorial's, with its famous slowness.
fn fibonacci(number: u32) -> u64 {
    match number {
        0 => 0,
        1 => 1,
        _ => fibonacci(number - 1) + fibonacci(number - 2),
    }
}
