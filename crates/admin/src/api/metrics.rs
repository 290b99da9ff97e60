//! Metrics for Prometheus. With a login here, whose user needs the tag `monitoring`.

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::metrics;
use crate::request::Request;
use crate::route::{Method, Route};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/metrics",
        access: Access::Monitoring,
        about: "Metrics, summed over objects, for Prometheus",
        handler: |context, _| answer(metrics::aggregated(context)),
    },
    Route {
        method: Method::GET,
        path: "/metrics/per-object",
        access: Access::Monitoring,
        about: "Metrics of each queue, channel and connection",
        handler: |context, _| answer(metrics::per_object(context)),
    },
    Route {
        method: Method::GET,
        path: "/metrics/detailed",
        access: Access::Monitoring,
        about: "The metrics of the families that are asked for",
        handler: detailed,
    },
    Route {
        method: Method::GET,
        path: "/metrics/memory-breakdown",
        access: Access::Monitoring,
        about: "What memory is used for",
        handler: |context, _| answer(metrics::memory(context)),
    },
];

fn detailed(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    answer(metrics::detailed(context, &request.queries("family"), &request.queries("vhost")))
}

fn answer(text: Vec<u8>) -> Result<Answer, ApiError> {
    Ok(Answer::octets(CONTENT_TYPE, text))
}
