//! Calling and serving on any broker: each test is a story of one call.

mod support;

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use leveret::{
    Answer, CallError, Code, Context, Failure, FieldTable, FieldValue, Payload, Properties, Ran, Request,
    RetryPolicy, TaskError,
};
use leveret_client::QueueDeclare;
use support::{AT_ONCE, LONG, PATIENCE, Site, publish, slow, soon, square, start, unless, until};

#[tokio::test]
async fn a_call_is_answered() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    let answer: i64 = client.call(&site.name("square"), &7).await.unwrap();
    assert_eq!(answer, 49);
    assert_eq!(worker.stats().requests, 1);
    assert_eq!(client.in_flight(), 0);
    worker.drain().await;
}

#[tokio::test]
async fn a_thousand_calls_at_once_each_get_their_own_answer() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    let calls: Vec<_> =
        (0..1_000_i64).map(|n| start(client.call::<_, i64>(&site.name("square"), &n))).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), (n * n) as i64);
    }
    worker.drain().await;
}

#[tokio::test]
async fn an_error_of_the_handler_reaches_the_caller_with_its_details() {
    let site = Site::new();
    let client = site.client().await;
    let handler = leveret::handler(|_, city: String| async move {
        Err::<(), _>(Failure::not_found(format!("no city called {city}")).with_details(&["Oz", "Ur"]))
    });
    let worker = site.serve(&client, "weather", handler).start().await.unwrap();
    let error = client.call::<_, ()>(&site.name("weather"), "Oz").await.unwrap_err();
    let failure = error.remote().unwrap();
    assert_eq!((failure.code, failure.message.as_str()), (Code::NotFound, "no city called Oz"));
    assert_eq!(failure.details_as::<Vec<String>>().unwrap(), ["Oz", "Ur"]);
    worker.drain().await;
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_worker_lives() {
    let site = Site::new();
    let client = site.client().await;
    let handler = leveret::handler(|_, n: i64| async move {
        assert!(n != 13, "unlucky");
        Ok::<_, Failure>(n)
    });
    let worker = site.serve(&client, "lucky", handler).start().await.unwrap();
    let error = client.call::<_, i64>(&site.name("lucky"), &13).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, Code::Internal);
    assert!(error.to_string().contains("unlucky"), "{error}");
    assert_eq!(client.call::<_, i64>(&site.name("lucky"), &12).await.unwrap(), 12);
    worker.drain().await;
}

#[tokio::test]
async fn a_body_that_does_not_decode_is_the_callers_fault() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "square", square()).start().await.unwrap();
    let error = client.call::<_, i64>(&site.name("square"), "seven").await.unwrap_err();
    assert_eq!(error.remote().unwrap().code, Code::InvalidArgument);
    worker.drain().await;
}

#[tokio::test]
async fn no_queue_is_said_at_once() {
    let site = Site::new();
    let client = site.client().await;
    let asked = Instant::now();
    let error = client.call::<_, ()>(&site.name("nobody"), &1).timeout(LONG).await.unwrap_err();
    assert!(matches!(error, CallError::NoRoute { .. }), "{error:?}");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn no_worker_and_busy_are_told_apart() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "slow", slow(LONG)).concurrency(1).start().await.unwrap();
    let busy = start(client.call::<_, ()>(&site.name("slow"), &()).timeout(LONG));
    until("the worker is busy", || worker.stats().in_flight == 1).await;
    let asked = Instant::now();
    let error = client.call::<_, ()>(&site.name("slow"), &()).fail_fast().timeout(LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Busy { .. }), "{error:?}");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    busy.abort();
    worker.drain().await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let error = client.call::<_, ()>(&site.name("slow"), &()).fail_fast().timeout(LONG).await.unwrap_err();
    assert!(matches!(error, CallError::NoWorker { .. }), "{error:?}");
    let ask = || client.call::<_, ()>(&site.name("slow"), &()).timeout(Duration::from_millis(200));
    let error = unless(is_vague, || ask().into_future()).await.unwrap_err();
    assert!(matches!(error, CallError::NoWorker { .. }), "{error:?}");
}

