//! The real binary, as a user or a script runs it.

#![allow(clippy::unwrap_used)] // tests may, helpers of tests included

mod api;
mod api_bodies;
mod bench;
mod browsers;
mod ctl;
mod definitions;
mod demo;
mod gateway;
mod http;
mod http_authorization;
mod messages;
mod metrics;
mod migrate;
mod panics;
mod program;
mod queue_actions;
mod running;
mod secrets;
mod serve;
mod streams;
mod work;
