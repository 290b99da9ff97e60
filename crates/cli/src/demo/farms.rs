//! The server farms: whoever serves subscribes by topic, whoever asks names the exchange and the key to answer to.
//! And one call that asks everybody: a single message, a hundred answers gathered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lapin::options::BasicAckOptions;
use lapin::{BasicProperties, Channel};
use leveret::dialect::Dialect;
use leveret::{Answer, Client, Failure, Payload, Request, ServeError, Worker};
use tokio::task::JoinSet;

use super::crew;
use super::peer::{
    Inbox, Life, Peer, answered_by, bind, consume, declare_queue, publish, subscribe, unique_id, watched,
};
use super::report::Report;
use super::stage::Stage;

const TOPICS: &str = "amq.topic";
/// The first is an ordinary AMQP client, the second made with the toolkit.
const FARMS: [&str; 2] = ["ohio", "virginia"];
/// Each with a thread and a connection of its own, for those who are asked together.
const HOUSES: usize = 4;
const REQUESTS: usize = 10;
/// Stands for the minute that a real worker waits before it looks around and goes on.
const IDLE_TIMEOUT: Duration = Duration::from_millis(50);

pub(super) async fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    let client = Peer::connect(&stage.url()).await?;
    ask_farms(stage, &client, report).await?;
    subscribe_by_topic(&client, report).await?;
    for (what, count) in [("thermometers", 100), ("servers", 89)] {
        let answers = ask_everybody(stage, report, what, count).await?;
        let said = format!("one message asks {count} {what}, and {count} answer, each once");
        report.check(said, answers, (0..count).map(|number| (number, 1)).collect());
    }
    client.close().await
}

async fn ask_farms(stage: &Stage, client: &Peer, report: &mut Report) -> Result<()> {
    let idle = Arc::new(AtomicUsize::new(0));
    let mut farms = JoinSet::new();
    let [ohio, virginia] = FARMS;
    declare_queue(&client.channel, "farm.ohio", Life::Durable).await?;
    bind(&client.channel, "farm.ohio", TOPICS, "#.ohio").await?;
    farms.spawn(watched("a farm", serve_plainly(stage.url(), ohio, idle.clone())));
    let crew = crew::hire(stage.url(), move |client| serve_with_toolkit(client, virginia)).await?;
    let key = format!("answers.{}", unique_id()?);
    let queue = subscribe(&client.channel, TOPICS, &key).await?;
    let mut inbox = consume(&client.channel, &queue, None).await?;
    let reply_to = format!("{TOPICS}/{key}");
    let asked = Instant::now();
    for number in 0..REQUESTS {
        for farm in FARMS {
            request(&client.channel, farm, &reply_to, &number.to_string()).await?;
        }
    }
    let mut answers = Vec::new();
    for _ in 0..REQUESTS * FARMS.len() {
        let answer = inbox.next().await?;
        let by = answered_by(&answer).unwrap_or_else(|| "farm.ohio (lapin)".to_owned());
        report.answered("amq.topic weather.*", &by, asked.elapsed());
        answers.push(String::from_utf8(answer.data)?);
    }
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

    while idle.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    request(&client.channel, "ohio", &reply_to, "late").await?;
    let late = gather_texts(&mut inbox, 1).await?;
    report.check(
        "a farm whose wait timed out goes on and answers the next",
        late,
        vec!["ohio did late".into()],
    );
    crew.dismiss().await
}

async fn request(channel: &Channel, farm: &str, reply_to: &str, body: &str) -> Result<()> {
    let properties = BasicProperties::default().with_reply_to(reply_to.into());
    publish(channel, (TOPICS, &format!("weather.{farm}")), properties, body.as_bytes()).await?;
    Ok(())
}

/// A worker of a farm: it hears its topics and answers to the exchange and key in `reply_to`.
async fn serve_with_toolkit(client: Client, farm: &'static str) -> Result<Vec<Worker>, ServeError> {
    let server = leveret::raw(move |request: Request| async move {
        let answer = format!("{farm} did {}", String::from_utf8_lossy(&request.payload.body));
        Ok(Answer::One(Payload::new("text/plain", answer)))
    });
    let serve = client.serve(&format!("farm.{farm}"), server).bind(TOPICS, format!("#.{farm}"));
    Ok(vec![serve.dialects(&[Dialect::Spring]).concurrency(1).start().await?])
}

/// The same by hand. Nothing to do for a while is no error.
async fn serve_plainly(url: String, farm: &'static str, idle: Arc<AtomicUsize>) -> Result<()> {
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
    report: &mut Report,
    what: &'static str,
    count: usize,
) -> Result<BTreeMap<usize, usize>> {
    let mut crews = Vec::new();
    for house in 0..HOUSES {
        let peers = (house..count).step_by(HOUSES);
        crews.push(crew::hire(stage.url(), move |client| answer_with_numbers(client, what, peers)).await?);
    }
    let client = Client::connect(&stage.url()).await?;
    let asked = format!("everybody.{what}");
    let mut answers = BTreeMap::new();
    for one in client.gather::<_, usize>(TOPICS, &asked, &()).count(count).await? {
        report.answered(&asked, &format!("{count} {what}"), one.after);
        *answers.entry(one.answer?).or_default() += 1;
    }
    client.close().await;
    for crew in crews {
        crew.dismiss().await?;
    }
    Ok(answers)
}

/// Peers with a queue each, who answer with their number.
async fn answer_with_numbers(
    client: Client,
    what: &str,
    numbers: impl Iterator<Item = usize>,
) -> Result<Vec<Worker>, ServeError> {
    let mut workers = Vec::new();
    for number in numbers {
        let peer = leveret::handler(move |_, ()| async move { Ok::<_, Failure>(number) });
        let serve = client.serve(what, peer).every_instance().bind(TOPICS, format!("everybody.{what}"));
        workers.push(serve.start().await?);
    }
    Ok(workers)
}
