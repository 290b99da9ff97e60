//! The server farms: whoever serves subscribes by topic, whoever asks names the exchange and the key to answer to.
//! And one call that asks everybody: a single message, a hundred answers gathered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use lapin::message::DeliveryResult;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use tokio::task::JoinSet;

use super::peer::{Inbox, Life, Peer, bind, consume, declare_queue, publish, subscribe, unique_id, watched};
use super::report::Report;
use super::stage::Stage;

const TOPICS: &str = "amq.topic";
const FARMS: [&str; 2] = ["ohio", "virginia"];
const REQUESTS: usize = 10;
/// Stands for the minute that a real worker waits before it looks around and goes on.
const IDLE_TIMEOUT: Duration = Duration::from_millis(50);

pub(super) async fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    let client = Peer::connect(&stage.url()).await?;
    ask_farms(stage, &client, report).await?;
    subscribe_by_topic(&client, report).await?;
    for (what, count) in [("thermometers", 100), ("servers", 89)] {
        let answers = ask_everybody(stage, &client, what, count).await?;
        let said = format!("one message asks {count} {what}, and {count} answer, each once");
        report.check(said, answers, (0..count).map(|number| (number, 1)).collect());
    }
    client.close().await
}

async fn ask_farms(stage: &Stage, client: &Peer, report: &mut Report) -> Result<()> {
    let idle = Arc::new(AtomicUsize::new(0));
    let mut farms = JoinSet::new();
    for farm in FARMS {
        let queue = format!("farm.{farm}");
        declare_queue(&client.channel, &queue, Life::Durable).await?;
        bind(&client.channel, &queue, TOPICS, &format!("#.{farm}")).await?;
        farms.spawn(watched("a farm", serve_farm(stage.url(), farm, idle.clone())));
    }
    let key = format!("answers.{}", unique_id()?);
    let queue = subscribe(&client.channel, TOPICS, &key).await?;
    let mut inbox = consume(&client.channel, &queue, None).await?;
    let reply_to = format!("{TOPICS}/{key}");
    for number in 0..REQUESTS {
        for farm in FARMS {
            request(&client.channel, farm, &reply_to, &number.to_string()).await?;
        }
    }
    let mut answers = gather_texts(&mut inbox, REQUESTS * FARMS.len()).await?;
    answers.sort();
    let mut expected: Vec<_> = FARMS
        .iter()
        .flat_map(|farm| (0..REQUESTS).map(move |number| format!("{farm} did {number}")))
        .collect();
    expected.sort();
    report.check(
        "10 requests to #.ohio and 10 to #.virginia: 20 answers, to the sender's exchange and key",
        answers,
        expected,
    );

    while idle.load(Ordering::Relaxed) < FARMS.len() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    request(&client.channel, "ohio", &reply_to, "late").await?;
    let late = gather_texts(&mut inbox, 1).await?;
    report.check(
        "a farm whose wait timed out goes on and answers the next",
        late,
        vec!["ohio did late".into()],
    );
    Ok(())
}

async fn request(channel: &Channel, farm: &str, reply_to: &str, body: &str) -> Result<()> {
    let properties = BasicProperties::default().with_reply_to(reply_to.into());
    publish(channel, (TOPICS, &format!("weather.{farm}")), properties, body.as_bytes()).await?;
    Ok(())
}

/// A worker of a farm. Nothing to do for a while is no error.
async fn serve_farm(url: String, farm: &'static str, idle: Arc<AtomicUsize>) -> Result<()> {
    let worker = Peer::connect(&url).await?;
    let mut inbox = consume(&worker.channel, &format!("farm.{farm}"), Some(1)).await?;
    loop {
        let Some(request) = inbox.next_within(IDLE_TIMEOUT).await? else {
            idle.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let reply_to = request.properties.reply_to().clone().context("a request without reply-to")?;
        let (exchange, key) = reply_to.as_str().split_once('/').context("reply-to names no exchange")?;
        let answer = format!("{farm} did {}", String::from_utf8_lossy(&request.data));
        publish(&worker.channel, (exchange, key), BasicProperties::default(), answer.as_bytes()).await?;
        request.ack(BasicAckOptions::default()).await?;
    }
}

async fn subscribe_by_topic(client: &Peer, report: &mut Report) -> Result<()> {
    let channel = client.second_channel().await?;
    let ohio = subscribe(&channel, TOPICS, "#.ohio").await?;
    let sports = subscribe(&channel, TOPICS, "sports.#").await?;
    let (mut ohio, mut sports) =
        (consume(&channel, &ohio, None).await?, consume(&channel, &sports, None).await?);
    for key in ["news.ohio", "sports.ohio", "sports.virginia", "news.virginia"] {
        publish(&channel, (TOPICS, key), BasicProperties::default(), key.as_bytes()).await?;
    }
    let found = (gather_texts(&mut ohio, 2).await?, gather_texts(&mut sports, 2).await?);
    let texts = |keys: [&str; 2]| keys.map(str::to_owned).to_vec();
    let expected = (texts(["news.ohio", "sports.ohio"]), texts(["sports.ohio", "sports.virginia"]));
    report.check("news.ohio and sports.ohio reach #.ohio; sports.ohio reaches sports.# too", found, expected);
    Ok(channel.close(200, "OK".into()).await?)
}

async fn gather_texts(inbox: &mut Inbox, count: usize) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    while texts.len() < count {
        texts.push(String::from_utf8(inbox.next().await?.data)?);
    }
    Ok(texts)
}

/// Asks `count` peers with one message; returns how often each answered.
async fn ask_everybody(
    stage: &Stage,
    client: &Peer,
    what: &str,
    count: usize,
) -> Result<BTreeMap<usize, usize>> {
    let peers = Peer::connect(&stage.url()).await?;
    for number in 0..count {
        let queue = subscribe(&peers.channel, TOPICS, &format!("everybody.{what}")).await?;
        answer_with(&peers.channel, &queue, number).await?;
    }
    let queue = declare_queue(&client.channel, "", Life::Temporary).await?.name().to_string();
    let mut inbox = consume(&client.channel, &queue, None).await?;
    let properties = BasicProperties::default().with_reply_to(queue.into());
    publish(&client.channel, (TOPICS, &format!("everybody.{what}")), properties, b"report").await?;
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let number = String::from_utf8(inbox.next().await?.data)?.parse()?;
        *answers.entry(number).or_default() += 1;
    }
    peers.close().await?;
    Ok(answers)
}

/// Answers whatever arrives in a queue with a number.
async fn answer_with(channel: &Channel, queue: &str, number: usize) -> Result<()> {
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let channel = channel.clone();
    consumer.set_delegate(move |delivery: DeliveryResult| {
        let channel = channel.clone();
        async move {
            let Ok(Some(request)) = delivery else { return };
            let Some(reply_to) = request.properties.reply_to().clone() else { return };
            let (body, options) = (number.to_string(), BasicPublishOptions::default());
            // An answer that cannot be sent is missed by the one who gathers.
            let _ = channel
                .basic_publish("".into(), reply_to, options, body.as_bytes(), BasicProperties::default())
                .await;
        }
    });
    Ok(())
}