#[tokio::test]
async fn an_expired_request_says_whether_it_may_have_run() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "slow", slow(LONG)).concurrency(1).start().await.unwrap();
    let first = start(client.call::<_, ()>(&site.name("slow"), &()).timeout(PATIENCE));
    until("the worker is busy", || worker.stats().in_flight == 1).await;
    let ask = || client.call::<_, ()>(&site.name("slow"), &()).timeout(Duration::from_millis(100));
    let error = unless(is_vague, || ask().into_future()).await.unwrap_err();
    assert!(matches!(error, CallError::Expired { ran: Ran::No, .. }), "{error:?}");
    first.abort();
    until("it was told to stop", || worker.stats().in_flight == 0).await;
    let begun = worker.stats().requests;
    let error = client.call::<_, ()>(&site.name("slow"), &()).timeout(Duration::from_secs(2)).await;
    assert_eq!(worker.stats().requests, begun + 1);
    assert!(matches!(error, Err(CallError::Expired { ran: Ran::Maybe, .. })), "{error:?}");
    drop(worker);
}

/// What a caller is told when the broker did not give the request back in time.
fn is_vague<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Expired { ran: Ran::Maybe, .. }))
}

#[tokio::test]
async fn a_full_queue_sheds_the_oldest() {
    let site = Site::new();
    let client = site.client().await;
    let worker =
        site.serve(&client, "slow", slow(LONG)).concurrency(1).queue_length(1).start().await.unwrap();
    let call = || start(client.call::<_, ()>(&site.name("slow"), &()).timeout(LONG));
    let running = call();
    until("the worker is busy", || worker.stats().in_flight == 1).await;
    let (oldest, youngest) = (call(), call());
    let error = soon(oldest).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Overloaded { .. }), "{error:?}");
    assert!(!running.is_finished() && !youngest.is_finished());
    drop(worker);
}

#[tokio::test]
async fn dropping_a_call_stops_the_work() {
    struct Bell(Arc<AtomicUsize>);
    impl Drop for Bell {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let site = Site::new();
    let client = site.client().await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let rung = dropped.clone();
    let handler = leveret::handler(move |_, ()| {
        let bell = Bell(rung.clone());
        async move {
            tokio::time::sleep(LONG).await;
            drop(bell);
            Ok::<_, Failure>(())
        }
    });
    let worker = site.serve(&client, "long", handler).start().await.unwrap();
    let call = start(client.call::<_, ()>(&site.name("long"), &()).timeout(LONG));
    until("the work began", || worker.stats().requests == 1).await;
    call.abort();
    until("the handler stops", || dropped.load(Ordering::SeqCst) == 1).await;
    until("it is counted", || worker.stats().cancelled == 1).await;
    worker.drain().await;
}

#[tokio::test]
async fn a_nested_call_inherits_the_deadline() {
    let site = Site::new();
    let client = site.client().await;
    let inner = leveret::handler(|cx: Context, ()| async move {
        Ok::<_, Failure>(cx.remaining().map_or(u64::MAX, |left| left.as_millis() as u64))
    });
    let service = site.name("inner");
    let outer = leveret::handler(move |cx: Context, ()| {
        let service = service.clone();
        async move { cx.client().call::<_, u64>(&service, &()).timeout(Duration::from_secs(60)).await }
    });
    let inner = site.serve(&client, "inner", inner).start().await.unwrap();
    let outer = site.serve(&client, "outer", outer).start().await.unwrap();
    let left: u64 = client.call(&site.name("outer"), &()).timeout(PATIENCE).await.unwrap();
    assert!(u128::from(left) <= PATIENCE.as_millis(), "{left} ms");
    outer.drain().await;
    inner.drain().await;
}

#[tokio::test]
async fn a_retry_with_the_same_message_id_does_not_work_twice() {
    let site = Site::new();
    let client = site.client().await;
    let worked = Arc::new(AtomicUsize::new(0));
    let counter = worked.clone();
    let handler = leveret::handler(move |_, ()| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        async move { Ok::<_, Failure>(number) }
    });
    let worker = site.serve(&client, "count", handler).start().await.unwrap();
    for _ in 0..3 {
        let number: usize = client.call(&site.name("count"), &()).message_id("the same").await.unwrap();
        assert_eq!(number, 0);
    }
    assert_eq!(worked.load(Ordering::SeqCst), 1);
    assert_eq!(worker.stats().repeated, 2);
    worker.drain().await;
}

