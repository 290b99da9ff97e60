//! Who asks.

use serde_json::json;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[Route {
    method: Method::GET,
    path: "/api/whoami",
    access: Access::Management,
    about: "Who the credentials of the request belong to",
    handler: whoami,
}];

fn whoami(_context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let user = request.caller()?;
    Ok(Answer::json(&json!({ "name": user.name, "tags": user.tags, "is_internal_user": true })))
}
