//! Connections that break, hosts that go away, workers that leave: who is told what, and how
//! everybody goes on.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leveret::{CallError, Client, Context, Failure, Handler, Ran};
use leveret_client::{Backoff, Consume, Flush, Publish, QueueDeclare};
use leveret_testkit::fault_proxy::FaultProxy;
use support::{AT_ONCE, LONG, PATIENCE, Site, Wire, slow, soon, square, start, until};

const QUICK: Backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(100) };

/// Comes back quickly.
fn quick() -> leveret::ClientBuilder {
    Client::builder().connection(|options| options.backoff(QUICK))
}

/// Knows within four seconds that nobody answers. A broker that the machine gives no time for as long is lost too.
fn listening() -> leveret::ClientBuilder {
    quick().connection(|options| options.heartbeat(Duration::from_secs(2)))
}

async fn proxied() -> (Wire, FaultProxy, Site) {
    let wire = Wire::start().await;
    let proxy = FaultProxy::start(wire.address(0)).unwrap();
    let site = wire.site(&[proxy.address()]);
    (wire, proxy, site)
}

async fn nine(client: &Client, service: &str) {
    let answer = client.call::<_, i64>(service, &3).timeout(PATIENCE).retries(10);
    assert_eq!(soon(answer.into_future()).await.unwrap(), 9);
}

/// Says how often it was begun.
fn counted(begun: &Arc<AtomicUsize>, time: Duration) -> impl Handler {
    let begun = begun.clone();
    leveret::handler(move |_: Context, n: i64| {
        begun.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::time::sleep(time).await;
            Ok::<_, Failure>(n * n)
        }
    })
}

#[tokio::test]
async fn a_caller_is_told_at_once_and_goes_on() {
    let (wire, proxy, site) = proxied().await;
    let (callers, workers) = (site.connect(quick()).await, wire.site(&[wire.address(0)]).client().await);
    let name = site.name("slow");
    let worker = workers.serve(&name, slow(LONG)).start().await.unwrap();
    let square = workers.serve(&site.name("square"), square()).start().await.unwrap();
    let call = start(callers.call::<_, ()>(&name, &()).timeout(LONG));
    until("the work began", || worker.stats().requests == 1).await;
    let cut = Instant::now();
    proxy.cut();
    let error = soon(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { may_have_run: true, .. }), "{error:?}");
    assert!(cut.elapsed() < AT_ONCE, "{:?}", cut.elapsed());
    nine(&callers, &site.name("square")).await;
    drop(worker);
    square.drain().await;
}

#[tokio::test]
async fn a_worker_that_loses_its_connection_gets_the_request_again() {
    let (wire, proxy, site) = proxied().await;
    let (workers, callers) = (site.connect(quick()).await, wire.site(&[wire.address(0)]).client().await);
    let begun = Arc::new(AtomicUsize::new(0));
    let worker =
        site.serve(&workers, "square", counted(&begun, Duration::from_millis(300))).start().await.unwrap();
    let call = start(callers.call::<_, i64>(&site.name("square"), &3).timeout(PATIENCE));
    until("the work began", || begun.load(Ordering::SeqCst) == 1).await;
    proxy.cut();
    assert_eq!(soon(call).await.unwrap().unwrap(), 9);
    worker.drain().await;
}

#[tokio::test]
async fn a_silent_broker_is_lost() {
    let (_wire, proxy, site) = proxied().await;
    let client = site.connect(listening()).await;
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    nine(&client, &site.name("square")).await;
    proxy.freeze();
    let frozen = Instant::now();
    let error = client.call::<_, i64>(&site.name("square"), &3).timeout(LONG).await;
    assert!(matches!(error, Err(CallError::ConnectionLost { .. })), "{error:?}");
    assert!(frozen.elapsed() < Duration::from_secs(4) + AT_ONCE, "{:?}", frozen.elapsed());
    proxy.cut();
    proxy.thaw();
    nine(&client, &site.name("square")).await;
    worker.drain().await;
}

#[tokio::test]
async fn the_next_host_is_taken() {
    let wire = Wire::start().await;
    let proxies = [0, 1].map(|node| FaultProxy::start(wire.address(node)).unwrap());
    let site = wire.site(&[proxies[0].address(), proxies[1].address()]);
    let client = site.connect(quick()).await;
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    for away in [0, 1, 0] {
        proxies[1 - away].refuse(false).await.unwrap();
        proxies[away].refuse(true).await.unwrap();
        proxies[away].cut();
        let asked = Instant::now();
        let outcome = loop {
            let call = client.call::<_, i64>(&site.name("square"), &3).retries(10);
            let outcome = soon(call.into_future()).await;
            // The worker of this very client may not be back yet.
            match &outcome {
                Err(error) if error.is_retryable() && asked.elapsed() < PATIENCE => {}
                _ => break outcome,
            }
        };
        assert_eq!(outcome.unwrap(), 9);
        assert!(proxies[1 - away].connections() > 0);
    }
    worker.drain().await;
}

