//! The recipe's client, step by step: a unique id, a temporary response queue bound by it on a topic exchange, a thin
//! JSON wrapper into the durable queue of questions, one answer.
//!
//!     cargo run -p leveret-examples --bin recipe_client -- "why?"
//!
//! A client that need not speak this dialect is one line: `let answer: String = client.call("questions", "why?").await?`.

use std::time::Duration;

use leveret::content::{Format, encode};
use leveret::dialect::{Dialect, read_answer, write_request};
use leveret::{Client, FieldTable};
use leveret_client::{Consume, Publish, QueueDeclare};
use leveret_examples::broker_url;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let question = std::env::args().nth(1).ok_or("recipe_client QUESTION")?;
    let client = Client::connect(&broker_url()).await?;
    let channel = client.connection().await?.channel().await?;
    channel.declare_queue(&QueueDeclare::durable("questions")).await?;

    let qid = unique_id()?;
    let responses = channel.declare_queue(&QueueDeclare::exclusive("")).await?.name;
    let wrapped = write_request(
        Dialect::Seed,
        "questions",
        None,
        &encode(Format::Json, &question)?,
        Some(&responses),
        &qid,
    )?;
    if let Some(at) = &wrapped.reply_binding {
        channel.bind_queue(&responses, &at.exchange, &at.routing_key, FieldTable::new()).await?;
    }
    let mut answers = channel.consume(&Consume { no_ack: true, ..Consume::queue(&responses) }).await?;
    let publish = Publish::to_queue(&wrapped.routing_key, &wrapped.body);
    channel.publish(&Publish { properties: &wrapped.properties, ..publish }).await?;

    let answer = tokio::time::timeout(PATIENCE, answers.next()).await?.ok_or("the response queue is gone")?;
    let payload = read_answer(Dialect::Seed, &answer.properties().to_properties(), answer.body.clone())?;
    println!("{}", String::from_utf8_lossy(&payload.body));
    channel.close().await?;
    client.close().await;
    Ok(())
}

fn unique_id() -> Result<String, getrandom::Error> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)?;
    Ok(format!("{:032x}", u128::from_be_bytes(octets)))
}
