//! Reads the body of a request, of bounded size and in bounded time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use futures_core::Stream;
use tokio::time::{Instant, timeout_at};

/// The longest silence between two pieces of a body, and the time for the first octets of it.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// The slowest pace beyond that: a body that comes octet by octet is never silent.
const OCTETS_PER_S_MIN: u64 = 32 << 10;

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than allowed, or says so.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// It is no body, and why.
    Unreadable(String),
}

/// Reads all of it. A body that says that it is too large is not read at all, one that says nothing or lies until it
/// is too large.
///
/// # Errors
/// It is larger than `max_bytes`, slower than 32 KiB/s after 10 s, or broken.
pub async fn read(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Bytes, BodyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max_bytes as u64) {
        return Err(BodyError::TooLarge);
    }
    let began = Instant::now();
    let mut pieces = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut octets = Vec::new();
    loop {
        let earned = Duration::from_secs((whole.len() + octets.len()) as u64 / OCTETS_PER_S_MIN);
        let ends = began + PIECE_TIMEOUT + earned;
        let piece = poll_fn(|cx| Pin::new(&mut pieces).poll_next(cx));
        let piece = timeout_at(ends.min(Instant::now() + PIECE_TIMEOUT), piece).await;
        let Some(piece) = piece.map_err(|_| BodyError::TooSlow)? else { break };
        let piece = piece.map_err(|error| BodyError::Unreadable(error.to_string()))?;
        if whole.len() + octets.len() + piece.len() > max_bytes {
            return Err(BodyError::TooLarge);
        }
        // Most bodies are one piece, which is then not copied.
        if whole.is_empty() && octets.is_empty() {
            whole = piece;
        } else {
            octets.extend_from_slice(&std::mem::take(&mut whole));
            octets.extend_from_slice(&piece);
        }
    }
    Ok(if octets.is_empty() { whole } else { octets.into() })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use super::*;

    /// In reverse order; `never` does not come.
    struct Pieces(Vec<&'static str>);

    impl Stream for Pieces {
        type Item = Result<Bytes, Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            if self.0.last() == Some(&"never") {
                return Poll::Pending;
            }
            Poll::Ready(self.0.pop().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))))
        }
    }

    async fn check(length: Option<&'static str>, pieces: &[&'static str], expected: Result<&str, BodyError>) {
        let headers: HeaderMap =
            length.map(|length| (CONTENT_LENGTH, length.parse().unwrap())).into_iter().collect();
        let body = Body::from_stream(Pieces(pieces.iter().rev().copied().collect()));
        let read = read(&headers, body, 8).await;
        assert_eq!(read.as_deref(), expected.as_ref().map(|text| text.as_bytes()), "{pieces:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_an_end_and_a_size() {
        check(None, &[], Ok("")).await;
        check(Some("3"), &["abc"], Ok("abc")).await;
        check(None, &["abc", "", "de", "fgh"], Ok("abcdefgh")).await;
        check(None, &["abc", "defghi"], Err(BodyError::TooLarge)).await;
        check(Some("9"), &["never"], Err(BodyError::TooLarge)).await;
        check(Some("18446744073709551616"), &["abc"], Ok("abc")).await;
        check(Some("3"), &["ab", "never"], Err(BodyError::TooSlow)).await;
    }
}
