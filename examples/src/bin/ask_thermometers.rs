//! One call that asks a hundred thermometers and gathers their answers.
//!
//!     cargo run -p leveret-examples --bin ask_thermometers -- 100

use std::time::{Duration, Instant};

use leveret::Client;
use leveret_examples::broker_url;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reading {
    number: u32,
    celsius: f64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).unwrap_or("100".to_owned()).parse()?;
    let client = Client::connect(&broker_url()).await?;
    let asked = Instant::now();
    let everybody = client.gather::<_, Reading>("amq.topic", "thermometers", &"how warm?");
    let gathered = everybody.count(count).timeout(Duration::from_secs(5)).await?;

    let took = asked.elapsed();
    let mut sum = 0.0;
    for one in &gathered {
        match &one.answer {
            Ok(Reading { number, celsius }) => {
                println!("{number} {celsius} after {:?}", one.after);
                sum += celsius;
            }
            Err(error) => println!("{:?} cannot say: {error}", one.from),
        }
    }
    println!("{} answers in {took:?}, {:.2} °C on average", gathered.len(), sum / gathered.len() as f64);
    client.close().await;
    Ok(())
}
