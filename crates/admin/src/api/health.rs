//! Whether the process is alive, and whether it serves clients: for containers and load balancers, without a login. The answers
//! say nothing that a connection to a listener would not say.

use serde_json::json;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/health/live",
        access: Access::Open,
        about: "Whether the process is alive",
        handler: live,
    },
    Route {
        method: Method::GET,
        path: "/health/ready",
        access: Access::Open,
        about: "Whether clients are served; 503 and why not. An alarm that blocks publishers does not count: consumers go on",
        handler: ready,
    },
];

fn live(_context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::json(&json!({ "status": "ok" })))
}

fn ready(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    context.host.readiness().map_err(ApiError::unavailable)?;
    live(context, request)
}
