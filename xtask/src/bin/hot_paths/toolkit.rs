//! Calls as a user of the toolkit makes them: client, broker and worker on one thread.

use crate::laps::Laps;
use anyhow::{Result, ensure};
use leveret::{Answer, Client, Payload};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

const SERVICE: &str = "hot.toolkit";
const BODY_BYTES: usize = 128;
const PATIENCE: Duration = Duration::from_secs(60);

/// A lap's calls are made at a time.
pub(crate) async fn call(address: SocketAddr, mut laps: Laps) -> Result<Laps> {
    let url = format!("amqp://guest:guest@{address}/%2f");
    let echo = leveret::raw(|request: leveret::Request| async { Ok(Answer::One(request.payload)) });
    let _worker = Client::connect(&url).await?.serve(SERVICE, echo).concurrency(256).start().await?;
    let client = Client::connect(&url).await?;
    let payload = Payload::bytes(vec![b'?'; BODY_BYTES]);
    while laps.next() {
        let mut calls = JoinSet::new();
        for _ in 0..laps.messages {
            let (client, payload) = (client.clone(), payload.clone());
            calls.spawn(async move { client.request(SERVICE, payload).timeout(PATIENCE).await });
        }
        while let Some(answered) = calls.join_next().await {
            ensure!(answered?.is_ok(), "a call failed");
        }
    }
    Ok(laps)
}
