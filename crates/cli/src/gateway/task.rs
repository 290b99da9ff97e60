//! `POST /task/{service}[/{method}]`: work without an answer; 202 when the broker has it on disk.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::ask::{Circumstances, names};
use super::body;
use super::problem::Problem;
use super::query::Query;
use super::routes::Gateway;

pub(super) async fn answer(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let mut names = names(&mut parts).await?.into_iter();
    let (service, method) = (names.next().unwrap_or_default(), names.next());
    Query::parse(parts.uri.query(), &[])?;
    gateway.may_call(&service)?;
    let circumstances = Circumstances::read(&parts.headers, gateway.patience)?;
    let _permit = gateway.admit()?;
    let body = body::read(&parts.headers, body, gateway.body_max_bytes).await?;
    let payload = circumstances.payload(body);
    let mut task = gateway.client.task_raw(&service, payload).timeout(circumstances.timeout);
    if let Some(method) = method {
        task = task.method(method);
    }
    if let Some(id) = circumstances.message_id {
        task = task.message_id(id);
    }
    for (name, value) in circumstances.headers {
        task = task.header(name, value);
    }
    let message_id = task.await?;
    let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = json!({ "message_id": message_id }).to_string();
    Ok((StatusCode::ACCEPTED, [content_type], body).into_response())
}
