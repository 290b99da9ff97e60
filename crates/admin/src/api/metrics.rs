//! Metrics for Prometheus, as text or, if the scraper says that it takes it, as OpenMetrics.

use axum::http::header::ACCEPT;

use crate::access::Access;
use crate::answer::Answer;
use crate::context::Context;
use crate::error::ApiError;
use crate::metrics::{self, Format};
use crate::request::Request;
use crate::route::{Method, Route};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: Method::GET,
        path: "/metrics",
        access: Access::Scraping,
        about: "Metrics, summed over objects, for Prometheus",
        handler: |context, request| answer(request, |format| metrics::aggregated(context, format)),
    },
    Route {
        method: Method::GET,
        path: "/metrics/per-object",
        access: Access::Scraping,
        about: "Metrics of each queue, channel and connection",
        handler: |context, request| answer(request, |format| metrics::per_object(context, format)),
    },
    Route {
        method: Method::GET,
        path: "/metrics/detailed",
        access: Access::Scraping,
        about: "The metrics of the families that are asked for",
        handler: detailed,
    },
    Route {
        method: Method::GET,
        path: "/metrics/memory-breakdown",
        access: Access::Scraping,
        about: "What memory is used for",
        handler: |context, request| answer(request, |format| metrics::memory(context, format)),
    },
];

fn detailed(context: &Context, request: &Request) -> Result<Answer, ApiError> {
    let (families, vhosts) = (request.queries("family"), request.queries("vhost"));
    answer(request, |format| metrics::detailed(context, &families, &vhosts, format))
}

fn answer(request: &Request, write: impl FnOnce(Format) -> Vec<u8>) -> Result<Answer, ApiError> {
    let format = Format::accepted(request.header(&ACCEPT).unwrap_or_default());
    Ok(Answer::octets(format.content_type(), write(format)))
}
