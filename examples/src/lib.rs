//! What the programs here share. In a project of your own this is the crate that a service and its callers both depend
//! on: the trait of the service, and the types it speaks of.

mod pdf;

pub use pdf::pdf;

use leveret::{Context, Failure, IntoFailure};
use serde::{Deserialize, Serialize};

/// The broker that `AMQP_URL` names, else the one on this machine.
pub fn broker_url() -> String {
    std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// Tells what the sky will do.
#[leveret::service(version = "1.0.0")]
pub trait Weather {
    /// Tomorrow's weather in one place.
    async fn forecast(&self, cx: &Context, place: Place) -> Result<Forecast, WeatherError>;
    /// The warmest of some places.
    async fn warmest(&self, cx: &Context, places: Vec<Place>) -> Result<Place, WeatherError>;
}

/// Where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Its name.
    pub city: String,
}

/// What to expect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// In one word.
    pub sky: String,
    /// In °C.
    pub celsius: i32,
}

/// Why there is no forecast.
#[derive(Clone, Debug, PartialEq)]
pub enum WeatherError {
    /// Nobody knows this place.
    NoSuchCity(Place),
    /// None of no places is the warmest.
    Nowhere,
}

/// What a site asks the service for: a document with this title.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// What the page says.
    pub title: String,
}

impl IntoFailure for WeatherError {
    fn into_failure(self) -> Failure {
        match self {
            WeatherError::NoSuchCity(place) => Failure::not_found(format!("no city called {}", place.city)),
            WeatherError::Nowhere => Failure::invalid_argument("name at least one place"),
        }
    }
}
