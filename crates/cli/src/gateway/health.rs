//! `GET /health/live` and `/health/ready`, for whatever starts gateways and sends requests to them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tokio::time::timeout;

use super::json_response;
use super::problem::Problem;
use super::routes::Gateway;

/// A connection that is there is there at once.
const READY_PATIENCE: Duration = Duration::from_millis(20);

/// The process answers.
pub(super) async fn live() -> Response {
    json_response(&json!({ "status": "live" }))
}

/// Calls have a chance: there is a connection to the broker.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Result<Response, Problem> {
    match timeout(READY_PATIENCE, gateway.client.connection()).await {
        Ok(Ok(_connection)) => Ok(json_response(&json!({ "status": "ready" }))),
        _ => Err(Problem::broker_away()),
    }
}