#[tokio::test]
async fn a_retryable_error_is_retried_when_asked_for() {
    let site = Site::new();
    let client = site.client().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let handler = leveret::handler(move |_, ()| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        async move { if number < 2 { Err(Failure::unavailable("not yet")) } else { Ok(number) } }
    });
    let worker = site.serve(&client, "flaky", handler).start().await.unwrap();
    assert_eq!(client.call::<_, usize>(&site.name("flaky"), &()).retries(5).await.unwrap(), 2);
    worker.drain().await;
}

#[tokio::test]
async fn a_hedged_call_takes_the_faster_answer() {
    let site = Site::new();
    let client = site.client().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let handler = leveret::raw(move |_request: Request| {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                tokio::time::sleep(LONG).await;
            }
            Ok(Answer::One(Payload::new("application/json", number.to_string())))
        }
    });
    let worker = site.serve(&client, "hedged", handler).start().await.unwrap();
    // With one id the repetition would wait for the first: a hedge is for work that may be done twice.
    let asked = Instant::now();
    let call = client.call::<_, usize>(&site.name("hedged"), &()).timeout(LONG);
    assert_eq!(call.hedge(Duration::from_millis(50)).await.unwrap(), 1);
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    drop(worker);
}

#[tokio::test]
async fn a_task_that_fails_is_tried_again_and_then_parked_with_its_reason() {
    let site = Site::new();
    let client = site.client().await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counter = attempts.clone();
    let handler = leveret::handler(move |_, _name: String| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Err::<(), _>(Failure::internal("no paper")) }
    });
    let retries = RetryPolicy { attempts_max: 3, first: Duration::from_millis(20), ..RetryPolicy::default() };
    let worker = site.serve(&client, "print", handler).retries(retries).start().await.unwrap();
    client.task(&site.name("print"), "page").await.unwrap();
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    until("it is parked", || worker.stats().parked == 1).await;
    let parked = channel.get(&format!("{}.parked", site.name("print")), true).await.unwrap().unwrap();
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
    let headers = parked.properties().headers().unwrap();
    assert_eq!(headers.find("rpc-parked-reason").unwrap().as_str(), Some("INTERNAL: no paper"));
    worker.drain().await;
}

#[tokio::test]
async fn a_task_given_twice_is_done_once() {
    let site = Site::new();
    let client = site.client().await;
    let worked = Arc::new(AtomicUsize::new(0));
    let counter = worked.clone();
    let handler = leveret::handler(move |_, ()| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Failure>(()) }
    });
    let worker = site.serve(&client, "once", handler).start().await.unwrap();
    for _ in 0..2 {
        client.task(&site.name("once"), &()).message_id("order 66").await.unwrap();
    }
    until("repeated", || worker.stats().repeated > 0).await;
    assert_eq!(worked.load(Ordering::SeqCst), 1);
    worker.drain().await;
}

#[tokio::test]
async fn a_task_waits_until_its_queue_has_room() {
    let site = Site::new();
    let client = site.client().await;
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    let mut arguments = FieldTable::new();
    arguments.insert("x-max-length", FieldValue::I64(1));
    arguments.insert("x-overflow", FieldValue::LongString(b"reject-publish".to_vec()));
    let service = site.name("full");
    let declare = QueueDeclare { arguments, ..QueueDeclare::durable(&service) };
    channel.declare_queue(&declare).await.unwrap();
    client.task(&service, &1).await.unwrap();
    let too_slow = |outcome: &Result<_, TaskError>| matches!(outcome, Err(TaskError::Unconfirmed { .. }));
    let give = || client.task(&service, &2).timeout(Duration::from_millis(200)).into_future();
    let error = unless(too_slow, give).await.unwrap_err();
    assert!(matches!(error, TaskError::Full { .. }), "{error:?}");
    let waiting = start(client.task(&service, &3));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let worker = client.serve(&service, square()).start().await.unwrap();
    soon(waiting).await.unwrap().unwrap();
    until("both are done", || worker.stats().requests == 2).await;
    worker.drain().await;
}

#[tokio::test]
async fn a_delayed_task_waits() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "later", square()).start().await.unwrap();
    let given = Instant::now();
    client.task(&site.name("later"), &3).delay(Duration::from_millis(300)).await.unwrap();
    until("requests", || worker.stats().requests > 0).await;
    assert!(given.elapsed() >= Duration::from_millis(300), "{:?}", given.elapsed());
    worker.drain().await;
}

