//! The log: its newest lines, and how much is told of what. Lines name users, addresses and queues of all virtual hosts, so
//! they are for administrators.

use std::collections::BTreeMap;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/logs",
        access: Access::Administration,
        about: "The newest lines of the log: ?level=info&after=NUMBER&count=500",
        handler: lines,
    },
    Route {
        method: Method::GET,
        path: "/api/log-levels",
        access: Access::Administration,
        about: "How much is logged of what",
        handler: levels,
    },
    Route {
        method: Method::PUT,
        path: "/api/log-levels",
        access: Access::Administration,
        about: "Changes levels until the next reload: {\"AREA or default\": \"LEVEL\"}",
        handler: change_levels,
    },
];

const COUNT_DEFAULT: usize = 500;
const LEVEL_DEFAULT: &str = "info";

fn lines(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let after = number(request, "after")?.unwrap_or(0);
    let count = number(request, "count")?.map_or(COUNT_DEFAULT, |count| count as usize);
    let level = request.query("level").unwrap_or(LEVEL_DEFAULT);
    let lines = context.host.journal().lines(level, after, count).map_err(ApiError::bad_request)?;
    Ok(Answer::json(&lines))
}

fn levels(context: &Context, _request: &Request) -> Result<Answer, ApiError> {
    Ok(Answer::json(&context.host.journal().levels()))
}

fn change_levels(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let changes: BTreeMap<String, String> = request.json()?;
    let changes: Vec<_> = changes.into_iter().collect();
    context.host.journal().change_levels(&changes).map_err(ApiError::bad_request)?;
    Ok(Answer::no_content())
}

fn number(request: &Request, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = request.query(name) else { return Ok(None) };
    let wrong = |_| ApiError::bad_request(format!("{name} is no number: {text:?}"));
    text.parse().map(Some).map_err(wrong)
}
