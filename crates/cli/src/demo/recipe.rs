//! The recipe: a client asks through a durable queue that several workers share, and waits at a temporary queue
//! that is bound by the question's unique id. The wrapper is thin JSON: `{"q": …, "qid": …}`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lapin::{BasicProperties, Channel};
use leveret::dialect::Dialect;
use leveret::{Client, Failure, ServeError, Worker};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::crew;
use super::peer::{Life, Peer, answered_by, bind, consume, declare_queue, publish, subscribe, unique_id};
use super::report::Report;
use super::stage::Stage;

const REQUESTS: &str = "recipe.requests";
const ANSWERS: &str = "amq.topic";
const WORKERS: usize = 2;
const DISHES: [&str; 6] = ["pancakes", "carrot soup", "dandelion salad", "oat bread", "clover tea", "stew"];
/// Long enough that one worker cannot do everything before the other has begun.
const COOKING_TIME: Duration = Duration::from_millis(10);

pub(super) async fn play(stage: &Stage, report: &mut Report) -> Result<()> {
    let client = Arc::new(Peer::connect(&stage.url()).await?);
    declare_queue(&client.channel, REQUESTS, Life::Durable).await?;
    let answers_seen = subscribe(&client.channel, ANSWERS, "#").await?;

    let done = Arc::new(AtomicUsize::new(0));
    let mut crews = Vec::new();
    for _ in 0..WORKERS {
        let done = done.clone();
        crews.push(crew::hire(stage.url(), |client| work(client, done)).await?);
    }
    let answers = ask_all(&client).await?;
    let right = DISHES.iter().map(|dish| recipe(dish)).collect::<Vec<_>>();
    let found = answers.iter().map(|answer| answer.text.clone()).collect::<Vec<_>>();
    report.check(
        "6 questions at once through a shared durable queue: each gets its own answer",
        found,
        right,
    );
    for Answer { worker, took, .. } in &answers {
        report.answered(REQUESTS, worker, *took);
    }
    let busy: BTreeSet<_> = answers.iter().map(|answer| answer.worker.clone()).collect();
    let all_hands = crews.iter().flat_map(|crew| crew.names.clone()).collect();
    report.check("both workers had a hand in it", busy, all_hands);
    let queue = &answers.first().context("no answers")?.queue;
    report.check("the response queue went with its channel", client.passive_code(queue).await?, 404);

    send(&client.channel, &json!({"q": "a cake for nobody"})).await?;
    let all = DISHES.len() + 1;
    while done.load(Ordering::Relaxed) < all {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seen = client.channel.queue_purge(answers_seen.into(), Default::default()).await?;
    report.check("without a qid the work is done and nobody is answered", seen as usize, DISHES.len());
    for crew in crews {
        crew.dismiss().await?;
    }
    Ok(())
}

fn recipe(dish: &str) -> String {
    format!("how to make {dish}")
}

struct Answer {
    text: String,
    worker: String,
    took: Duration,
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
    let asked = Instant::now();
    send(&channel, &json!({"q": dish, "qid": qid})).await?;
    let answer = inbox.next().await?;
    let took = asked.elapsed();
    channel.close(200, "OK".into()).await?;
    let worker = answered_by(&answer).context("an answer without a signature")?;
    let answer: Value = serde_json::from_slice(&answer.data)?;
    let text = answer["a"].as_str().context("no answer in the answer")?.to_owned();
    Ok(Answer { text, worker, took, queue })
}

async fn send(channel: &Channel, wrapper: &Value) -> Result<()> {
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
    publish(channel, ("", REQUESTS), properties, wrapper.to_string().as_bytes()).await?;
    Ok(())
}

async fn work(client: Client, done: Arc<AtomicUsize>) -> Result<Vec<Worker>, ServeError> {
    let cook = leveret::handler(move |_, dish: String| {
        let done = done.clone();
        async move {
            tokio::time::sleep(COOKING_TIME).await;
            done.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Failure>(recipe(&dish))
        }
    });
    let serve = client.serve(REQUESTS, cook).dialects(&[Dialect::Seed]).concurrency(1);
    Ok(vec![serve.start().await?])
}
