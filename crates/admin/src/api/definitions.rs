//! All that is set up, out and in.

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::definitions::{Reader, Scope, read, shown};
use crate::error::ApiError;
use crate::listing;
use crate::request::Request;
use crate::route::{Handler, Method, Route};

const EXPORT: &str = "All that is set up; with `?for=rabbitmq` without passwords that RabbitMQ cannot take";
const IMPORT: &str = "Sets up what a definitions file says: all of it, or none";

pub(crate) const ROUTES: &[Route] = &[
    route(Method::GET, "/api/definitions", EXPORT, export),
    route(Method::POST, "/api/definitions", IMPORT, import),
    route(Method::GET, "/api/definitions/{vhost}", "What is set up in a virtual host", export_vhost),
    route(
        Method::POST,
        "/api/definitions/{vhost}",
        "Sets up what a file says in a virtual host",
        import_vhost,
    ),
    route(Method::GET, "/api/all-configuration", EXPORT, export),
    route(Method::POST, "/api/all-configuration", IMPORT, import),
];

const fn route(method: Method, path: &'static str, about: &'static str, handler: Handler) -> Route {
    Route { method, path, access: Access::Administration, about, handler }
}

fn export(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    Ok(listing::one(request, shown(context.broker(), None, reader(request)?)?))
}

fn export_vhost(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    Ok(listing::one(request, shown(context.broker(), Some(&vhost), reader(request)?)?))
}

fn reader(request: &Request) -> Result<Reader, ApiError> {
    match request.query("for") {
        None | Some("leveret") => Ok(Reader::Leveret),
        Some("rabbitmq") => Ok(Reader::RabbitMq),
        Some(other) => Err(ApiError::bad_request(format!("`for` is `leveret` or `rabbitmq`, not `{other}`"))),
    }
}

fn import(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    define(context, request, Scope::Everything)
}

fn import_vhost(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = context.vhost_to_change(request.param("vhost"))?;
    define(context, request, Scope::In(&vhost.name))
}

fn define(context: &Context, request: &Request, scope: Scope<'_>) -> Result<Answer, ApiError> {
    let definitions = read(&request.body, scope)?;
    let mut batch = context.batch();
    let defined = context.broker().define(&definitions, Some(&request.caller()?.name), &mut batch);
    context.finish(&mut batch);
    defined?;
    Ok(Answer::no_content())
}
