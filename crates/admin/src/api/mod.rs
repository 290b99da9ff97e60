//! The resources of the API: one file each, with its routes and their handlers.

mod binding_changes;
mod exchange_changes;
mod health;
mod limits;
mod logs;
mod messages;
mod parameters;
mod permissions;
mod policies;
mod queue_changes;
mod users;
mod vhost_changes;
mod vhosts;
mod whoami;

use crate::route::Route;

/// The tables of all files.
pub(crate) const ROUTES: &[&[Route]] = &[
    crate::console::ROUTES,
    binding_changes::ROUTES,
    exchange_changes::ROUTES,
    health::ROUTES,
    limits::ROUTES,
    logs::ROUTES,
    messages::ROUTES,
    parameters::ROUTES,
    permissions::ROUTES,
    policies::ROUTES,
    queue_changes::ROUTES,
    users::ROUTES,
    vhost_changes::ROUTES,
    vhosts::ROUTES,
    whoami::ROUTES,
];
