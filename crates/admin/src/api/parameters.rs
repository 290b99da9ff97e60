//! Runtime parameters, global parameters and the name of the cluster.
//!
//! Limits of virtual hosts and operator policies are parameters in RabbitMQ, and are shown here as such, too.

use leveret_broker::authority::{Right, authorize};
use leveret_broker::ops::parameter::SetParameter;
use leveret_broker::parameters::{GlobalParameter, Parameter};
use leveret_broker::policies::Author;
use leveret_broker::users::User;
use leveret_broker::vhost::VHost;
use leveret_broker::{Broker, VHostLimits};
use serde_json::{Value, json};

use super::policies::described as policy;
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
        path: "/api/parameters",
        access: Access::PolicyMaking,
        about: "All runtime parameters that the caller may see",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/parameters/{component}",
        access: Access::PolicyMaking,
        about: "The runtime parameters of a component",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/parameters/{component}/{vhost}",
        access: Access::PolicyMaking,
        about: "The runtime parameters of a component in a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/parameters/{component}/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "A runtime parameter",
        handler: one,
    },
    Route {
        method: Method::PUT,
        path: "/api/parameters/{component}/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "Sets a runtime parameter: `value`",
        handler: put,
    },
    Route {
        method: Method::DELETE,
        path: "/api/parameters/{component}/{vhost}/{name}",
        access: Access::PolicyMaking,
        about: "Clears a runtime parameter",
        handler: delete,
    },
    Route {
        method: Method::GET,
        path: "/api/global-parameters",
        access: Access::PolicyMaking,
        about: "All global parameters",
        handler: list_global,
    },
    Route {
        method: Method::GET,
        path: "/api/global-parameters/{name}",
        access: Access::PolicyMaking,
        about: "A global parameter",
        handler: one_global,
    },
    Route {
        method: Method::PUT,
        path: "/api/global-parameters/{name}",
        access: Access::PolicyMaking,
        about: "Sets a global parameter: `value`",
        handler: put_global,
    },
    Route {
        method: Method::DELETE,
        path: "/api/global-parameters/{name}",
        access: Access::PolicyMaking,
        about: "Clears a global parameter",
        handler: delete_global,
    },
    Route {
        method: Method::PUT,
        path: "/api/cluster-name",
        access: Access::Administration,
        about: "Names the broker: `name`",
        handler: put_cluster_name,
    },
];

/// The component of limits of virtual hosts, and the only name that it has.
pub(crate) const LIMITS: (&str, &str) = ("vhost-limits", "limits");
/// The component of operator policies.
pub(crate) const OPERATOR_POLICY: &str = "operator_policy";
/// The global parameter that has the cluster's name.
const CLUSTER_NAME: &str = "cluster_name";

/// The parameters in the virtual hosts that the caller may see; RabbitMQ's own kinds behind those of components.
fn all(context: &Context, request: &Request) -> Result<Vec<Value>, ApiError> {
    let vhosts = sight::vhosts(context, request)?;
    let parameters: Vec<_> =
        vhosts.iter().map(|vhost| in_vhost(context.broker(), vhost)).collect::<Result<_, _>>()?;
    Ok(parameters.into_iter().flatten().collect())
}

/// The same in one virtual host.
pub(crate) fn in_vhost(broker: &Broker, vhost: &VHost) -> Result<Vec<Value>, ApiError> {
    let mut shown = Vec::new();
    let name = &*vhost.name;
    shown.extend(broker.parameters_in(name).iter().map(|parameter| described(parameter)));
    let limits = vhost.limits().definition();
    if !limits.is_empty() {
        shown.push(parameter(LIMITS.0, name, LIMITS.1, table_json::object(&limits)));
    }
    for operators in broker.policies(name, Author::Operator)? {
        let mut value = policy(name, &operators);
        if let Value::Object(value) = &mut value {
            value.retain(|key, _| key != "vhost" && key != "name");
        }
        shown.push(parameter(OPERATOR_POLICY, name, &operators.name, value));
    }
    Ok(shown)
}

