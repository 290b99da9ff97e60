//! The service of the sites: takes MessagePack requests from the exchange `service.tasks` with the key
//! `service.my_template`, and answers a PDF to the exchange and key that `reply_to` names: `service.results`, the queue of
//! the requester.
//!
//!     cargo run -p leveret-examples --bin service

use leveret::dialect::Dialect;
use leveret::{Answer, Client, Failure, Payload, Request, content};
use leveret_client::ExchangeDeclare;
use leveret_examples::{Task, broker_url, pdf};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&broker_url()).await?;
    let channel = client.connection().await?.channel().await?;
    for exchange in ["service.tasks", "service.results"] {
        channel.declare_exchange(&ExchangeDeclare::durable(exchange, "direct")).await?;
    }
    let render = leveret::raw(|request: Request| async move {
        let task: Task = content::decode(&request.payload)
            .map_err(|error| Failure::invalid_argument(error.to_string()))?;
        println!("rendering {}", task.title);
        Ok(Answer::One(Payload::new("application/pdf", pdf(&task.title))))
    });
    let worker = client
        .serve("service.my_template", render)
        .bind("service.tasks", "service.my_template")
        .dialects(&[Dialect::Spring]) // "exchange/key" in reply_to
        .plain_queue()
        .concurrency(4)
        .start()
        .await?;
    println!("ready");
    Ok(worker.run_until_signal().await?)
}
