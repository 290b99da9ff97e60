//! Asks the farms, from anywhere: so many requests at once to each of the named subjects.
//!
//!     cargo run -p leveret-examples --bin farm_client -- 10 weather.ohio weather.virginia

use leveret::{CallError, Client};
use leveret_examples::broker_url;
use serde::Deserialize;
use tokio::task::JoinSet;

#[derive(Deserialize)]
struct Served {
    by: String,
    subject: String,
    request: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().ok_or("farm_client COUNT SUBJECT…")?.parse()?;
    let client = Client::connect(&broker_url()).await?;
    let mut asking = JoinSet::new();
    for subject in arguments {
        for number in 0..count {
            asking.spawn(ask(client.clone(), subject.clone(), format!("{subject}-{number}")));
        }
    }
    for answer in asking.join_all().await {
        let Served { by, subject, request } = answer?;
        println!("{by} served {subject} {request}");
    }
    client.close().await;
    Ok(())
}

async fn ask(client: Client, subject: String, request: String) -> Result<Served, CallError> {
    client.call("farm", &request).exchange("amq.topic", subject).await
}
