//! The tutorial RPC, as every RabbitMQ client library teaches it: `rpc_queue`, `reply_to`, `correlation_id`,
//! `prefetch_count=1`, and Fibonacci numbers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use leveret::{Client, Failure, ServeError, Worker};

use super::crew;
use super::peer::{Inbox, Life, Peer, answered_by, consume, declare_queue, publish};
use super::report::Report;
use super::stage::Stage;

const RPC_QUEUE: &str = "rpc_queue";
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";
const NUMBERS: std::ops::Range<u32> = 0..20;
const SLOW: Duration = Duration::from_millis(100);

pub(super) async fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    let client = Peer::connect(&stage.url()).await?;
    declare_queue(&client.channel, RPC_QUEUE, Life::Transient).await?;
    let slow = crew::hire(stage.url(), |client| serve(client, SLOW)).await?;
    let fast = crew::hire(stage.url(), |client| serve(client, Duration::ZERO)).await?;

    let callback = declare_queue(&client.channel, "", Life::Temporary).await?.name().clone();
    let mut inbox = consume(&client.channel, callback.as_str(), None).await?;
    let expected: BTreeMap<u32, u64> = NUMBERS.map(|number| (number, fibonacci(number))).collect();
    let answers = call_all(&client.channel, &callback, &mut inbox).await?;
    report.check(
        "20 calls at once over a callback queue: every answer finds its call",
        numbers(&answers),
        expected.clone(),
    );
    let count = |crew: &crew::Crew| answers.values().filter(|answer| crew.names.contains(&answer.by)).count();
    let more = count(&fast) > count(&slow);
    report.check("prefetch 1: the slow server does not hoard what the fast one could do", more, true);

    let mut inbox = consume(&client.channel, DIRECT_REPLY_TO, None).await?;
    let direct = call_all(&client.channel, &DIRECT_REPLY_TO.into(), &mut inbox).await?;
    report.check("and 20 over direct reply-to, without any queue", numbers(&direct), expected);
    for Answer { by, took, .. } in answers.values().chain(direct.values()) {
        report.answered(RPC_QUEUE, by, *took);
    }
    slow.dismiss().await?;
    fast.dismiss().await?;
    client.close().await
}

struct Answer {
    number: u64,
    by: String,
    took: Duration,
}

fn numbers(answers: &BTreeMap<u32, Answer>) -> BTreeMap<u32, u64> {
    answers.iter().map(|(call, answer)| (*call, answer.number)).collect()
}

/// Calls for all numbers before the first answer is read.
async fn call_all(
    channel: &Channel,
    reply_to: &ShortString,
    inbox: &mut Inbox,
) -> Result<BTreeMap<u32, Answer>> {
    let asked = Instant::now();
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
        let by = answered_by(&answer).context("an answer without a signature")?;
        let number = String::from_utf8(answer.data)?.parse()?;
        answers.insert(call, Answer { number, by, took: asked.elapsed() });
    }
    Ok(answers)
}

async fn serve(client: Client, pace: Duration) -> Result<Vec<Worker>, ServeError> {
    let server = leveret::handler(move |_, number: u32| async move {
        tokio::time::sleep(pace).await;
        Ok::<_, Failure>(fibonacci(number))
    });
    Ok(vec![client.serve(RPC_QUEUE, server).concurrency(1).start().await?])
}

/// The tutorial's, with its famous slowness.
fn fibonacci(number: u32) -> u64 {
    match number {
        0 => 0,
        1 => 1,
        _ => fibonacci(number - 1) + fibonacci(number - 2),
    }
}
