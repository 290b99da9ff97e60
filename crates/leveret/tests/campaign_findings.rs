//! What `cargo xtask reliability --only toolkit` has found, one test for each.

use std::time::{Duration, Instant};

use leveret::{Client, Context, Failure, FieldTable, Properties};

#[tokio::test]
async fn a_client_whose_reply_queue_was_deleted_calls_on() {
    let client = Client::connect("embedded:").await.unwrap();
    let reply_queue = leveret::handler(|cx: Context, ()| async move {
        let reply_to = cx.properties().reply_to.clone().unwrap_or_default();
        Ok::<_, Failure>(String::from_utf8_lossy(&reply_to).into_owned())
    });
    let worker = client.serve("where", reply_queue).start().await.unwrap();
    let before: String = client.call("where", &()).await.unwrap();
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    channel.delete_queue(&before).await.unwrap();
    let after: String = client.call("where", &()).timeout(Duration::from_secs(2)).retries(9).await.unwrap();
    assert_ne!(after, before);
    worker.drain().await;
}

/// The copy that carries the count used to be delivered before the original was acknowledged: a worker that died of it
/// left both, and the next one four.
#[tokio::test]
async fn a_request_that_kills_its_workers_does_not_multiply() {
    let client = Client::connect("embedded:").await.unwrap();
    let attempt = leveret::handler(|cx: Context, ()| async move { Ok::<_, Failure>(cx.attempt()) });
    client.serve("deadly", attempt.clone()).start().await.unwrap().drain().await;
    let call = client.call::<_, u32>("deadly", &()).timeout(Duration::from_secs(5));
    let call = tokio::spawn(std::future::IntoFuture::into_future(call));
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    let died = loop {
        if let Some(delivery) = channel.get("deadly", false).await.unwrap() {
            break delivery;
        }
    };
    died.nack(true);
    channel.flush();
    let begun = Instant::now();
    let worker = client.serve("deadly", attempt).start().await.unwrap();
    assert_eq!(call.await.unwrap().unwrap(), 2);
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
    worker.drain().await;
}

/// A task that could not be parked, for lack of room for a header, kept its place among those being worked on for ever.
#[tokio::test]
async fn a_task_whose_headers_fill_the_frame_is_parked() {
    let client = Client::connect("embedded:").await.unwrap();
    let never = leveret::handler(|_, ()| async move { Err::<(), _>(Failure::internal("no")) });
    let worker = client.serve("full", never).start().await.unwrap();
    let headers = FieldTable::from([("filler", "x".repeat(130_900))]);
    let properties = Properties { headers: Some(headers), ..Properties::default() };
    let channel = client.connection().await.unwrap().channel().await.unwrap();
    let task = leveret_client::Publish {
        properties: &properties,
        ..leveret_client::Publish::to_queue("full", b"null")
    };
    channel.publish(&task).await.unwrap();
    let parked = loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if worker.stats().parked == 1
            && let Some(parked) = channel.get("full.parked", true).await.unwrap()
        {
            break parked;
        }
    };
    assert_eq!(&parked.body[..], b"null");
    worker.drain().await;
}
