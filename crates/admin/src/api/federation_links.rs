//! Links of federation: what they are doing. Policies and parameters set them up.

use serde_json::{Value, json};

use super::channels;
use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::federation::LinkStatus;
use crate::listing;
use crate::moment;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/federation-links",
        access: Access::Monitoring,
        about: "All federation links and what they are doing",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/federation-links/state/down",
        access: Access::Monitoring,
        about: "The federation links that do not work",
        handler: list_down,
    },
    Route {
        method: Method::GET,
        path: "/api/federation-links/{vhost}",
        access: Access::Monitoring,
        about: "The federation links of a virtual host",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/federation-links/{vhost}/state/down",
        access: Access::Monitoring,
        about: "The federation links of a virtual host that do not work",
        handler: list_down,
    },
    Route {
        method: Method::DELETE,
        path: "/api/federation-links/vhost/{vhost}/{id}/{node}/restart",
        access: Access::PolicyMaking,
        about: "Starts a federation link anew",
        handler: restart,
    },
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    shown(context, request, |_| true)
}

fn list_down(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    shown(context, request, |link| link.state == "error")
}

fn shown(
    context: &Context,
    request: &Request,
    fits: impl Fn(&LinkStatus) -> bool,
) -> Result<Answer, ApiError> {
    let vhost = request.param_if("vhost");
    vhost.map(|vhost| context.vhost(vhost)).transpose()?;
    let mut links = context.host.federation_links().list();
    links.retain(|link| fits(link) && vhost.is_none_or(|vhost| link.vhost == vhost));
    listing::answer(request, links.into_iter().map(|link| described(context, request, link)).collect())
}

fn restart(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let is_here = request.param("node") == context.host.node_name();
    match is_here && context.host.federation_links().restart(request.param("vhost"), request.param("id")) {
        true => Ok(Answer::no_content()),
        false => Err(ApiError::not_found()),
    }
}

fn described(context: &Context, request: &Request, link: LinkStatus) -> Value {
    let mut described = json!({
        "node": context.host.node_name(),
        (link.kind): link.name,
        (format!("upstream_{}", link.kind)): link.upstream_name,
        "type": link.kind,
        "vhost": link.vhost,
        "upstream": link.upstream,
        "id": link.id,
        "status": link.state,
        "uri": link.uri,
        "timestamp": moment::in_seconds(link.since_s),
    });
    if let Some(tag) = link.consumer_tag {
        described["consumer_tag"] = json!(tag);
    }
    if let Some(error) = link.error {
        described["error"] = json!(error);
    }
    if let Some(connection) = link.local_connection {
        if let Some(channel) = channels::only_channel_of(context, request, &connection) {
            described["local_channel"] = channel;
        }
        described["local_connection"] = json!(connection);
    }
    described
}
