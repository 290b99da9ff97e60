//! Rabbits and warrens: what every introduction to AMQP says, checked. Virtual hosts keep apart, exchanges route,
//! acknowledgements decide, and durable + persistent survives a restart while nothing else does.

use anyhow::{Context, Result};
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{BasicProperties, Channel, ExchangeKind};

use super::peer::{Life, Outcome, Peer, bind, declare_exchange, declare_queue, publish};
use super::report::Report;
use super::stage::Stage;

const PO_BOX: &str = "po_box";
const SORTING_ROOM: &str = "sorting_room";
const KEY: &str = "jason";
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// On a broker of its own, for it is stopped in between.
pub(super) async fn play(report: &mut Report) -> Result<()> {
    let stage = Stage::build().await?;
    stage.add_vhost("warren")?;
    let rabbit = Peer::connect(&stage.url()).await?;
    declare_queue(&rabbit.channel, PO_BOX, Life::Durable).await?;
    declare_exchange(&rabbit.channel, SORTING_ROOM, ExchangeKind::Direct, Life::Durable).await?;
    bind(&rabbit.channel, PO_BOX, SORTING_ROOM, KEY).await?;
    let elsewhere = Peer::connect(&stage.url_of("warren")).await?;
    let found = elsewhere.passive_code(PO_BOX).await?;
    report.check("virtual hosts: the po_box does not exist in the other warren", found, NOT_FOUND);
    elsewhere.close().await?;

    redeclare(&rabbit, report).await?;
    route(&rabbit.channel, report).await?;
    acknowledge(&rabbit, report).await?;
    prepare_restart(&rabbit).await?;
    rabbit.close().await?;
    let stage = stage.restart().await?;
    let rabbit = Peer::connect(&stage.url()).await?;
    check_restart(&rabbit, report).await?;
    rabbit.close().await?;
    stage.clear().await
}

async fn redeclare(rabbit: &Peer, report: &mut Report) -> Result<()> {
    let same = rabbit.refusal(async |channel| declare_queue(channel, PO_BOX, Life::Durable).await).await?;
    report.check("declaring the same again changes nothing", same, 0);
    let other = rabbit.refusal(async |channel| declare_queue(channel, PO_BOX, Life::Transient).await).await?;
    report.check("declaring it differently is refused: 406", other, PRECONDITION_FAILED);
    Ok(())
}

async fn route(channel: &Channel, report: &mut Report) -> Result<()> {
    let direct =
        [send(channel, SORTING_ROOM, KEY, "hello").await?, send(channel, SORTING_ROOM, "x", "?").await?];
    let expected = [Outcome::Queued, Outcome::Unroutable];
    report.check("direct: the key must match, and mandatory says when none did", direct, expected);
    channel.queue_purge(PO_BOX.into(), Default::default()).await?;

    declare_exchange(channel, "everyone", ExchangeKind::Fanout, Life::Transient).await?;
    declare_exchange(channel, "subjects", ExchangeKind::Topic, Life::Transient).await?;
    for (queue, pattern) in [("left", "*.carrot"), ("right", "garden.#")] {
        declare_queue(channel, queue, Life::Transient).await?;
        bind(channel, queue, "everyone", "").await?;
        bind(channel, queue, "subjects", pattern).await?;
    }
    send(channel, "everyone", "whatever", "to all").await?;
    let found = (drain(channel, "left").await?, drain(channel, "right").await?);
    let all = || vec!["to all".to_owned()];
    report.check("fanout: every bound queue gets it, whatever the key", found, (all(), all()));
    for key in ["field.carrot", "garden.carrot", "garden.shed.spade"] {
        send(channel, "subjects", key, key).await?;
    }
    let found = (drain(channel, "left").await?, drain(channel, "right").await?);
    let texts = |keys: [&str; 2]| keys.map(str::to_owned).to_vec();
    let expected = (texts(["field.carrot", "garden.carrot"]), texts(["garden.carrot", "garden.shed.spade"]));
    report.check("topic: * is one word, # is any number of them", found, expected);
    Ok(())
}

async fn acknowledge(rabbit: &Peer, report: &mut Report) -> Result<()> {
    send(&rabbit.channel, SORTING_ROOM, KEY, "a letter").await?;
    let reader = rabbit.second_channel().await?;
    let first = take(&reader, PO_BOX, false).await?.context("the po_box is empty")?;
    reader.close(200, "OK".into()).await?; // without an acknowledgement
    let second = take(&rabbit.channel, PO_BOX, false).await?.context("the letter is lost")?;
    let marks = (first.redelivered, second.redelivered);
    report.check("a letter that nobody acknowledged comes back, marked as redelivered", marks, (false, true));
    second.ack(BasicAckOptions::default()).await?;
    send(&rabbit.channel, SORTING_ROOM, KEY, "a postcard").await?;
    let postcard = take(&rabbit.channel, PO_BOX, true).await?.is_some();
    let left = take(&rabbit.channel, PO_BOX, false).await?.is_some();
    report.check("acknowledged, or taken without: it is gone", (postcard, left), (true, false));
    Ok(())
}

async fn prepare_restart(rabbit: &Peer) -> Result<()> {
    let channel = &rabbit.channel;
    declare_queue(channel, "paper_bag", Life::Transient).await?;
    bind(channel, "paper_bag", SORTING_ROOM, "bag").await?;
    let persistent = || BasicProperties::default().with_delivery_mode(2);
    publish(channel, (SORTING_ROOM, KEY), persistent(), b"persistent").await?;
    publish(channel, (SORTING_ROOM, KEY), BasicProperties::default(), b"not persistent").await?;
    publish(channel, (SORTING_ROOM, "bag"), persistent(), b"in the bag").await?;
    Ok(())
}

async fn check_restart(rabbit: &Peer, report: &mut Report) -> Result<()> {
    let kept = drain(&rabbit.channel, PO_BOX).await?;
    let expected = vec!["persistent".to_owned()];
    report.check("restart: of a durable queue the persistent message survives, alone", kept, expected);
    let gone = (rabbit.passive_code("paper_bag").await?, rabbit.passive_code("left").await?);
    report.check("restart: queues that are not durable are gone", gone, (NOT_FOUND, NOT_FOUND));
    let routed = send(&rabbit.channel, SORTING_ROOM, KEY, "again").await?;
    report.check("restart: the durable exchange and its binding route as before", routed, Outcome::Queued);
    Ok(())
}

async fn send(channel: &Channel, exchange: &str, key: &str, body: &str) -> Result<Outcome> {
    publish(channel, (exchange, key), BasicProperties::default(), body.as_bytes()).await
}

async fn take(channel: &Channel, queue: &str, no_ack: bool) -> Result<Option<lapin::message::Delivery>> {
    let message = channel.basic_get(queue.into(), BasicGetOptions { no_ack }).await?;
    Ok(message.map(|message| message.delivery))
}

/// Everything in a queue.
async fn drain(channel: &Channel, queue: &str) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    while let Some(message) = take(channel, queue, true).await? {
        texts.push(String::from_utf8(message.data)?);
    }
    Ok(texts)
}
