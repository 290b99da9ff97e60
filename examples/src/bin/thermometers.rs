//! Thermometers, each a service instance with a queue of its own: every one hears every question.
//!
//!     cargo run -p leveret-examples --bin thermometers -- FIRST COUNT

use leveret::{Client, Context, Failure};
use leveret_examples::broker_url;
use serde::Serialize;
use serde::de::IgnoredAny;

#[derive(Serialize)]
struct Reading {
    number: u32,
    celsius: f64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let (Some(first), Some(count)) = (arguments.next().transpose()?, arguments.next().transpose()?) else {
        return Err("thermometers FIRST COUNT".into());
    };
    let client = Client::connect(&broker_url()).await?;
    let mut workers = Vec::new();
    for number in first..first + count {
        let thermometer = leveret::handler(move |_: Context, _question: Option<IgnoredAny>| async move {
            Ok::<_, Failure>(Reading { number, celsius: f64::from(number) / 10.0 })
        });
        let thermometer = client.serve("thermometer", thermometer).every_instance();
        workers.push(thermometer.bind("amq.topic", "thermometers").start().await?);
    }
    println!("ready");
    tokio::signal::ctrl_c().await?;
    Ok(())
}
