//! What `cargo xtask reliability --only toolkit` has found, one test for each.

use std::time::Duration;

use leveret::{Client, Context, Failure};

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
