//! Users.

use leveret_broker::users::{PasswordHash, User, UserError};
use leveret_broker::{Broker, Refusal};
use serde_json::{Value, json};

use super::permissions::{described as permission, described_topic as topic_permission};
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::listing;
use crate::request::Request;
use crate::route::{Method, Route};
use crate::table_json;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/users",
        access: Access::Administration,
        about: "All users",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/users/without-permissions",
        access: Access::Administration,
        about: "The users that may enter no virtual host",
        handler: without_permissions,
    },
    Route {
        method: Method::POST,
        path: "/api/users/bulk-delete",
        access: Access::Administration,
        about: "Deletes users: all of them, or none if one does not exist",
        handler: bulk_delete,
    },
    Route {
        method: Method::GET,
        path: "/api/users/{user}",
        access: Access::Administration,
        about: "A user",
        handler: one,
    },
    Route {
        method: Method::PUT,
        path: "/api/users/{user}",
        access: Access::Administration,
        about: "Adds a user, or replaces its password and tags",
        handler: put,
    },
    Route {
        method: Method::DELETE,
        path: "/api/users/{user}",
        access: Access::Administration,
        about: "Deletes a user",
        handler: delete,
    },
    Route {
        method: Method::GET,
        path: "/api/users/{user}/permissions",
        access: Access::Administration,
        about: "What a user may do, by virtual host",
        handler: permissions,
    },
    Route {
        method: Method::GET,
        path: "/api/users/{user}/topic-permissions",
        access: Access::Administration,
        about: "Which routing keys a user may use, by virtual host and exchange",
        handler: topic_permissions,
    },
    Route {
        method: Method::GET,
        path: "/api/auth/hash_password/{password}",
        access: Access::Administration,
        about: "Hashes a password the way RabbitMQ does, for definitions and `password_hash`",
        handler: hash_password,
    },
];

/// How a user shall log in.
#[derive(Debug)]
pub(crate) enum NewPassword {
    /// By a password, which is hashed here.
    Plain(String),
    /// By the password that has this hash.
    Hashed(PasswordHash),
    /// By no password.
    None,
}

impl NewPassword {
    /// Reads `password`, or `password_hash` with `hashing_algorithm`.
    ///
    /// # Errors
    /// 400: both are there, or the hash is none.
    pub(crate) fn of(fields: &Fields) -> Result<NewPassword, ApiError> {
        let (password, hash) = (fields.text_if("password")?, fields.text_if("password_hash")?);
        match (password, hash) {
            (Some(_), Some(_)) => Err(ApiError::bad_request("both_password_and_password_hash_are_provided")),
            (Some(password), None) => Ok(NewPassword::Plain(password.to_owned())),
            (None, Some(hash)) => {
                let algorithm = fields.text_if("hashing_algorithm")?.unwrap_or(DEFAULT_ALGORITHM);
                let hash = PasswordHash::import(hash, algorithm).map_err(UserError::Password)?;
                Ok(NewPassword::Hashed(hash))
            }
            (None, None) => Ok(NewPassword::None),
        }
    }

    /// Slow for a plain password.
    pub(crate) fn hash(self) -> Result<PasswordHash, ApiError> {
        match self {
            NewPassword::Plain(password) if password.is_empty() => Ok(PasswordHash::absent()),
            NewPassword::Plain(password) => {
                Ok(PasswordHash::new(password.as_bytes()).map_err(UserError::Password)?)
            }
            NewPassword::Hashed(hash) => Ok(hash),
            NewPassword::None => Ok(PasswordHash::absent()),
        }
    }
}

/// What a hash is made by where nothing is said.
const DEFAULT_ALGORITHM: &str = "rabbit_password_hashing_sha256";