#[tokio::test]
async fn everybody_who_listens_answers() {
    let site = Site::new();
    let client = site.client().await;
    let mut workers = Vec::new();
    for n in 0..20 {
        let thermometer = leveret::handler(move |_, ()| async move { Ok::<_, Failure>(n) });
        let serve = site.serve(&client, "thermometer", thermometer).every_instance();
        workers.push(serve.bind("amq.topic", format!("#.{}", site.name("ohio"))).start().await.unwrap());
    }
    let gathered = client
        .gather::<_, i32>("amq.topic", &format!("weather.{}", site.name("ohio")), &())
        .count(20)
        .await
        .unwrap();
    let mut answers: Vec<i32> = gathered.into_iter().map(|one| one.answer.unwrap()).collect();
    answers.sort_unstable();
    assert_eq!(answers, (0..20).collect::<Vec<_>>());

    let asked = Instant::now();
    // Longer than one answer may come behind another; without it the question ends after half a minute.
    let silence = Duration::from_secs(1);
    let gathered = client
        .gather::<_, i32>("amq.topic", &format!("news.{}", site.name("ohio")), &())
        .silence(silence)
        .await
        .unwrap();
    assert_eq!(gathered.len(), 20);
    assert!((silence..silence + AT_ONCE).contains(&asked.elapsed()), "{:?}", asked.elapsed());

    let error = client
        .gather::<_, i32>("amq.topic", &format!("news.{}", site.name("virginia")), &())
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::NoRoute { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_arrives_in_order_and_waits_for_its_reader() {
    let site = Site::new();
    let client = site.client().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    let handler = leveret::raw(move |request: Request| {
        let counter = counter.clone();
        async move {
            request.cx.progress("counting").await;
            let mut n = 0;
            let numbers = std::iter::from_fn(move || {
                counter.fetch_add(1, Ordering::SeqCst);
                n += 1;
                (n <= 500).then(|| Ok(Payload::new("application/json", n.to_string())))
            });
            Ok(Answer::Many(Box::pin(Numbers(numbers))))
        }
    });
    let worker = site.serve(&client, "numbers", handler).start().await.unwrap();
    let progress = Arc::new(AtomicUsize::new(0));
    let heard = progress.clone();
    let mut replies = client
        .stream::<_, i32>(&site.name("numbers"), &())
        .window(16)
        .on_progress(move |text| {
            assert_eq!(text, "counting");
            heard.fetch_add(1, Ordering::SeqCst);
        })
        .await
        .unwrap();
    assert_eq!(replies.next().await.unwrap().unwrap(), 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let ahead = sent.load(Ordering::SeqCst);
    assert!(ahead <= 40, "the worker ran {ahead} answers ahead of a window of 16");
    let mut expected = 2;
    while let Some(reply) = replies.next().await {
        assert_eq!(reply.unwrap(), expected);
        expected += 1;
    }
    assert_eq!((expected, progress.load(Ordering::SeqCst)), (501, 1));
    worker.drain().await;
}

struct Numbers<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Numbers<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[tokio::test]
async fn a_request_for_its_own_queue_is_refused_without_work() {
    let site = Site::new();
    let client = site.client().await;
    let worker = site.serve(&client, "loop", square()).start().await.unwrap();
    let properties = Properties { reply_to: Some(site.name("loop").into_bytes()), ..Properties::default() };
    publish(&client.connection().await.unwrap(), &site.name("loop"), &properties, b"7").await;
    until("refused", || worker.stats().refused > 0).await;
    assert_eq!(worker.stats().requests, 0);
    worker.drain().await;
}

#[tokio::test]
async fn drain_finishes_what_it_has_and_takes_no_more() {
    let site = Site::new();
    let client = site.client().await;
    let handler = leveret::handler(|_, n: i64| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok::<_, Failure>(n)
    });
    let worker = site.serve(&client, "drained", handler).start().await.unwrap();
    let call = start(client.call::<_, i64>(&site.name("drained"), &5));
    until("the work began", || worker.stats().in_flight == 1).await;
    worker.drain().await;
    assert_eq!(call.await.unwrap().unwrap(), 5);
    let error = client.call::<_, i64>(&site.name("drained"), &5).fail_fast().await.unwrap_err();
    assert!(matches!(error, CallError::NoWorker { .. }), "{error:?}");
}
