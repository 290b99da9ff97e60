//! A broker that restarts under calls. Alone in its program: on a broker that tests share it would disturb them.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests

mod support;

use std::time::Duration;

use leveret::{CallError, Client};
use support::{Broken, soon, square, start};

async fn nine(client: &Client, service: &str) {
    let answer = client.call::<_, i64>(service, &3).timeout(Duration::from_secs(15));
    assert_eq!(soon(answer.into_future()).await.unwrap(), 9);
}

#[tokio::test]
async fn a_request_waits_for_the_broker_to_come_back() {
    let broken = Broken::start().await;
    let client = broken.site.client().await;
    let service = broken.site.name("square");
    let worker = broken.site.serve(&client, "square", square()).start().await.unwrap();
    nine(&client, &service).await;
    client.task(&service, &4).await.unwrap();
    let mut in_flight: Vec<_> = (0..50).map(|n: i64| start(client.call::<_, i64>(&service, &n))).collect();
    let broken = broken.restart().await;
    in_flight.push(start(client.call::<_, i64>(&service, &3)));
    for call in in_flight {
        match soon(call).await.unwrap() {
            Ok(_) | Err(CallError::ConnectionLost { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    nine(&client, &service).await;
    assert!(worker.stats().requests >= 3, "{:?}", worker.stats());
    worker.drain().await;
    drop(broken);
}
