//! `POST /call/{service}[/{method}]`: one question, one answer, or a stream of them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use leveret::{Call, Reply, StreamCall};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::ask::{Circumstances, is_short, names};
use super::body;
use super::events;
use super::problem::Problem;
use super::query::Query;
use super::routes::Gateway;

/// Signs of progress that wait for a slow reader; more are dropped, because the newest says it all.
const PROGRESS_MAX: usize = 32;

/// Where a question goes.
struct Target {
    service: String,
    method: Option<String>,
    /// Exchange and routing key, if it is not the queue of the service.
    through: Option<(String, String)>,
    fail_fast: bool,
}

pub(super) async fn answer(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let names = names(&mut parts).await?;
    let target = Target::read(&gateway, names, parts.uri.query())?;
    let circumstances = Circumstances::read(&parts.headers, gateway.patience)?;
    let permit = gateway.admit()?;
    let body = body::read(&parts.headers, body, gateway.body_max_bytes).await?;
    match circumstances.wants_events {
        true => stream(&gateway, target, circumstances, body, permit).await,
        false => one(&gateway, target, circumstances, body).await,
    }
}

impl Target {
    fn read(gateway: &Gateway, names: Vec<String>, query: Option<&str>) -> Result<Target, Problem> {
        let mut names = names.into_iter();
        let (service, method) = (names.next().unwrap_or_default(), names.next());
        let query = Query::parse(query, &["exchange", "key", "fail_fast"])?;
        gateway.may_call(&service)?;
        let through = match (query.text("exchange"), query.text("key")) {
            (None, None) => None,
            (exchange, key) => {
                let (exchange, key) = (exchange.unwrap_or_default(), key.unwrap_or(&service));
                is_short("exchange", exchange)?;
                is_short("key", key)?;
                gateway.may_ask(exchange, key)?;
                Some((exchange.to_owned(), key.to_owned()))
            }
        };
        Ok(Target { fail_fast: query.flag("fail_fast")?, service, method, through })
    }
}

async fn one(
    gateway: &Gateway,
    target: Target,
    circumstances: Circumstances,
    body: axum::body::Bytes,
) -> Result<Response, Problem> {
    let payload = circumstances.payload(body);
    let mut call: Call<Reply> =
        gateway.client.request(&target.service, payload).timeout(circumstances.timeout);
    if let Some((exchange, key)) = target.through {
        call = call.exchange(exchange, key);
    }
    if let Some(method) = target.method {
        call = call.method(method);
    }
    if let Some(id) = circumstances.message_id {
        call = call.message_id(id);
    }
    if target.fail_fast {
        call = call.fail_fast();
    }
    for (name, value) in circumstances.headers {
        call = call.header(name, value);
    }
    Ok(reply(call.await?))
}

/// The answer as it came. What its type is, its worker says: a browser must not guess another one.
fn reply(reply: Reply) -> Response {
    let content_type = reply.payload.content_type.and_then(|kind| HeaderValue::try_from(kind).ok());
    let mut headers = HeaderMap::new();
    headers
        .insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    (headers, reply.payload.body).into_response()
}

async fn stream(
    gateway: &Gateway,
    target: Target,
    circumstances: Circumstances,
    body: axum::body::Bytes,
    permit: OwnedSemaphorePermit,
) -> Result<Response, Problem> {
    if target.fail_fast {
        return Err(Problem::invalid("fail_fast is for calls with one answer, not for text/event-stream"));
    }
    let payload = circumstances.payload(body);
    let call = gateway.client.stream_raw::<Reply>(&target.service, payload);
    let mut call: StreamCall<Reply> = call.timeout(circumstances.timeout);
    if let Some((exchange, key)) = target.through {
        call = call.exchange(exchange, key);
    }
    if let Some(method) = target.method {
        call = call.method(method);
    }
    if let Some(id) = circumstances.message_id {
        call = call.message_id(id);
    }
    for (name, value) in circumstances.headers {
        call = call.header(name, value);
    }
    let (sender, progress) = mpsc::channel(PROGRESS_MAX);
    let tell = move |text: &str| drop(sender.try_send(text.to_owned()));
    let replies = call.on_progress(tell).await?;
    Ok(events::response(replies, progress, permit))
}