#[tokio::test]
async fn a_late_answer_is_counted_and_disturbs_nobody() {
    let site = Site::new();
    let client = site.client().await;
    let service = site.name("late");
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    channel.declare_queue(&QueueDeclare::durable(&service)).await.unwrap();
    let mut requests = channel.consume(&Consume::queue(&service)).await.unwrap();
    // Long enough for the request to come here before it expires.
    let call = start(client.call::<_, i64>(&service, &7).timeout(Duration::from_secs(2)));
    let request = soon(requests.next()).await.unwrap();
    let error = soon(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Expired { ran: Ran::Maybe, .. }), "{error:?}");
    let reply_to = String::from_utf8(request.properties().reply_to().unwrap().to_vec()).unwrap();
    let mut properties = leveret::Properties::default();
    for correlation_id in [request.properties().correlation_id(), Some(b"nobody's"), None] {
        properties.correlation_id = correlation_id.map(<[u8]>::to_vec);
        let publish = Publish {
            exchange: "",
            routing_key: &reply_to,
            mandatory: true,
            properties: &properties,
            body: b"49",
            flush: Flush::Now,
        };
        channel.publish(&publish).await.unwrap();
    }
    request.ack();
    until("they are counted", || client.unclaimed_answers() == 3).await;
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    nine(&client, &site.name("square")).await;
    worker.drain().await;
}

#[tokio::test]
async fn direct_reply_to_serves_calls_without_a_queue() {
    let site = Site::new();
    let client = site.connect(Client::builder().direct_reply_to()).await;
    let service = site.name("square");
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    let calls: Vec<_> = (0..200).map(|n: i64| (n, start(client.call::<_, i64>(&service, &n)))).collect();
    for (n, call) in calls {
        assert_eq!(soon(call).await.unwrap().unwrap(), n * n);
    }
    let error = client.call::<_, i64>(&service, "seven").await.unwrap_err();
    assert!(error.remote().is_some(), "{error:?}");
    let error = client.call::<_, i64>(&site.name("nobody"), &7).await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute { .. }), "{error:?}");
    worker.drain().await;
    let error = client.call::<_, i64>(&service, &7).fail_fast().timeout(PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::NoWorker { .. }), "{error:?}");
}

#[tokio::test]
async fn the_deadline_is_the_same_for_everybody_on_the_way() {
    /// Long enough for requests to get to the bottom.
    const DEADLINE: Duration = Duration::from_secs(3);
    let site = Site::new();
    let client = site.client().await;
    let deepest = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for depth in 0..4_usize {
        let (next, deepest) = (site.name(&format!("deep-{}", depth + 1)), deepest.clone());
        let handler = leveret::handler(move |cx: Context, ()| {
            let (next, deepest) = (next.clone(), deepest.clone());
            async move {
                deepest.fetch_max(depth, Ordering::SeqCst);
                cx.client().call::<_, ()>(&next, &()).timeout(LONG).await
            }
        });
        workers.push(site.serve(&client, &format!("deep-{depth}"), handler).start().await.unwrap());
    }
    let bottom = site.serve(&client, "deep-4", slow(LONG)).start().await.unwrap();
    let asked = Instant::now();
    let error = client.call::<_, ()>(&site.name("deep-0"), &()).timeout(DEADLINE).await.unwrap_err();
    assert!(matches!(error, CallError::Expired { ran: Ran::Maybe, .. }), "{error:?}");
    assert!(asked.elapsed() < DEADLINE + AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!((deepest.load(Ordering::SeqCst), bottom.stats().requests), (3, 1));
    until("the work at the bottom is over", || bottom.stats().in_flight == 0).await;
    for worker in workers {
        soon(worker.drain()).await;
    }
    soon(bottom.drain()).await;
}

#[tokio::test]
async fn a_new_version_takes_over_without_an_error() {
    let site = Site::new();
    let (client, old, new) = (site.client().await, site.client().await, site.client().await);
    let begun = Arc::new(AtomicUsize::new(0));
    let serve = |client: &Client| site.serve(client, "square", counted(&begun, Duration::from_millis(5)));
    let old = serve(&old).start().await.unwrap();
    let mut calls = Vec::new();
    for n in 0..100_i64 {
        calls.push(start(client.call::<_, i64>(&site.name("square"), &n)));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let new = serve(&new).start().await.unwrap();
    let draining = tokio::spawn(old.drain());
    for n in 0..100_i64 {
        calls.push(start(client.call::<_, i64>(&site.name("square"), &n)));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    soon(draining).await.unwrap();
    for call in calls {
        soon(call).await.unwrap().unwrap();
    }
    assert_eq!(begun.load(Ordering::SeqCst), 200, "a request was done twice");
    new.drain().await;
}
