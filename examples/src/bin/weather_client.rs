//! Calls the weather service like a trait, whoever serves it.
//!
//!     cargo run -p leveret-examples --bin weather_client -- Columbus Oz

use std::time::Duration;

use leveret::{CallError, Client, Code};
use leveret_examples::{Place, WeatherClient, broker_url};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&broker_url()).await?;
    let weather = WeatherClient::new(&client);
    for city in std::env::args().skip(1) {
        match weather.forecast(&Place { city: city.clone() }).timeout(Duration::from_secs(5)).await {
            Ok(forecast) => println!("{city}: {}, {} °C", forecast.sky, forecast.celsius),
            Err(CallError::Remote(failure)) if failure.code == Code::NotFound => {
                println!("{city}: not found: {}", failure.message);
            }
            Err(error) => println!("{city}: {}: {error}", error.kind()),
        }
    }
    client.close().await;
    Ok(())
}
