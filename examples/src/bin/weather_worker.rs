//! A typed service, and one worker for callers of every kind: our own clients, plain AMQP clients (method in `type`),
//! the recipe's, Spring's, Celery's, nameko's and Nest's.
//!
//!     cargo run -p leveret-examples --bin weather_worker

use leveret::dialect::Dialect;
use leveret::{Client, Context};
use leveret_client::ExchangeDeclare;
use leveret_examples::{Forecast, Place, Weather, WeatherError, WeatherService, broker_url};

struct Almanac;

impl Weather for Almanac {
    async fn forecast(&self, _: &Context, place: Place) -> Result<Forecast, WeatherError> {
        match place.city.as_str() {
            "Columbus" => Ok(Forecast { sky: "sunny".to_owned(), celsius: 21 }),
            "Richmond" => Ok(Forecast { sky: "rain".to_owned(), celsius: 24 }),
            _ => Err(WeatherError::NoSuchCity(place)),
        }
    }

    async fn warmest(&self, cx: &Context, places: Vec<Place>) -> Result<Place, WeatherError> {
        let mut warmest: Option<(i32, Place)> = None;
        for place in places {
            let Forecast { celsius, .. } = self.forecast(cx, place.clone()).await?;
            if warmest.as_ref().is_none_or(|(most, _)| celsius > *most) {
                warmest = Some((celsius, place));
            }
        }
        warmest.map(|(_, place)| place).ok_or(WeatherError::Nowhere)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(&broker_url()).await?;
    // nameko's callers publish to this exchange; if none of them was there yet, it is missing.
    let channel = client.connection().await?.channel().await?;
    channel.declare_exchange(&ExchangeDeclare::durable("nameko-rpc", "topic")).await?;
    let worker = WeatherService::new(Almanac)
        .serve(&client)
        .bind("nameko-rpc", "weather.*")
        .dialects(&[Dialect::Celery, Dialect::Nest, Dialect::Nameko, Dialect::Seed, Dialect::Spring])
        .plain_queue()
        .start()
        .await?;
    println!("ready");
    Ok(worker.run_until_signal().await?)
}
