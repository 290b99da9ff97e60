//! Shovels: what they are doing. Setting one up is setting a parameter of component `shovel`.

use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing;
use crate::moment;
use crate::request::Request;
use crate::route::{Method, Route};
use crate::shovels::ShovelStatus;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/shovels",
        access: Access::Monitoring,
        about: "All shovels and what they are doing",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/shovels/{vhost}",
        access: Access::Monitoring,
        about: "The shovels of a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/shovels/vhost/{vhost}/{name}",
        access: Access::Monitoring,
        about: "A shovel and what it is doing",
        handler: one,
    },
    Route {
        method: Method::DELETE,
        path: "/api/shovels/vhost/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "Deletes a shovel with its parameter",
        handler: delete,
    },
    Route {
        method: Method::DELETE,
        path: "/api/shovels/vhost/{vhost}/{name}/restart",
        access: Access::PolicyMaking,
        about: "Starts a shovel anew",
        handler: restart,
    },
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = request.param_if("vhost");
    vhost.map(|vhost| context.vhost(vhost)).transpose()?;
    let mut shovels = context.host.shovels().list();
    shovels.retain(|shovel| vhost.is_none_or(|vhost| shovel.vhost == vhost));
    listing::answer(request, shovels.into_iter().map(|shovel| described(context, shovel)).collect())
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, name) = (request.param("vhost"), request.param("name"));
    let found =
        context.host.shovels().list().into_iter().find(|shovel| shovel.vhost == vhost && shovel.name == name);
    Ok(listing::one(request, described(context, found.ok_or_else(ApiError::not_found)?)))
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let cleared = context.broker().clear_parameter("shovel", request.param("vhost"), request.param("name"));
    cleared.map_err(|_| ApiError::not_found())?;
    Ok(Answer::no_content())
}

fn restart(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    match context.host.shovels().restart(request.param("vhost"), request.param("name")) {
        true => Ok(Answer::no_content()),
        false => Err(ApiError::not_found()),
    }
}

fn described(context: &Context, shovel: ShovelStatus) -> Value {
    let mut described = json!({
        "node": context.host.node_name(),
        "name": shovel.name,
        "vhost": shovel.vhost,
        "type": "dynamic",
        "state": shovel.state,
        "timestamp": moment::in_seconds(shovel.since_s),
        "moved": shovel.moved,
    });
    if let Some(fields) = described.as_object_mut() {
        fields.extend(shovel.about);
        fields.extend(shovel.reason.map(|reason| ("reason".to_owned(), Value::String(reason))));
    }
    described
}
