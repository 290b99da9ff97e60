//! `#[leveret::service]`: a trait, served and called.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use futures_core::Stream;
use leveret::content::Format;
use leveret::{Client, Code, Context, Failure, FieldValue, IntoFailure, Payload, Reply};
use serde::{Deserialize, Serialize};

/// A city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    city: String,
}

/// What a forecast fails for.
#[derive(Debug)]
pub enum WeatherError {
    /// It is on no map.
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
    async fn compare(
        &self,
        cx: &Context,
        request: Place,
        client: Place,
        r#type: Option<u8>,
    ) -> Result<Place, Failure>;
    /// How often it was asked for something.
    async fn count(&self, cx: &Context) -> Result<u32, Failure>;
    /// What a header of the request says.
    async fn header(&self, cx: &Context, name: String) -> Result<Option<String>, Failure> {
        Ok(cx.header(&name).and_then(FieldValue::as_str).map(str::to_owned))
    }
    /// Piece by piece.
    fn radar(
        &self,
        cx: &Context,
        tiles: Vec<u32>,
    ) -> impl Stream<Item = Result<u32, Failure>> + Send + 'static;
    /// Takes its time.
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

    fn radar(
        &self,
        _: &Context,
        tiles: Vec<u32>,
    ) -> impl Stream<Item = Result<u32, Failure>> + Send + 'static {
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

/// The almanac, being served by an embedded broker.
async fn almanac() -> (Client, leveret::Worker, WeatherClient) {
    let client = Client::connect("embedded:").await.unwrap();
    let worker = WeatherService::new(Almanac::default()).serve(&client).start().await.unwrap();
    let weather = WeatherClient::new(&client);
    (client, worker, weather)
}

#[tokio::test]
async fn a_trait_is_called_like_a_trait() {
    let (_client, worker, weather) = almanac().await;
    assert_eq!(worker.service(), "weather");
    assert_eq!(weather.forecast(&place("Ohio")).await.unwrap(), "rain in Ohio");
    assert_eq!(weather.compare(&place("b"), &place("a"), &None).await.unwrap(), place("a"));
    assert_eq!(weather.count().await.unwrap(), 1);
    assert_eq!(weather.header("who").header("who", "me").await.unwrap().as_deref(), Some("me"));
    worker.drain().await;
}

#[tokio::test]
async fn an_error_arrives_as_one() {
    let (_client, worker, weather) = almanac().await;
    let error = weather.forecast(&place("Oz")).await.unwrap_err();
    let failure = error.remote().unwrap();
    assert_eq!((failure.code, failure.message.as_str()), (Code::NotFound, "no city called Oz"));
    worker.drain().await;
}

#[tokio::test]
async fn many_answers_are_a_stream() {
    let (_client, worker, weather) = almanac().await;
    let mut tiles = weather.radar(&[7, 8, 13]).await.unwrap();
    assert_eq!(tiles.next().await.unwrap().unwrap(), 7);
    assert_eq!(tiles.next().await.unwrap().unwrap(), 8);
    let error = tiles.next().await.unwrap().unwrap_err();
    assert_eq!(error.remote().map(|failure| failure.code), Some(Code::DataLoss));
    worker.drain().await;
}

#[tokio::test]
async fn the_deadline_of_a_typed_call_ends_the_work() {
    let (_client, worker, weather) = almanac().await;
    let error = weather.sleep(&60_000).timeout(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    worker.drain().await;
}

/// Calls without the generated client, as a stranger does.
async fn ask(client: &Client, service: &str, method: Option<&str>, payload: Payload) -> String {
    let call = client.request(service, payload);
    let call = match method {
        Some(method) => call.method(method),
        None => call,
    };
    match call.await {
        Ok(Reply { payload, .. }) => String::from_utf8(payload.body.to_vec()).unwrap(),
        Err(error) => error.remote().map_or_else(|| error.to_string(), ToString::to_string),
    }
}

#[tokio::test]
async fn a_stranger_may_send_arguments_by_name_or_in_order() {
    let (client, worker, _) = almanac().await;
    let check = async |method, body: &'static str, expected: &str| {
        let said = ask(&client, "weather", Some(method), Payload::new("application/json", body)).await;
        assert!(said.starts_with(expected), "{method} {body}: {said}");
    };
    check("forecast", r#"{"city":"Ohio"}"#, r#""rain in Ohio""#).await;
    check("compare", r#"{"client":{"city":"b"},"request":{"city":"a"}}"#, r#"{"city":"a"}"#).await;
    check("compare", r#"[{"city":"b"},{"city":"a"},7]"#, r#"{"city":"a"}"#).await;
    check("count", "rubbish", "1").await;
    check("forecast", "7", "INVALID_ARGUMENT: weather: the argument of \"forecast\" does not decode: ").await;
    check("compare", "{}", "INVALID_ARGUMENT: weather: the arguments of \"compare\" do not decode: ").await;
    worker.drain().await;
}

#[tokio::test]
async fn every_format_understands_arguments_in_order() {
    let (client, worker, _) = almanac().await;
    for format in [Format::Json, Format::MessagePack, Format::Cbor] {
        let in_order = leveret::content::encode(format, &(place("b"), place("a"), ())).unwrap();
        let reply = client.request("weather", in_order).method("compare").await.unwrap();
        assert_eq!(reply.payload.content_type.as_deref(), Some(format.content_type()));
        assert_eq!(reply.decode::<Place>().unwrap(), place("a"), "{format:?}");
        let typed = WeatherClient::new(&client.with_format(format));
        assert_eq!(
            typed.compare(&place("b"), &place("a"), &Some(1)).await.unwrap(),
            place("a"),
            "{format:?}"
        );
    }
    worker.drain().await;
}

#[tokio::test]
async fn a_method_is_named_unless_there_is_only_one() {
    let (client, worker, _) = almanac().await;
    let squares = SquareService::new(Plain).serve(&client).start().await.unwrap();
    let json = |body: &'static str| Payload::new("application/json", body);
    let check = async |service, method, expected| {
        assert_eq!(ask(&client, service, method, json("7")).await, expected);
    };
    check("math.square", None, "49").await;
    check("math.square", Some("square"), "49").await;
    check("math.square", Some("cube"), "UNIMPLEMENTED: math.square has no method \"cube\"; it has: square")
        .await;
    let methods = "weather has: forecast, compare, count, header, radar, sleep";
    let unnamed = format!("UNIMPLEMENTED: the request names no method (property \"type\"); {methods}");
    check("weather", None, &unnamed).await;
    assert_eq!(SquareClient::new(&client).square(&-3).await.unwrap(), 9);
    squares.drain().await;
    worker.drain().await;
}

#[tokio::test]
async fn a_client_may_call_the_same_service_under_another_name() {
    let client = Client::connect("embedded:").await.unwrap();
    let ohio = client.serve("weather.ohio", WeatherService::new(Almanac::default())).start().await.unwrap();
    let weather = WeatherClient::of(&client, "weather.ohio");
    assert_eq!(weather.count().await.unwrap(), 0);
    ohio.drain().await;
}

#[test]
fn a_service_describes_itself() {
    let description = WeatherService::<Almanac>::description();
    assert_eq!(description.version, "1.2.0");
    assert_eq!(description.description, "Tells what the sky will do.");
    assert_eq!(description.endpoints, ["forecast", "compare", "count", "header", "radar", "sleep"]);
}
