//! A stream of answers as Server-Sent Events.
//!
//! ```text
//!   id: 0                     event: progress        event: end            : (a comment, while nothing happens)
//!   data: {"tile":…}          data: 3 of 9           data: {"answers":1}
//! ```
//!
//! Nothing is read ahead: an answer is taken from the worker when the socket has room for it, so a client that reads
//! slowly slows the worker down. After an `error` there is no `end`.

use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_core::Stream;
use leveret::{CallError, Reply};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep, sleep};

use super::problem::Problem;

/// Proxies close connections that are silent for a minute, some sooner.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A response whose body is the stream. The permit is given back when the stream ends or nobody reads it any more.
pub(super) fn response<S>(
    replies: S,
    progress: mpsc::Receiver<String>,
    permit: OwnedSemaphorePermit,
) -> Response
where
    S: Stream<Item = Result<Reply, CallError>> + Send + Unpin + 'static,
{
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let events =
        Events { replies, progress, answers: 0, ended: false, heartbeat: Box::pin(sleep(HEARTBEAT)) };
    (headers, Body::from_stream(Held { events, _permit: permit })).into_response()
}

struct Held<S> {
    events: Events<S>,
    _permit: OwnedSemaphorePermit,
}

struct Events<S> {
    replies: S,
    progress: mpsc::Receiver<String>,
    answers: u64,
    ended: bool,
    heartbeat: Pin<Box<Sleep>>,
}

impl<S: Stream<Item = Result<Reply, CallError>> + Unpin> Stream for Held<S> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll(cx).map(|event| event.map(|text| Ok(Bytes::from(text))))
    }
}

impl<S: Stream<Item = Result<Reply, CallError>> + Unpin> Events<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<String>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = match self.next(cx) {
            Poll::Ready(event) => event,
            Poll::Pending => match self.heartbeat.as_mut().poll(cx) {
                Poll::Ready(()) => ":\n\n".to_owned(),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
        Poll::Ready(Some(event))
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        if let Poll::Ready(Some(text)) = self.progress.poll_recv(cx) {
            return Poll::Ready(event("progress", None, text.as_bytes()));
        }
        Pin::new(&mut self.replies).poll_next(cx).map(|reply| match reply {
            Some(Ok(reply)) => {
                self.answers += 1;
                event("message", Some(self.answers - 1), &reply.payload.body)
            }
            Some(Err(error)) => {
                self.ended = true;
                event("error", None, Problem::from(error).to_json().to_string().as_bytes())
            }
            None => {
                self.ended = true;
                event("end", None, json!({ "answers": self.answers }).to_string().as_bytes())
            }
        })
    }
}

/// One event. `message` is what an event without a name is; octets that are no text come as base64, in `binary`.
fn event(name: &str, id: Option<u64>, data: &[u8]) -> String {
    let (name, data) = match std::str::from_utf8(data) {
        Ok(text) => (name, text.to_owned()),
        Err(_) => ("binary", BASE64_STANDARD.encode(data)),
    };
    let mut event = String::with_capacity(data.len() + 32);
    if let Some(id) = id {
        // Writing to a string does not fail.
        let _ = writeln!(event, "id: {id}");
    }
    if name != "message" {
        let _ = writeln!(event, "event: {name}");
    }
    // The format has no other way for a line break, and takes all three kinds for one.
    for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
        let _ = writeln!(event, "data: {line}");
    }
    event.push('\n');
    event
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use leveret::{Payload, Properties};

    use super::*;

    struct Replies(mpsc::Receiver<Result<Reply, CallError>>);

    impl Stream for Replies {
        type Item = Result<Reply, CallError>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(cx)
        }
    }

    fn reply(body: &'static [u8]) -> Reply {
        let payload = Payload::new("application/json", body);
        Reply { payload, properties: Properties::default(), routing_key: String::new() }
    }

    fn events() -> (mpsc::Sender<Result<Reply, CallError>>, mpsc::Sender<String>, Events<Replies>) {
        let (replies, replies_receiver) = mpsc::channel(8);
        let (progress, progress_receiver) = mpsc::channel(8);
        let heartbeat = Box::pin(sleep(HEARTBEAT));
        let replies_receiver = Replies(replies_receiver);
        let progress_receiver = progress_receiver;
        let events = Events {
            replies: replies_receiver,
            progress: progress_receiver,
            answers: 0,
            ended: false,
            heartbeat,
        };
        (replies, progress, events)
    }

    async fn next(events: &mut Events<Replies>) -> Option<String> {
        poll_fn(|cx| events.poll(cx)).await
    }

    #[tokio::test(start_paused = true)]
    async fn answers_progress_and_the_end() {
        let (replies, progress, mut events) = events();
        replies.send(Ok(reply(b"{}"))).await.unwrap();
        replies.send(Ok(reply(b"\xff"))).await.unwrap();
        progress.send("half".to_owned()).await.unwrap();
        drop((replies, progress));
        for expected in [
            "event: progress\ndata: half\n\n",
            "id: 0\ndata: {}\n\n",
            "id: 1\nevent: binary\ndata: /w==\n\n",
            "event: end\ndata: {\"answers\":2}\n\n",
        ] {
            assert_eq!(next(&mut events).await.as_deref(), Some(expected));
        }
        assert_eq!(next(&mut events).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_the_last_event() {
        let (replies, _progress, mut events) = events();
        replies.send(Err(CallError::Busy { service: "s".into() })).await.unwrap();
        let error = next(&mut events).await.unwrap();
        assert!(error.starts_with("event: error\ndata: {\"code\":\"RESOURCE_EXHAUSTED\""), "{error}");
        assert_eq!(next(&mut events).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_comments() {
        let (replies, _progress, mut events) = events();
        let began = Instant::now();
        for beats in 1..3 {
            assert_eq!(next(&mut events).await.as_deref(), Some(":\n\n"));
            assert_eq!(began.elapsed().as_secs(), HEARTBEAT.as_secs() * beats);
        }
        replies.send(Ok(reply(b"1"))).await.unwrap();
        assert_eq!(next(&mut events).await.as_deref(), Some("id: 0\ndata: 1\n\n"));
    }

    #[test]
    fn no_line_of_a_body_becomes_a_field() {
        let check = |data: &str, expected| assert_eq!(event("message", None, data.as_bytes()), expected);
        check("", "data: \n\n");
        check("a\nid: 7\r\nb\rc", "data: a\ndata: id: 7\ndata: b\ndata: c\n\n");
    }
}
