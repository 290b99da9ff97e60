//! Who gets in, who may do what, and when that ends.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod authorization;
mod external;
mod logins;
mod proxy;
mod replies;
mod revocation;
#[path = "../support/mod.rs"]
mod support;
