//! Reads the body of a request, of the size that this gateway takes.

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use leveret_admin::http::body::{BodyError, read as read_body};

use super::problem::Problem;

/// Reads all of it.
pub(super) async fn read(headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    read_body(headers, body, max_bytes).await.map_err(|error| match error {
        BodyError::TooLarge => Problem::body_too_large(max_bytes),
        BodyError::TooSlow => Problem::slow_body(),
        BodyError::Unreadable(why) => Problem::invalid(format!("the body cannot be read: {why}")),
    })
}
