//! The recipe: a client asks through a durable queue that several workers share, and waits at a temporary queue
//! that is bound by the question's unique id. The wrapper is thin JSON: `{"q": …, "qid": …}`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use lapin::options::BasicAckOptions;
use lapin::{BasicProperties, Channel, ExchangeKind};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::peer::{
    Life, Peer, bind, consume, declare_exchange, declare_queue, publish, subscribe, unique_id, watched,
};
use super::report::Report;
use super::stage::Stage;

const REQUESTS: &str = "recipe.requests";
const ANSWERS: &str = "recipe.answers";
const WORKERS: usize = 2;
const DISHES: [&str; 6] = ["pancakes", "carrot soup", "dandelion salad", "oat bread", "clover tea", "stew"];
/// Long enough that one worker cannot do everything before the other has begun.
const COOKING_TIME: Duration = Duration::from_millis(10);

pub(super) async fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    let client = Arc::new(Peer::connect(&stage.url()).await?);
    declare_queue(&client.channel, REQUESTS, Life::Durable).await?;
    declare_exchange(&client.channel, ANSWERS, ExchangeKind::Topic, Life::Durable).await?;
    let answers_seen = subscribe(&client.channel, ANSWERS, "#").await?;

    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for number in 0..WORKERS {
        workers.spawn(watched("a worker", work(stage.url(), number, done.clone())));
    }
    let answers = ask_all(&client).await?;
    let right = DISHES.iter().map(|dish| recipe(dish)).collect::<Vec<_>>();
    let found = answers.iter().map(|answer| answer.text.clone()).collect::<Vec<_>>();
    report.check(
        "6 questions at once through a shared durable queue: each gets its own answer",
        found,
        right,
    );
    let busy: BTreeSet<_> = answers.iter().map(|answer| answer.worker).collect();
    report.check("both workers had a hand in it", busy, BTreeSet::from([0, 1]));
    let queue = &answers.first().context("no answers")?.queue;
    report.check("the response queue went with its channel", client.passive_code(queue).await?, 404);

    send(&client.channel, &json!({"q": "a cake for nobody"})).await?;
    let all = DISHES.len() + 1;
    while done.load(Ordering::Relaxed) < all {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seen = client.channel.queue_purge(answers_seen.into(), Default::default()).await?;
    report.check("without a qid the work is done and nobody is answered", seen as usize, DISHES.len());
    Ok(())
}

fn recipe(dish: &str) -> String {
    format!("how to make {dish}")
}

struct Answer {
    text: String,
    worker: u64,
    /// Where it was waited for.
    queue: String,
}

async fn ask_all(client: &Arc<Peer>) -> Result<Vec<Answer>> {
    let mut asking = JoinSet::new();
    for (position, dish) in DISHES.into_iter().enumerate() {
        let client = client.clone();
        asking.spawn(async move { ask(&client, dish).await.map(|answer| (position, answer)) });
    }
    let mut answers = asking.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    answers.sort_by_key(|(position, _)| *position);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

/// One question, with a channel of its own for the answer.
async fn ask(client: &Peer, dish: &str) -> Result<Answer> {
    let qid = unique_id()?;
    let channel = client.second_channel().await?;
    let queue = declare_queue(&channel, "", Life::Temporary).await?.name().to_string();
    bind(&channel, &queue, ANSWERS, &qid).await?;
    let mut inbox = consume(&channel, &queue, None).await?;
    send(&channel, &json!({"q": dish, "qid": qid})).await?;
    let answer: Value = serde_json::from_slice(&inbox.next().await?.data)?;
    channel.close(200, "OK".into()).await?;
    let text = answer["a"].as_str().context("no answer in the answer")?.to_owned();
    Ok(Answer { text, worker: answer["worker"].as_u64().context("no worker")?, queue })
}

async fn send(channel: &Channel, wrapper: &Value) -> Result<()> {
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
    publish(channel, ("", REQUESTS), properties, wrapper.to_string().as_bytes()).await?;
    Ok(())
}

async fn work(url: String, number: usize, done: Arc<AtomicUsize>) -> Result<()> {
    let worker = Peer::connect(&url).await?;
    let mut inbox = consume(&worker.channel, REQUESTS, Some(1)).await?;
    while let Ok(request) = inbox.next().await {
        let wrapper: Value = serde_json::from_slice(&request.data)?;
        tokio::time::sleep(COOKING_TIME).await;
        if let Some(qid) = wrapper["qid"].as_str() {
            let answer = json!({"a": recipe(wrapper["q"].as_str().unwrap_or_default()), "worker": number});
            let properties = BasicProperties::default().with_content_type("application/json".into());
            publish(&worker.channel, (ANSWERS, qid), properties, answer.to_string().as_bytes()).await?;
        }
        request.ack(BasicAckOptions::default()).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
