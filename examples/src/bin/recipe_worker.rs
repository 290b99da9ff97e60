//! The recipe's worker: takes `{"q": …, "qid": …}` from the durable queue `questions` and answers `{"qid": …, "a": …}` on
//! `amq.topic` under the qid. Without a qid it does the work and answers nobody. Start as many as you like.
//!
//!     cargo run -p leveret-examples --bin recipe_worker

use std::time::Duration;

use leveret::dialect::Dialect;
use leveret::{Client, Context, Failure};
use leveret_examples::broker_url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&broker_url()).await?;
    let answer = leveret::handler(|_: Context, question: String| async move {
        println!("working {question}");
        if question.starts_with("slow") {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        println!("done {question}");
        Ok::<_, Failure>(question.to_uppercase())
    });
    let worker = client
        .serve("questions", answer)
        .dialects(&[Dialect::Seed]) // and everybody who calls by reply_to
        .plain_queue() // clients in other languages declare it too
        .concurrency(1)
        .start()
        .await?;
    println!("ready");
    Ok(worker.run_until_signal().await?)
}
