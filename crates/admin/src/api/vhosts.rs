//! Virtual hosts.

use leveret_broker::authority::{Right, authorize};
use leveret_broker::vhost::VHost;
use serde_json::{Value, json};

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::listing;
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/api/vhosts",
        access: Access::Management,
        about: "The virtual hosts that the caller may see",
        handler: list,
    },
    Route {
        method: Method::GET,
        path: "/api/vhosts/{vhost}",
        access: Access::VHostSight,
        about: "A virtual host",
        handler: one,
    },
];

fn list(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let caller = request.caller()?;
    let mut vhosts = context.broker().vhosts();
    vhosts.retain(|vhost| authorize(&caller, Right::See(&vhost.name)).is_ok());
    vhosts.sort_by(|a, b| a.name.cmp(&b.name));
    listing::answer(request, vhosts.iter().map(|vhost| described(vhost)).collect())
}

fn one(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    Ok(listing::one(request, described(&*context.vhost(request.param("vhost"))?)))
}

fn described(vhost: &VHost) -> Value {
    json!({ "name": &*vhost.name, "tracing": false })
}