/// Reads `tags`: a list, or names with commas between them. `administrator: true` is an old spelling.
///
/// # Errors
/// 400: there are none, not even an empty list.
pub(crate) fn tags(fields: &Fields) -> Result<Vec<String>, ApiError> {
    match fields.value("tags") {
        None if fields.has("administrator") => match fields.flag("administrator")? {
            true => Ok(vec!["administrator".to_owned()]),
            false => Ok(Vec::new()),
        },
        None => Err(ApiError::bad_request("tags_not_present")),
        Some(Value::String(text)) => Ok(split(text)),
        Some(Value::Array(tags)) => {
            let text = |tag: &Value| {
                tag.as_str().map(str::to_owned).ok_or_else(|| ApiError::bad_request("tags must be texts"))
            };
            tags.iter().map(text).collect()
        }
        Some(_) => Err(ApiError::bad_request("tags must be a list, or text with commas")),
    }
}

pub(crate) fn split(tags: &str) -> Vec<String> {
    tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let broker = context.broker();
    listing::answer(request, broker.users.list().iter().map(|user| described(broker, user)).collect())
}

fn without_permissions(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let broker = context.broker();
    let mut users = broker.users.list();
    users.retain(|user| user.all_permissions().next().is_none());
    listing::answer(request, users.iter().map(|user| described(broker, user)).collect())
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let user = existing(context, request)?;
    Ok(listing::one(request, described(context.broker(), &user)))
}

fn put(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    let tags = tags(&fields)?;
    let password = NewPassword::of(&fields)?.hash()?;
    let name = request.param("user");
    let is_new = context.broker().users.put(name, password, tags)?;
    context.broker().save_user(name)?;
    Ok(Answer::created_or_changed(is_new))
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let name = request.param("user");
    if !context.broker().users.delete(name) {
        return Err(ApiError::not_found());
    }
    context.broker().save_user(name)?;
    Ok(Answer::no_content())
}

fn bulk_delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    fields.require(&["users"])?;
    let names = fields.value("users").and_then(Value::as_array);
    let names = names.and_then(|names| names.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    let names = names.ok_or_else(|| ApiError::bad_request("users must be a list of names"))?;
    let users = &context.broker().users;
    if let Some(missing) = names.iter().find(|name| users.find(name).is_none()) {
        return Err(ApiError::bad_request(format!("no_such_user: {missing}")));
    }
    let save = |name: &&str| match users.delete(name) {
        true => context.broker().save_user(name),
        false => Ok(()),
    };
    names.iter().try_for_each(save).map_err(|refusal: Refusal| ApiError::from(refusal))?;
    Ok(Answer::no_content())
}

fn permissions(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let user = existing(context, request)?;
    let of = user.all_permissions();
    listing::answer(request, of.map(|(vhost, allowed)| permission(&user.name, vhost, allowed)).collect())
}

fn topic_permissions(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let user = existing(context, request)?;
    let of = user.all_topic_permissions();
    let described = of.map(|(vhost, exchange, keys)| topic_permission(&user.name, vhost, exchange, keys));
    listing::answer(request, described.collect())
}

fn hash_password(_context: &Context, request: &Request) -> Result<Answer, ApiError> {
    // The kind of hash that RabbitMQ's tools expect; it is replaced at the first login with it.
    let hash = PasswordHash::new_public(request.param("password").as_bytes()).map_err(UserError::Password)?;
    Ok(Answer::json(&json!({ "ok": hash.export().0 })))
}

fn existing(context: &Context, request: &Request) -> Result<std::sync::Arc<User>, ApiError> {
    context.broker().users.find(request.param("user")).ok_or_else(ApiError::not_found)
}

/// A user as it is listed, and as it is in definitions.
pub(crate) fn described(broker: &Broker, user: &User) -> Value {
    let (hash, algorithm) =
        broker.users.password_hash(&user.name).unwrap_or_else(PasswordHash::absent).export();
    json!({
        "name": user.name,
        "password_hash": hash,
        "hashing_algorithm": algorithm,
        "tags": user.tags,
        "limits": table_json::object(&broker.user_limits(&user.name).definition()),
    })
}
