//! Plain functions as services.
//!
//! Every handler is a [`tower_service::Service`] from [`Request`] to [`Answer`], so that any tower layer fits around it.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_service::Service;

use crate::{Answer, Code, Context, Failure, IntoFailure, Request, content};

/// The future of every handler of this crate.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

/// A typed function as a service; made by [`handler`].
pub struct HandlerFn<F, Q>(Arc<F>, PhantomData<fn(Q)>);

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
pub fn handler<F, Q, R, E, Fut>(f: F) -> HandlerFn<F, Q>
where
    F: Fn(Context, Q) -> Fut + Send + Sync + 'static,
    Q: DeserializeOwned,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Serialize,
    E: IntoFailure,
{
    HandlerFn(Arc::new(f), PhantomData)
}

impl<F, Q> Clone for HandlerFn<F, Q> {
    fn clone(&self) -> Self {
        HandlerFn(self.0.clone(), PhantomData)
    }
}

impl<F, Q, R, E, Fut> Service<Request> for HandlerFn<F, Q>
where
    F: Fn(Context, Q) -> Fut + Send + Sync + 'static,
    Q: DeserializeOwned,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Serialize,
    E: IntoFailure,
{
    type Response = Answer;
    type Error = Failure;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> HandlerFuture {
        let query = match decode(&request) {
            Ok(query) => query,
            Err(failure) => return Box::pin(std::future::ready(Err(failure))),
        };
        let format = request.cx.format();
        let work = (self.0)(request.cx, query);
        Box::pin(async move { Answer::encode(&work.await.map_err(E::into_failure)?, format) })
    }
}

/// A function that blocks as a service; made by [`blocking`].
pub struct BlockingFn<F, Q>(Arc<F>, PhantomData<fn(Q)>);

/// Serves with a function that computes for long or waits for something without `async`: it runs on the
/// runtime's pool for such work and holds up nobody else.
///
/// It cannot be stopped half way: a cancelled request is answered at once, its work runs to its end unheard.
pub fn blocking<F, Q, R, E>(f: F) -> BlockingFn<F, Q>
where
    F: Fn(Context, Q) -> Result<R, E> + Send + Sync + 'static,
    Q: DeserializeOwned + Send + 'static,
    R: Serialize,
    E: IntoFailure,
{
    BlockingFn(Arc::new(f), PhantomData)
}

impl<F, Q> Clone for BlockingFn<F, Q> {
    fn clone(&self) -> Self {
        BlockingFn(self.0.clone(), PhantomData)
    }
}

impl<F, Q, R, E> Service<Request> for BlockingFn<F, Q>
where
    F: Fn(Context, Q) -> Result<R, E> + Send + Sync + 'static,
    Q: DeserializeOwned + Send + 'static,
    R: Serialize,
    E: IntoFailure,
{
    type Response = Answer;
    type Error = Failure;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> HandlerFuture {
        let f = self.0.clone();
        let work = tokio::task::spawn_blocking(move || {
            let format = request.cx.format();
            let answer = f(request.cx.clone(), decode(&request)?).map_err(E::into_failure)?;
            Answer::encode(&answer, format)
        });
        Box::pin(async move { work.await.unwrap_or_else(|_| Err(Failure::internal("the handler panicked"))) })
    }
}

/// An untyped function as a service; made by [`raw`].
pub struct RawFn<F>(Arc<F>);

/// Serves with a function of the [`Request`] itself.
pub fn raw<F, Fut>(f: F) -> RawFn<F>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, Failure>> + Send + 'static,
{
    RawFn(Arc::new(f))
}

impl<F> Clone for RawFn<F> {
    fn clone(&self) -> Self {
        RawFn(self.0.clone())
    }
}

impl<F, Fut> Service<Request> for RawFn<F>
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, Failure>> + Send + 'static,
{
    type Response = Answer;
    type Error = Failure;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> HandlerFuture {
        Box::pin((self.0)(request))
    }
}

fn decode<Q: DeserializeOwned>(request: &Request) -> Result<Q, Failure> {
    content::decode(&request.payload)
        .map_err(|error| Failure::new(Code::InvalidArgument, format!("the request does not decode: {error}")))
}
