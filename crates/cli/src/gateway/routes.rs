//! What the gateway answers to, as one table.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use leveret::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::Access;
use super::allow::Allow;
use super::deadline::Patience;
use super::problem::Problem;
use super::{call, discover, gather, health, task};

/// What every request needs.
pub(super) struct Gateway {
    pub(super) client: Client,
    pub(super) access: Access,
    pub(super) allow: Allow,
    pub(super) patience: Patience,
    pub(super) body_max_bytes: usize,
    /// One permit per request that the gateway works on.
    pub(super) running: Arc<Semaphore>,
}

/// A path and what answers to it. `{…}` is one percent-encoded part.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    answer: fn(MethodFilter) -> MethodRouter<Arc<Gateway>>,
}

/// Paths that need no token and never wait: a supervisor asks them.
const HEALTH: &str = "/health/";

pub(super) const ROUTES: &[Route] = &[
    Route { method: Method::POST, path: "/call/{service}", answer: |by| on(by, call::answer) },
    Route { method: Method::POST, path: "/call/{service}/{method}", answer: |by| on(by, call::answer) },
    Route { method: Method::POST, path: "/task/{service}", answer: |by| on(by, task::answer) },
    Route { method: Method::POST, path: "/task/{service}/{method}", answer: |by| on(by, task::answer) },
    Route { method: Method::POST, path: "/gather/{exchange}/{key}", answer: |by| on(by, gather::answer) },
    Route { method: Method::GET, path: "/services", answer: |by| on(by, discover::services) },
    Route { method: Method::GET, path: "/openapi.json", answer: |by| on(by, discover::openapi) },
    Route { method: Method::GET, path: "/health/live", answer: |by| on(by, health::live) },
    Route { method: Method::GET, path: "/health/ready", answer: |by| on(by, health::ready) },
];

impl Gateway {
    /// Room for one more request; given back when it is dropped.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.running.clone().try_acquire_owned().map_err(|_| Problem::too_many_requests_at_once())
    }

    /// Whether this service may be called.
    pub(super) fn may_call(&self, service: &str) -> Result<(), Problem> {
        match self.allow.service(service) {
            true => Ok(()),
            false => Err(Problem::forbidden("this gateway does not call that service (--allow)")),
        }
    }

    /// Whether this exchange may be asked with this key.
    pub(super) fn may_ask(&self, exchange: &str, key: &str) -> Result<(), Problem> {
        match self.allow.exchange(exchange, key) {
            true => Ok(()),
            false => Err(Problem::forbidden("this gateway does not ask that exchange and key (--allow)")),
        }
    }
}

/// The table as a service.
pub(super) fn router(gateway: Arc<Gateway>) -> Router {
    let table = ROUTES.iter().fold(Router::new(), |router, route| {
        let by = if route.method == Method::GET { MethodFilter::GET } else { MethodFilter::POST };
        router.route(route.path, (route.answer)(by))
    });
    // Of the routes so far, hence last.
    let table = table.method_not_allowed_fallback(wrong_method).fallback(no_such_path);
    table.layer(from_fn_with_state(gateway.clone(), guard)).with_state(gateway)
}

/// Nobody learns what there is without being let in.
async fn guard(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let (method, uri, came) = (request.method().clone(), request.uri().clone(), Instant::now());
    let answer = match gateway.access.check(request.headers()) {
        Err(problem) if !uri.path().starts_with(HEALTH) => problem.into_response(),
        _ => next.run(request).await,
    };
    tracing::info!(%method, path = uri.path(), status = answer.status().as_u16(), after = ?came.elapsed());
    answer
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::no_such_path(&cut(uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::wrong_method(&cut(method.as_str()), &cut(uri.path()))
}

/// An error need not repeat everything that a stranger sent.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
