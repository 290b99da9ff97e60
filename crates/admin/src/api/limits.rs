//! How many connections, channels and queues virtual hosts and users may have.

use leveret_broker::authority::{Right, authorize};
use leveret_broker::{UserLimits, VHostLimits};
use leveret_wire::{FieldTable, FieldValue};
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::json_table;
use crate::listing;
use crate::request::Request;
use crate::route::{Method, Route};
use crate::sight;
use crate::table_json;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/vhost-limits",
        access: Access::Management,
        about: "The limits of the virtual hosts that the caller may see",
        handler: of_vhosts,
    },
    Route {
        method: Method::GET,
        path: "/api/vhost-limits/{vhost}",
        access: Access::VHostSight,
        about: "The limits of a virtual host",
        handler: of_vhosts,
    },
    Route {
        method: Method::PUT,
        path: "/api/vhost-limits/{vhost}/{name}",
        access: Access::Administration,
        about: "Sets a limit of a virtual host: `value` for `max-connections` or `max-queues`",
        handler: put_of_vhost,
    },
    Route {
        method: Method::DELETE,
        path: "/api/vhost-limits/{vhost}/{name}",
        access: Access::Administration,
        about: "Lifts a limit of a virtual host",
        handler: delete_of_vhost,
    },
    Route {
        method: Method::GET,
        path: "/api/user-limits",
        access: Access::Management,
        about: "The limits of the caller, or of all users for whoever may see everything",
        handler: of_users,
    },
    Route {
        method: Method::GET,
        path: "/api/user-limits/{user}",
        access: Access::Management,
        about: "The limits of a user",
        handler: of_users,
    },
    Route {
        method: Method::PUT,
        path: "/api/user-limits/{user}/{name}",
        access: Access::Administration,
        about: "Sets a limit of a user: `value` for `max-connections` or `max-channels`",
        handler: put_of_user,
    },
    Route {
        method: Method::DELETE,
        path: "/api/user-limits/{user}/{name}",
        access: Access::Administration,
        about: "Lifts a limit of a user",
        handler: delete_of_user,
    },
];

fn of_vhosts(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhosts = sight::vhosts(context, request)?;
    let limits = vhosts.iter().map(|vhost| (&vhost.name, vhost.limits().definition()));
    let set = limits.filter(|(_, limits)| !limits.is_empty());
    let shown = set.map(|(name, limits)| json!({ "vhost": &**name, "value": table_json::object(&limits) }));
    listing::answer(request, shown.collect())
}

fn of_users(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (broker, caller) = (context.broker(), request.caller()?);
    let mut users = broker.users.list();
    users.retain(|user| user.name == caller.name || authorize(&caller, Right::Monitoring).is_ok());
    if let Some(wanted) = request.param_if("user") {
        users.retain(|user| user.name == wanted);
        if users.is_empty() {
            return Err(ApiError::not_found());
        }
    }
    let limits = users.iter().map(|user| (&user.name, broker.user_limits(&user.name).definition()));
    let set = limits.filter(|(_, limits)| !limits.is_empty());
    let shown = set.map(|(name, limits)| json!({ "user": name, "value": table_json::object(&limits) }));
    listing::answer(request, shown.collect())
}

fn put_of_vhost(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let value = value(request)?;
    let vhost = context.vhost_to_change(request.param("vhost"))?;
    let limits = VHostLimits::parse(&with(vhost.limits().definition(), request.param("name"), value))?;
    context.broker().set_vhost_limits(&vhost.name, limits)?;
    Ok(Answer::no_content())
}

fn delete_of_vhost(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let mut limits = vhost.limits().definition();
    limits.remove(request.param("name"));
    context.broker().set_vhost_limits(&vhost.name, VHostLimits::parse(&limits)?)?;
    Ok(Answer::no_content())
}

fn put_of_user(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let value = value(request)?;
    let (broker, name) = (context.broker(), request.param("user"));
    if broker.users.find(name).is_none() {
        return Err(ApiError::bad_request(format!("no_such_user: {name}")));
    }
    let limits = with(broker.user_limits(name).definition(), request.param("name"), value);
    broker.set_user_limits(name, UserLimits::parse(&limits)?)?;
    Ok(Answer::no_content())
}

fn delete_of_user(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (broker, name) = (context.broker(), request.param("user"));
    broker.users.find(name).ok_or_else(ApiError::not_found)?;
    let mut limits = broker.user_limits(name).definition();
    limits.remove(request.param("name"));
    broker.set_user_limits(name, UserLimits::parse(&limits)?)?;
    Ok(Answer::no_content())
}

fn value(request: &Request) -> Result<FieldValue, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    fields.require(&["value"])?;
    let one = fields.value("value").map(|value| ("value".to_owned(), value.clone()));
    let one: Map<String, Value> = one.into_iter().collect();
    let table = json_table::settings(&one)?;
    Ok(table.get("value").cloned().unwrap_or(FieldValue::Void))
}

fn with(mut limits: FieldTable, name: &str, value: FieldValue) -> FieldTable {
    limits.insert(name, value);
    limits
}
