//! `leveret demo`: the stories that Leveret must carry, end to end: a broker in this process with its real store in
//! a temporary directory, real TCP on loopback; workers made with the toolkit in threads and with connections of their
//! own, and an ordinary AMQP client (lapin) on the other side.

mod crew;
mod farms;
mod peer;
mod recipe;
mod report;
mod site;
mod speeds;
mod stage;
mod tutorial;
mod warrens;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::failure::Failure;
use report::Report;
use stage::Stage;

/// A story takes a second or so; whatever is waited for longer will not come.
const STORY_TIMEOUT: Duration = Duration::from_secs(10);

/// Play five stories on a broker of its own and check what happens; exit 0 when all is as it should be
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Plays the stories one after the other, all of them even if one goes wrong.
pub(crate) async fn run(Arguments {}: Arguments) -> Result<(), Failure> {
    let began = Instant::now();
    let stage = Stage::build().await?;
    let mut report = Report::new();
    report.line(format!("A broker in this process, {}, with its data in {}.", stage.url(), stage.path()));

    report.title("1. The recipe: many askers, one queue, an answer each");
    let ended = in_time(recipe::play(&stage, &mut report)).await;
    report.ended(ended);
    report.title("2. The server farms: topics, and one call that asks everybody");
    let ended = in_time(farms::play(&stage, &mut report)).await;
    report.ended(ended);
    report.title("3. Rabbits and warrens: exchanges, acknowledgements, a restart");
    let ended = in_time(warrens::play(&mut report)).await;
    report.ended(ended);
    report.title("4. The tutorial RPC: reply_to and correlation_id");
    let ended = in_time(tutorial::play(&stage, &mut report)).await;
    report.ended(ended);
    report.title("5. The site and the service: an outbox, MessagePack, PDFs");
    let ended = in_time(site::play(&stage, &mut report)).await;
    report.ended(ended);

    stage.clear().await?;
    report.finish(began.elapsed())
}

async fn in_time(story: impl Future<Output = Result<()>>) -> Result<()> {
    let ended = tokio::time::timeout(STORY_TIMEOUT, story).await;
    ended.unwrap_or_else(|_| bail!("the story did not end within {} s", STORY_TIMEOUT.as_secs()))
}
