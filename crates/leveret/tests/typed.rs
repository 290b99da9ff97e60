//! `#[leveret::service]`: a trait, served and called.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use futures_core::Stream;
use leveret::content::Format;
use leveret::{Client, Code, Context, Failure, FieldValue, IntoFailure, Payload, Reply};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    city: String,
}

#[derive(Debug)]
pub enum WeatherError {
    NoSuchPlace(Place),
}

impl IntoFailure for WeatherError {
    fn into_failure(self) -> Failure {
        match self {
            WeatherError::NoSuchPlace(place) => Failure::not_found(format!("no city called {}", place.city)),
        }
    }
}

/// Tells what the sky
/// will do.
///
/// Not by looking at it.
#[leveret::service(version = "1.2.0")]
pub trait Weather {
    /// Tomorrow's, in words.
    async fn forecast(&self, cx: &Context, place: Place) -> Result<String, WeatherError>;
    /// The warmer one of two. The names of the arguments are those of the generated code, to provoke it.
    async fn compare(&self, cx: &Context, request: Place, client: Place, r#type: Option<u8>) -> Result<Place, Failure>;
    /// How often it was asked for something.
    async fn count(&self, cx: &Context) -> Result<u32, Failure>;
    /// What a header of the request says.
    async fn header(&self, cx: &Context, name: String) -> Result<Option<String>, Failure> {
        Ok(cx.header(&name).and_then(FieldValue::as_text).map(str::to_owned))
    }
    /// Piece by piece.
    fn radar(&self, cx: &Context, tiles: Vec<u32>) -> impl Stream<Item = Result<u32, Failure>> + Send + 'static;
    async fn sleep(&self, cx: &Context, time_ms: u64) -> Result<(), Failure>;
}

/// One method: its name may be left out.
#[leveret::service(name = "math.square")]
trait Square {
    async fn square(&self, cx: &Context, n: i64) -> Result<i64, Failure>;
}

#[derive(Default)]
struct Almanac {
    asked: AtomicU32,
}

impl Weather for Almanac {
    async fn forecast(&self, _: &Context, place: Place) -> Result<String, WeatherError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match place.city.as_str() {
            "Oz" => Err(WeatherError::NoSuchPlace(place)),
            city => Ok(format!("rain in {city}")),
        }
    }

    async fn compare(&self, _: &Context, a: Place, b: Place, _: Option<u8>) -> Result<Place, Failure> {
        Ok(if a.city < b.city { a } else { b })
    }

    async fn count(&self, _: &Context) -> Result<u32, Failure> {
        Ok(self.asked.load(Ordering::Relaxed))
    }

    fn radar(&self, _: &Context, tiles: Vec<u32>) -> impl Stream<Item = Result<u32, Failure>> + Send + 'static {
        Tiles(tiles.into_iter())
    }

    async fn sleep(&self, _: &Context, time_ms: u64) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(time_ms)).await;
        Ok(())
    }
}

struct Plain;

impl Square for Plain {
    async fn square(&self, _: &Context, n: i64) -> Result<i64, Failure> {
        n.checked_mul(n).ok_or_else(|| Failure::invalid_argument("too large"))
    }
}

/// 13 is missing.
struct Tiles(std::vec::IntoIter<u32>);

impl Stream for Tiles {
    type Item = Result<u32, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.next().map(|tile| match tile {
            13 => Err(Failure::new(Code::DataLoss, "tile 13")),
            tile => Ok(tile),
        }))
    }
}

fn place(city: &str) -> Place {
    Place { city: city.to_owned() }
}
