//! A server of a farm: takes what is published to `amq.topic` for its region, whatever the subject, and answers to the
//! exchange and routing key that the request's `reply_to` names. The servers of a farm share its queue.
//!
//!     cargo run -p leveret-examples --bin farm -- ohio-1 '#.ohio'
//!
//! Nothing to do for a minute or a day: it simply waits. The connection lost: it comes back.

use leveret::dialect::Dialect;
use leveret::{Client, Context, Failure};
use leveret_examples::broker_url;
use serde::Serialize;

#[derive(Serialize)]
struct Served {
    by: String,
    subject: String,
    request: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(pattern)) = (arguments.next(), arguments.next()) else {
        return Err("farm NAME PATTERN".into());
    };
    let client = Client::connect(&broker_url()).await?;
    let serve = leveret::handler(move |cx: Context, request: String| {
        let (by, subject) = (name.clone(), cx.routing_key().to_owned());
        async move { Ok::<_, Failure>(Served { by, subject, request }) }
    });
    let worker = client
        .serve(&format!("farm {pattern}"), serve)
        .bind("amq.topic", &pattern)
        .dialects(&[Dialect::Spring]) // "exchange/key" in reply_to
        .plain_queue()
        .concurrency(1)
        .start()
        .await?;
    println!("ready");
    Ok(worker.run_until_signal().await?)
}
