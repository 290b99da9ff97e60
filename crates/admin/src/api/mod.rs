//! The resources of the API: one file each, with its routes and their handlers.

mod aliveness;
mod attempts;
mod binding_changes;
mod bindings;
mod channels;
mod connections;
mod consumers;
mod definitions;
mod exchange_changes;
mod exchanges;
mod feature_flags;
mod federation_links;
mod health;
mod health_checks;
mod limits;
mod logs;
mod messages;
mod metrics;
mod nodes;
mod openapi;
mod overview;
pub(crate) mod parameters;
pub(crate) mod permissions;
pub(crate) mod policies;
mod queue_actions;
mod queue_changes;
mod queues;
mod service_call;
mod services;
mod shovels;
pub(crate) mod users;
pub(crate) mod vhost_changes;
mod vhosts;
mod whoami;

use crate::route::Route;

/// The tables of all files.
pub(crate) const ROUTES: &[&[Route]] = &[
    crate::console::ROUTES,
    aliveness::ROUTES,
    attempts::ROUTES,
    binding_changes::ROUTES,
    bindings::ROUTES,
    channels::ROUTES,
    connections::ROUTES,
    consumers::ROUTES,
    definitions::ROUTES,
    exchange_changes::ROUTES,
    exchanges::ROUTES,
    feature_flags::ROUTES,
    federation_links::ROUTES,
    health::ROUTES,
    health_checks::ROUTES,
    limits::ROUTES,
    logs::ROUTES,
    messages::ROUTES,
    metrics::ROUTES,
    nodes::ROUTES,
    openapi::ROUTES,
    overview::ROUTES,
    parameters::ROUTES,
    permissions::ROUTES,
    policies::ROUTES,
    queue_actions::ROUTES,
    queue_changes::ROUTES,
    queues::ROUTES,
    service_call::ROUTES,
    services::ROUTES,
    shovels::ROUTES,
    users::ROUTES,
    vhost_changes::ROUTES,
    vhosts::ROUTES,
    whoami::ROUTES,
];
