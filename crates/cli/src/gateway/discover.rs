//! `GET /services` and `GET /openapi.json`: what there is to call, from the workers that answer at this moment.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use leveret::CallError;
use serde_json::Value;

use super::access::Access;
use super::problem::Problem;
use super::query::Query;
use super::routes::Gateway;
use super::{json_response, openapi as document};
use crate::discovery::{Asked, SILENCE_DEFAULT, workers};

/// A longer pause between two answers is no pause any more.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// As `leveret services --json`, in an array. `?service=NAME` asks one of them, `?silence=300ms` is how long to wait
/// for another answer.
pub(super) async fn services(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query(), &["service", "silence"])?;
    let silence = query.time("silence")?.unwrap_or(SILENCE_DEFAULT);
    let _permit = gateway.admit()?;
    let found = callable(&gateway, Asked::Stats, query.text("service"), silence).await?;
    Ok(json_response(&found.into()))
}

pub(super) async fn openapi(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, Problem> {
    Query::parse(request.uri().query(), &[])?;
    let _permit = gateway.admit()?;
    let found = callable(&gateway, Asked::Info, None, SILENCE_DEFAULT).await?;
    let wants_token = matches!(gateway.access, Access::Tokens(_));
    Ok(json_response(&document::document(&found, wants_token)))
}

/// The workers whose services may be called here.
async fn callable(
    gateway: &Gateway,
    asked: Asked,
    service: Option<&str>,
    silence: Duration,
) -> Result<Vec<Value>, CallError> {
    let mut found = workers(&gateway.client, asked, service, silence.min(SILENCE_MAX)).await?;
    found.retain(|worker| worker["name"].as_str().is_some_and(|name| gateway.allow.service(name)));
    Ok(found)
}
