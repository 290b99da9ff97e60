//! Adding, describing, protecting and deleting virtual hosts.

use leveret_broker::VHostMetadata;
use leveret_broker::users::Permissions;
use serde_json::Value;

use super::users::split;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::fields::Fields;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::PUT,
        path: "/api/vhosts/{vhost}",
        access: Access::Administration,
        about: "Adds a virtual host in which the caller may do everything, or replaces `description`, `tags` and `default_queue_type`",
        handler: put,
    },
    Route {
        method: Method::DELETE,
        path: "/api/vhosts/{vhost}",
        access: Access::Administration,
        about: "Deletes a virtual host with everything in it",
        handler: delete,
    },
    Route {
        method: Method::POST,
        path: "/api/vhosts/{vhost}/deletion/protection",
        access: Access::Administration,
        about: "Protects a virtual host from being deleted",
        handler: |context, request| protect(context, request, true),
    },
    Route {
        method: Method::DELETE,
        path: "/api/vhosts/{vhost}/deletion/protection",
        access: Access::Administration,
        about: "Lets a virtual host be deleted again",
        handler: |context, request| protect(context, request, false),
    },
    Route {
        method: Method::POST,
        path: "/api/vhosts/{vhost}/start/{node}",
        access: Access::Administration,
        about: "Nothing: a virtual host of one node is always started",
        handler: start,
    },
];

/// Reads what is said of a virtual host; what is not said stays as it was in `before`.
///
/// # Errors
/// 400: something has the wrong type.
pub(crate) fn read(fields: &Fields, before: VHostMetadata) -> Result<VHostMetadata, ApiError> {
    // RabbitMQ shows the same things here, too, and leaves out the description that is empty.
    let nested = match fields.value("metadata") {
        Some(Value::Object(nested)) => Fields::of_object(nested.clone()),
        _ => Fields::default(),
    };
    let text =
        |name: &str| Ok::<_, ApiError>(fields.text_if(name)?.or(nested.text_if(name)?).map(str::to_owned));
    let tags = match fields.value("tags").or(nested.value("tags")) {
        None | Some(Value::Null) => before.tags,
        Some(Value::String(tags)) => split(tags),
        Some(Value::Array(tags)) => {
            let tags = tags.iter().map(|tag| tag.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            tags.ok_or_else(|| ApiError::bad_request("tags must be texts"))?
        }
        Some(_) => return Err(ApiError::bad_request("tags must be a list, or text with commas")),
    };
    let queue_type = text("default_queue_type")?;
    Ok(VHostMetadata {
        description: text("description")?.unwrap_or(before.description),
        tags,
        default_queue_type: match queue_type.as_deref() {
            None => before.default_queue_type,
            // RabbitMQ's words for none.
            Some("undefined" | "") => None,
            Some(name) => Some(name.to_owned()),
        },
        is_protected: before.is_protected,
    })
}

fn put(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let fields = Fields::of_body(&request.body)?;
    // Tracing is not offered; a RabbitMQ tool may say that it wants none.
    fields.flag("tracing")?;
    let (broker, name) = (context.broker(), request.param("vhost"));
    let before = broker.vhost(name).map(|vhost| (*vhost.metadata()).clone());
    let is_new = before.is_none();
    let metadata = read(&fields, before.unwrap_or_default())?;
    metadata.check()?;
    if is_new {
        broker.add_vhost(name)?;
        let caller = &request.caller()?.name;
        broker.users.set_permissions(caller, name, Permissions::all())?;
        broker.save_user(caller)?;
    }
    broker.describe_vhost(name, metadata)?;
    Ok(Answer::created_or_changed(is_new))
}

fn delete(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let mut batch = context.batch();
    let deleted = context.broker().delete_vhost(request.param("vhost"), &mut batch);
    context.finish(&mut batch);
    deleted?;
    Ok(Answer::no_content())
}

fn protect(context: &Context, request: &Request, is_protected: bool) -> Result<Answer, ApiError> {
    let vhost = context.vhost(request.param("vhost"))?;
    let metadata = VHostMetadata { is_protected, ..(*vhost.metadata()).clone() };
    context.broker().describe_vhost(&vhost.name, metadata)?;
    Ok(Answer::no_content())
}

fn start(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    context.vhost(request.param("vhost"))?;
    Ok(Answer::no_content())
}
