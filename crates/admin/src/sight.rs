//! What a caller may see of what there is.

use std::sync::Arc;

use leveret_broker::authority::{Right, authorize};
use leveret_broker::roster::ConnectionRecord;
use leveret_broker::users::User;
use leveret_broker::vhost::VHost;

use crate::context::Context;
use crate::error::ApiError;
use crate::request::Request;

/// The virtual hosts that the caller may see, by name; only that of the path, if it names one.
///
/// # Errors
/// 404: the path names one that does not exist.
pub(crate) fn vhosts(context: &Context, request: &Request) -> Result<Vec<Arc<VHost>>, ApiError> {
    if let Some(name) = request.param_if("vhost") {
        return Ok(vec![context.vhost(name)?]);
    }
    let caller = request.caller()?;
    let mut vhosts = context.broker().vhosts();
    vhosts.retain(|vhost| authorize(&caller, Right::See(&vhost.name)).is_ok());
    vhosts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(vhosts)
}

/// Whether somebody sees everything.
pub(crate) fn sees_all(user: &User) -> bool {
    authorize(user, Right::Monitoring).is_ok()
}

/// The connections that the caller may see: all, or their own.
pub(crate) fn connections(
    context: &Context,
    request: &Request,
) -> Result<Vec<Arc<ConnectionRecord>>, ApiError> {
    let caller = request.caller()?;
    let mut connections = context.broker().connections();
    connections.retain(|connection| sees_connection(&caller, connection));
    if let Some(vhost) = request.param_if("vhost") {
        context.vhost(vhost)?;
        connections.retain(|connection| *connection.vhost == *vhost);
    }
    Ok(connections)
}

/// The connection of the path.
///
/// # Errors
/// 404: there is none; 401: it is somebody else's.
pub(crate) fn connection(context: &Context, request: &Request) -> Result<Arc<ConnectionRecord>, ApiError> {
    let connection = context.broker().connection_named(request.param("connection"));
    let connection = connection.ok_or_else(ApiError::not_found)?;
    match sees_connection(&*request.caller()?, &connection) {
        true => Ok(connection),
        false => Err(ApiError::not_authorised("User not authorised to access object")),
    }
}

/// Whether somebody sees a connection: their own, or any.
pub(crate) fn sees_connection(user: &User, connection: &ConnectionRecord) -> bool {
    *connection.user == *user.name || sees_all(user)
}
