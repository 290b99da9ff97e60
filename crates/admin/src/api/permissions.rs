//! What users may do: permissions in virtual hosts, and routing keys of topic exchanges.

use std::sync::Arc;

use leveret_broker::users::{Operation, Permissions, TopicPermissions, User, UserError};
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::listing;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/permissions",
        access: Access::Administration,
        about: "What all users may do",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/vhosts/{vhost}/permissions",
        access: Access::Administration,
        about: "What users may do in a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/permissions/{vhost}/{user}",
        access: Access::Administration,
        about: "What a user may do in a virtual host",
        handler: one,
    },
    Route {
        method: Method::PUT,
        path: "/api/permissions/{vhost}/{user}",
        access: Access::Administration,
        about: "Sets what a user may do in a virtual host",
        handler: put,
    },
    Route {
        method: Method::DELETE,
        path: "/api/permissions/{vhost}/{user}",
        access: Access::Administration,
        about: "Bars a user from a virtual host",
        handler: delete,
    },
    Route {
        method: Method::GET,
        path: "/api/topic-permissions",
        access: Access::Administration,
        about: "Which routing keys users may use",
        handler: list_topic,
    },
    Route {
        method: Method::GET,
        path: "/api/vhosts/{vhost}/topic-permissions",
        access: Access::Administration,
        about: "Which routing keys users may use in a virtual host",
        handler: list_topic,
    },
    Route {
        method: Method::GET,
        path: "/api/topic-permissions/{vhost}/{user}",
        access: Access::Administration,
        about: "Which routing keys a user may use in a virtual host",
        handler: of_user_topic,
    },
    Route {
        method: Method::PUT,
        path: "/api/topic-permissions/{vhost}/{user}",
        access: Access::Administration,
        about: "Sets which routing keys of an exchange a user may use",
        handler: put_topic,
    },
    Route {
        method: Method::DELETE,
        path: "/api/topic-permissions/{vhost}/{user}",
        access: Access::Administration,
        about: "Lets a user use all routing keys in a virtual host",
        handler: delete_topic,
    },
    Route {
        method: Method::GET,
        path: "/api/topic-permissions/{vhost}/{user}/{exchange}",
        access: Access::Administration,
        about: "Which routing keys of an exchange a user may use",
        handler: of_user_topic,
    },
    Route {
        method: Method::DELETE,
        path: "/api/topic-permissions/{vhost}/{user}/{exchange}",
        access: Access::Administration,
        about: "Lets a user use all routing keys of an exchange",
        handler: delete_topic,
    },
];

/// Reads the patterns of permissions.
///
/// # Errors
/// 400: one is missing or no pattern.
pub(crate) fn read(fields: &Fields) -> Result<Permissions, ApiError> {
    fields.require(&["configure", "write", "read"])?;
    let (configure, write, read) = (fields.text("configure")?, fields.text("write")?, fields.text("read")?);
    Ok(Permissions::new(configure, write, read).map_err(UserError::Pattern)?)
}

/// As permissions are listed, and as they are in definitions.
pub(crate) fn described(user: &str, vhost: &str, permissions: &Permissions) -> Value {
    json!({
        "user": user,
        "vhost": vhost,
        "configure": permissions.pattern(Operation::Configure),
        "write": permissions.pattern(Operation::Write),
        "read": permissions.pattern(Operation::Read),
    })
}

/// The same for topic permissions.
pub(crate) fn described_topic(user: &str, vhost: &str, exchange: &str, keys: &TopicPermissions) -> Value {
    json!({ "user": user, "vhost": vhost, "exchange": exchange, "write": keys.write(), "read": keys.read() })
}

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let wanted = wanted_vhost(context, request)?;
    let users = context.broker().users.list();
    let of_user = |user: &Arc<User>| {
        let of = user.all_permissions().filter(|(vhost, _)| wanted.is_none_or(|wanted| wanted == *vhost));
        of.map(|(vhost, permissions)| described(&user.name, vhost, permissions)).collect::<Vec<_>>()
    };
    listing::answer(request, users.iter().flat_map(of_user).collect())
}

fn list_topic(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let wanted = wanted_vhost(context, request)?;
    let users = context.broker().users.list();
    let of_user =
        |user: &Arc<User>| topic_permissions_of(user, |vhost, _| wanted.is_none_or(|wanted| wanted == vhost));
    listing::answer(request, users.iter().flat_map(of_user).collect())
}

fn wanted_vhost<'r>(context: &Context, request: &'r Request) -> Result<Option<&'r str>, ApiError> {
    let wanted = request.param_if("vhost");
    wanted.map_or(Ok(()), |wanted| context.vhost(wanted).map(drop))?;
    Ok(wanted)
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, user) = existing(context, request)?;
    let permissions = user.permissions(&vhost).ok_or_else(ApiError::not_found)?;
    Ok(listing::one(request, described(&user.name, &vhost, permissions)))
}

fn put(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let permissions = read(&Fields::of_body(&request.body)?)?;
    let (vhost, user) = existing(context, request).map_err(|_| neither())?;
    context.broker().users.set_permissions(&user.name, &vhost, permissions)?;
    context.broker().save_user(&user.name)?;
    Ok(Answer::created_or_changed(user.permissions(&vhost).is_none()))
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, user) = existing(context, request)?;
    user.permissions(&vhost).ok_or_else(ApiError::not_found)?;
    context.broker().users.clear_permissions(&user.name, &vhost)?;
    context.broker().save_user(&user.name)?;
    Ok(Answer::no_content())
}

fn of_user_topic(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, user) = existing(context, request)?;
    let exchange = request.param_if("exchange");
    let fits = |at: &str, of: &str| at == vhost && exchange.is_none_or(|exchange| exchange == of);
    match topic_permissions_of(&user, fits) {
        none if none.is_empty() => Err(ApiError::not_found()),
        some => listing::answer(request, some),
    }
}

fn put_topic(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    fields.require(&["exchange", "write", "read"])?;
    let (exchange, write, read) = (fields.text("exchange")?, fields.text("write")?, fields.text("read")?);
    let (vhost, user) = existing(context, request).map_err(|_| neither())?;
    let is_new = user.all_topic_permissions().all(|(at, of, _)| at != vhost || of != exchange);
    context.broker().users.set_topic_permissions(&user.name, &vhost, exchange, write, read)?;
    context.broker().save_user(&user.name)?;
    Ok(Answer::created_or_changed(is_new))
}

fn delete_topic(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (vhost, user) = existing(context, request)?;
    let exchange = request.param_if("exchange");
    let fits = |at: &str, of: &str| at == vhost && exchange.is_none_or(|exchange| exchange == of);
    if !user.all_topic_permissions().any(|(at, of, _)| fits(at, of)) {
        return Err(ApiError::not_found());
    }
    context.broker().users.clear_topic_permissions(&user.name, &vhost, exchange)?;
    context.broker().save_user(&user.name)?;
    Ok(Answer::no_content())
}

fn topic_permissions_of(user: &User, fits: impl Fn(&str, &str) -> bool) -> Vec<Value> {
    let of = user.all_topic_permissions().filter(|(vhost, exchange, _)| fits(vhost, exchange));
    of.map(|(vhost, exchange, keys)| described_topic(&user.name, vhost, exchange, keys)).collect()
}

/// The virtual host and the user of the path.
fn existing(context: &Context, request: &Request) -> Result<(String, Arc<User>), ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let user = context.broker().users.find(request.param("user")).ok_or_else(ApiError::not_found)?;
    Ok((vhost.name.to_string(), user))
}

fn neither() -> ApiError {
    ApiError::bad_request("vhost_or_user_not_found")
}
