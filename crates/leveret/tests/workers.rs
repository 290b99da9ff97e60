//! Workers come and go: dropped, drained, dying of a request, wrapped in layers.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as Poller, Poll};
use std::time::Duration;

use leveret::{Answer, CallError, Code, Context, Failure, FieldValue, Request};
use support::{PATIENCE, Site};
use tower_layer::Layer;
use tower_service::Service;

fn hang() -> impl leveret::Handler {
    leveret::handler(|_, _: i64| async {
        std::future::pending::<()>().await;
        Ok::<i64, Failure>(0)
    })
}

fn echo() -> impl leveret::Handler {
    leveret::handler(|_, n: i64| async move { Ok::<_, Failure>(n) })
}

#[tokio::test]
async fn a_dropped_worker_leaves_its_requests_to_others() {
    let site = Site::new();
    let client = site.client().await;
    let hanging = site.serve(&client, "left", hang()).start().await.unwrap();
    let call = client.call::<_, i64>(&site.name("left"), &5).timeout(PATIENCE);
    let call = tokio::spawn(call.into_future());
    while hanging.stats().requests == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(hanging);
    let worker = site.serve(&client, "left", echo()).start().await.unwrap();
    assert_eq!(call.await.unwrap().unwrap(), 5);
    // The dropped one must not take anything any more, although its connection lives on.
    for n in 0..50 {
        assert_eq!(client.call::<_, i64>(&site.name("left"), &n).timeout(PATIENCE).await.unwrap(), n);
    }
    worker.drain().await;
}

#[tokio::test]
async fn a_request_that_kills_its_workers_is_parked_and_answered() {
    let site = Site::new();
    let client = site.client().await;
    let service = site.name("deadly");
    let call = client.call::<_, i64>(&service, &13).timeout(PATIENCE);
    let first = site.serve(&client, "deadly", hang()).delivery_limit(3).start().await.unwrap();
    let call = tokio::spawn(call.into_future());
    let mut worker = first;
    let mut deaths = 0;
    while worker.stats().parked == 0 {
        if worker.stats().requests > 0 {
            deaths += 1;
            drop(worker); // as a crash does it: nothing is acknowledged
            worker = site.serve(&client, "deadly", hang()).delivery_limit(3).start().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(deaths, 3);
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(error.remote().map(|failure| failure.code), Some(Code::Aborted), "{error:?}");
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    let parked = channel.get(&format!("{service}.parked"), true).await.unwrap().unwrap();
    let headers = parked.properties().headers().unwrap();
    let reason = headers.find("rpc-parked-reason");
    let reason = reason.as_ref().and_then(FieldValue::as_str).unwrap_or_default();
    assert!(reason.starts_with("delivery_limit"), "{reason}");
    worker.drain().await;
}

/// A layer as tower's own are: it counts, and lets nobody pass who brings no name.
#[derive(Clone)]
struct Doorman(Arc<AtomicUsize>);

#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    seen: Arc<AtomicUsize>,
}

impl<S> Layer<S> for Doorman {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, seen: self.0.clone() }
    }
}

impl<S> Service<Request> for Guarded<S>
where
    S: Service<Request, Response = Answer, Error = Failure, Future: Send + 'static>,
{
    type Response = Answer;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Poller<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.seen.fetch_add(1, Ordering::SeqCst);
        if request.cx.header("name").is_none() {
            let refusal = Failure::new(Code::Unauthenticated, "who are you?");
            return Box::pin(async move { Err(refusal.into()) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?) })
    }
}

#[tokio::test]
async fn tower_layers_fit_around_a_handler() {
    let site = Site::new();
    let client = site.client().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let greeting = leveret::handler(|cx: Context, ()| async move {
        Ok::<_, Failure>(cx.header("name").and_then(FieldValue::as_str).map(str::to_owned))
    });
    let service = site.name("guarded");
    let worker = site.serve(&client, "guarded", greeting).layer(Doorman(seen.clone())).start().await.unwrap();
    let name: Option<String> = client.call(&service, &()).header("name", "Ada").await.unwrap();
    assert_eq!(name.as_deref(), Some("Ada"));
    let error = client.call::<_, ()>(&service, &()).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Remote(failure) if failure.code == Code::Unauthenticated),
        "{error:?}"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    worker.drain().await;
}

#[tokio::test]
async fn a_blocking_handler_holds_up_nobody() {
    let site = Site::new();
    let client = site.client().await;
    let sleep = leveret::blocking(|_, ms: u64| {
        std::thread::sleep(Duration::from_millis(ms));
        Ok::<_, Failure>(ms)
    });
    let service = site.name("sleep");
    let worker = site.serve(&client, "sleep", sleep).start().await.unwrap();
    let slow = tokio::spawn(client.call::<_, u64>(&service, &400).into_future());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let quick =
        tokio::time::timeout(Duration::from_millis(300), client.call::<_, u64>(&service, &1).into_future());
    assert_eq!(quick.await.expect("not behind the slow one").unwrap(), 1);
    assert_eq!(slow.await.unwrap().unwrap(), 400);
    worker.drain().await;
}

/// On RabbitMQ only quorum queues tell; see docs/features/toolkit.md.
#[tokio::test]
async fn a_request_whose_worker_died_is_not_said_to_have_not_run() {
    let client = leveret::Client::connect("embedded:").await.unwrap();
    let worker = client.serve("mortal", hang()).start().await.unwrap();
    let call = client.call::<_, i64>("mortal", &1).timeout(Duration::from_millis(400));
    let call = tokio::spawn(call.into_future());
    while worker.stats().requests == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(worker);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Expired { ran: leveret::Ran::Maybe, .. }), "{error:?}");
}