/// As a global parameter is listed, and as it is in definitions.
pub(crate) fn described_global(parameter: &GlobalParameter) -> Value {
    json!({ "name": parameter.name, "value": json_of(&parameter.value) })
}

fn described(set: &Parameter) -> Value {
    parameter(&set.component, &set.vhost, &set.name, json_of(&set.value))
}

fn parameter(component: &str, vhost: &str, name: &str, value: Value) -> Value {
    json!({ "component": component, "vhost": vhost, "name": name, "value": value })
}

/// Doors parse what they set.
fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let mut parameters = all(context, request)?;
    if let Some(component) = request.param_if("component") {
        parameters.retain(|parameter| parameter["component"] == component);
    }
    listing::answer(request, parameters)
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (component, name) = (request.param("component"), request.param("name"));
    let found = all(context, request)?
        .into_iter()
        .find(|parameter| parameter["component"] == component && parameter["name"] == name);
    found.map(|parameter| listing::one(request, parameter)).ok_or_else(ApiError::not_found)
}

fn put(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    fields.require(&["value"])?;
    let (component, vhost, name) =
        (request.param("component"), request.param("vhost"), request.param("name"));
    context.vhost_to_change(vhost)?;
    if component == "policy" || component == OPERATOR_POLICY {
        return Err(ApiError::bad_request("policies may not be set using this method"));
    }
    // A virtual host always has limits, if only none.
    let is_new = component != LIMITS.0 && one(context, request).is_err();
    let value = fields.value("value").map(Value::to_string).unwrap_or_default();
    let caller = request.caller()?;
    match component == LIMITS.0 {
        true => set_limits(context, &caller, vhost, name, fields.value("value"))?,
        false => {
            context.broker().set_parameter(SetParameter { component, vhost, name, value: &value }, &caller)?
        }
    }
    Ok(Answer::created_or_changed(is_new))
}

/// Limits can be set by administrators only, whatever the door.
fn set_limits(
    context: &Context,
    caller: &User,
    vhost: &str,
    name: &str,
    value: Option<&Value>,
) -> Result<(), ApiError> {
    authorize(caller, Right::Administration)?;
    let Some(Value::Object(limits)) = value.filter(|_| name == LIMITS.1) else {
        return Err(ApiError::bad_request("limits have the name `limits` and an object as value"));
    };
    let limits = VHostLimits::parse(&json_table::settings(limits)?)?;
    Ok(context.broker().set_vhost_limits(vhost, limits)?)
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (component, vhost, name) =
        (request.param("component"), request.param("vhost"), request.param("name"));
    context.vhost(vhost)?;
    match component == LIMITS.0 && name == LIMITS.1 {
        true => {
            authorize(&*request.caller()?, Right::Administration)?;
            context.broker().set_vhost_limits(vhost, VHostLimits::default())?;
        }
        false => context.broker().clear_parameter(component, vhost, name)?,
    }
    Ok(Answer::no_content())
}

fn list_global(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    listing::answer(request, context.broker().global_parameters().iter().map(described_global).collect())
}

fn one_global(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let found = context.broker().global_parameter(request.param("name")).ok_or_else(ApiError::not_found)?;
    Ok(listing::one(request, described_global(&found)))
}

fn put_global(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    fields.require(&["value"])?;
    let name = request.param("name");
    let is_new = context.broker().global_parameter(name).is_none();
    let value = fields.value("value").map(Value::to_string).unwrap_or_default();
    context.broker().set_global_parameter(name, &value)?;
    Ok(Answer::created_or_changed(is_new))
}

fn delete_global(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    context.broker().clear_global_parameter(request.param("name"))?;
    Ok(Answer::no_content())
}

fn put_cluster_name(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    let name = json!(fields.text("name")?).to_string();
    context.broker().set_global_parameter(CLUSTER_NAME, &name)?;
    Ok(Answer::no_content())
}
