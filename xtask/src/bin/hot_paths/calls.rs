//! Calls as bare frames: a caller asks as many as a lap has in one write, a worker answers what one read brought in
//! one write, with one acknowledgement.

use crate::laps::Laps;
use crate::peer::{CHANNEL, Peer, Queue, reply_to, write_publish};
use anyhow::{Context, Result};
use leveret_wire::{Properties, write_ack};
use std::net::SocketAddr;

const SERVICE: &str = "hot.service";
const BODY_BYTES: usize = 128;
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Answers come through an exclusive queue of the caller.
pub(crate) async fn exclusive(address: SocketAddr, laps: Laps) -> Result<Laps> {
    let (mut caller, worker) = open(address).await?;
    let answers = caller.declare(Queue { name: "", durable: false, exclusive: true }).await?;
    caller.consume(&answers, true).await?;
    let requests = requests(&answers, laps.messages)?;
    play(laps, caller, worker, &requests, &answers, 0).await
}

/// Answers come by direct reply-to.
pub(crate) async fn direct(address: SocketAddr, laps: Laps) -> Result<Laps> {
    let (mut caller, mut worker) = open(address).await?;
    caller.consume(DIRECT_REPLY_TO, true).await?;
    caller.send(&requests(DIRECT_REPLY_TO, 1)?).await?;
    let mut address = None;
    worker
        .receive(|frame| {
            address = address.take().or_else(|| reply_to(frame));
            frame.kind == leveret_wire::FRAME_BODY
        })
        .await?;
    let address = address.context("a request without reply-to")?;
    let requests = requests(DIRECT_REPLY_TO, laps.messages)?;
    play(laps, caller, worker, &requests, &address, 1).await
}

async fn open(address: SocketAddr) -> Result<(Peer, Peer)> {
    let (caller, mut worker) = (Peer::open(address).await?, Peer::open(address).await?);
    worker.declare(Queue { name: SERVICE, durable: true, exclusive: false }).await?;
    worker.consume(SERVICE, false).await?;
    Ok((caller, worker))
}

/// `delivered`: how many requests the worker has had before.
async fn play(
    mut laps: Laps,
    mut caller: Peer,
    mut worker: Peer,
    requests: &[u8],
    address: &str,
    mut delivered: u64,
) -> Result<Laps> {
    let answers = answers(address, laps.messages)?;
    let mut out = Vec::new();
    while laps.next() {
        caller.send(requests).await?;
        worker.receive_messages(laps.messages).await?;
        delivered += u64::from(laps.messages);
        out.clear();
        out.extend_from_slice(&answers);
        write_ack(&mut out, CHANNEL, delivered, true);
        worker.send(&out).await?;
        caller.receive_messages(laps.messages).await?;
    }
    Ok(laps)
}

fn requests(reply_to: &str, count: u32) -> Result<Vec<u8>> {
    let properties =
        |number| Properties { reply_to: Some(reply_to.as_bytes().to_vec()), ..answer_properties(number) };
    messages(SERVICE, properties, count)
}

fn answers(address: &str, count: u32) -> Result<Vec<u8>> {
    messages(address, answer_properties, count)
}

fn messages(key: &str, properties: impl Fn(u32) -> Properties, count: u32) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    for number in 0..count {
        write_publish(&mut out, "", key, &properties(number), &[b'?'; BODY_BYTES])?;
    }
    Ok(out)
}

fn answer_properties(number: u32) -> Properties {
    Properties { correlation_id: Some(format!("{number:08x}").into_bytes()), ..Properties::default() }
}
