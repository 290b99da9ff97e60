//! The resources of the API: one file each, with its routes and their handlers.

mod health;
mod logs;
mod vhosts;
mod whoami;

use crate::route::Route;

/// The tables of all files.
pub(crate) const ROUTES: &[&[Route]] =
    &[crate::console::ROUTES, health::ROUTES, logs::ROUTES, vhosts::ROUTES, whoami::ROUTES];
