//! Plain functions as services.
//!
//! Every handler is a [`tower_service::Service`] from [`Request`] to [`Answer`], so that any tower layer fits around it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_service::Service;

use crate::{Answer, Code, Context, Failure, IntoFailure, Request, content};

/// The future of every handler of this crate.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// A function as a service; made by [`handler`], [`blocking`] and [`raw`].
pub struct HandlerFn<F>(Arc<F>);

impl<F> Clone for HandlerFn<F> {
    fn clone(&self) -> Self {
        HandlerFn(self.0.clone())
    }
}

impl<F: Fn(Request) -> HandlerFuture> Service<Request> for HandlerFn<F> {
    type Response = Answer;
    type Error = Failure;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> HandlerFuture {
        (self.0)(request)
    }
}

/// Serves with a function: the body decodes into its argument, what it returns is the answer, in the
/// format of the request.
///
/// ```
/// use leveret::{Context, Failure};
///
/// let service = leveret::handler(|_cx: Context, n: u64| async move {
///     n.checked_mul(n).ok_or_else(|| Failure::invalid_argument("too large"))
/// });
/// # let _ = service;
/// ```
pub fn handler<F, Q, R, E, Fut>(f: F) -> HandlerFn<impl Fn(Request) -> HandlerFuture + Send + Sync + 'static>
where
    F: Fn(Context, Q) -> Fut + Send + Sync + 'static,
    Q: DeserializeOwned + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Serialize + 'static,
    E: IntoFailure + 'static,
{
    HandlerFn(Arc::new(move |request: Request| -> HandlerFuture {
        let query = match decode(&request) {
            Ok(query) => query,
            Err(failure) => return Box::pin(std::future::ready(Err(failure))),
        };
        let format = request.cx.format();
        let work = f(request.cx, query);
        Box::pin(async move { Answer::encode(&work.await.map_err(E::into_failure)?, format) })
    }))
}

/// Serves with a function that computes for long or waits for something without `async`: it runs on the
/// runtime's pool for such work and holds up nobody else.
///
/// It cannot be stopped half way: a cancelled request is answered at once, its work runs to its end unheard.
pub fn blocking<F, Q, R, E>(f: F) -> HandlerFn<impl Fn(Request) -> HandlerFuture + Send + Sync + 'static>
where
    F: Fn(Context, Q) -> Result<R, E> + Send + Sync + 'static,
    Q: DeserializeOwned + 'static,
    R: Serialize + 'static,
    E: IntoFailure + 'static,
{
    let f = Arc::new(f);
    HandlerFn(Arc::new(move |request: Request| -> HandlerFuture {
        let f = f.clone();
        let work = tokio::task::spawn_blocking(move || {
            let format = request.cx.format();
            let answer = f(request.cx.clone(), decode(&request)?).map_err(E::into_failure)?;
            Answer::encode(&answer, format)
        });
        Box::pin(async move { work.await.unwrap_or_else(|_| Err(Failure::internal("the handler panicked"))) })
    }))
}

/// Serves with a function of the [`Request`] itself.
pub fn raw<F, Fut>(f: F) -> HandlerFn<impl Fn(Request) -> HandlerFuture + Send + Sync + 'static>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, Failure>> + Send + 'static,
{
    HandlerFn(Arc::new(move |request: Request| -> HandlerFuture { Box::pin(f(request)) }))
}

fn decode<Q: DeserializeOwned>(request: &Request) -> Result<Q, Failure> {
    content::decode(&request.payload)
        .map_err(|error| Failure::new(Code::InvalidArgument, format!("the request does not decode: {error}")))
}
