//! Reads the body of a request, of bounded size and in bounded time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use futures_core::Stream;
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;

/// The longest silence between two pieces of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time for all of it: a body that comes octet by octet is never silent.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// Reads all of it. A body that says that it is too large is not read at all, one that says nothing or lies until it
/// is too large.
pub(super) async fn read(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > max_bytes as u64) {
        return Err(Problem::body_too_large(max_bytes));
    }
    let ends = Instant::now() + BODY_TIMEOUT;
    let mut pieces = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut octets = Vec::new();
    loop {
        let piece = poll_fn(|cx| Pin::new(&mut pieces).poll_next(cx));
        let piece = timeout_at(ends.min(Instant::now() + PIECE_TIMEOUT), piece).await;
        let Some(piece) = piece.map_err(|_| Problem::slow_body())? else { break };
        let piece = piece.map_err(|error| Problem::invalid(format!("the body cannot be read: {error}")))?;
        if whole.len() + octets.len() + piece.len() > max_bytes {
            return Err(Problem::body_too_large(max_bytes));
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

    async fn check(length: Option<&'static str>, pieces: &[&'static str], expected: Result<&str, u16>) {
        let headers: HeaderMap =
            length.map(|length| (CONTENT_LENGTH, length.parse().unwrap())).into_iter().collect();
        let body = Body::from_stream(Pieces(pieces.iter().rev().copied().collect()));
        let read = read(&headers, body, 8).await.map_err(|problem| problem.status.as_u16());
        assert_eq!(read.as_deref(), expected.map(str::as_bytes).as_ref().copied(), "{pieces:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_an_end_and_a_size() {
        check(None, &[], Ok("")).await;
        check(Some("3"), &["abc"], Ok("abc")).await;
        check(None, &["abc", "", "de", "fgh"], Ok("abcdefgh")).await;
        check(None, &["abc", "defghi"], Err(413)).await;
        check(Some("9"), &["never"], Err(413)).await;
        check(Some("18446744073709551616"), &["abc"], Ok("abc")).await;
        check(Some("3"), &["ab", "never"], Err(408)).await;
    }
}
