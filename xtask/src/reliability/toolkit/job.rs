//! What is asked for, and the services that do it: the same in this process and in a worker process.

use leveret::dialect::Dialect;
use leveret::{Client, Context, Failure, RetryPolicy, ServeError, Worker};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Served by a worker in this process and by one in a process of its own.
pub(super) const WORK: &str = "campaign.work";
/// Served by the worker process only, which jobs of it may kill.
pub(super) const FRAGILE: &str = "campaign.fragile";
/// How often [`FRAGILE`] may be killed by one request.
pub(super) const DELIVERY_LIMIT: u32 = 3;
/// Requests are delivered again because of lost connections; that alone must not park them.
const PATIENCE: u32 = 1_000;
const CONCURRENCY: u16 = 16;

/// What a handler shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Job {
    Quick,
    Slow {
        ms: u64,
    },
    /// Far longer than any deadline.
    Hang,
    Panic,
    /// Fails at the first attempt.
    FailFirst,
    /// Ends the process.
    Abort,
    /// The answer is the queue that the answer goes to.
    ReplyQueue,
}

/// What a worker notes, before and after its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Begun,
    Done,
}

/// Where it notes that, by message id.
pub(super) type Diary = Arc<dyn Fn(Mark, &str) + Send + Sync>;

/// Serves until the worker is dropped; answers are `who`.
pub(super) async fn serve(
    client: &Client,
    service: &str,
    who: &'static str,
    diary: Diary,
) -> Result<Worker, ServeError> {
    let handler = leveret::handler(move |cx: Context, job: Job| {
        let diary = diary.clone();
        async move {
            let id = cx.message_id().unwrap_or_default();
            diary(Mark::Begun, id);
            work(job, cx.attempt()).await?;
            diary(Mark::Done, id);
            Ok::<_, Failure>(answer(job, &cx, who))
        }
    });
    let delivery_limit = if service == FRAGILE { DELIVERY_LIMIT } else { PATIENCE };
    let retries = RetryPolicy { first: Duration::from_millis(200), factor: 2, ..RetryPolicy::default() };
    client
        .serve(service, handler)
        .concurrency(CONCURRENCY)
        .delivery_limit(delivery_limit)
        .retries(retries)
        // Its reply addresses may name an exchange.
        .dialects(&[Dialect::Spring])
        .start()
        .await
}

fn answer(job: Job, cx: &Context, who: &str) -> String {
    let reply_to = cx.properties().reply_to.as_deref().filter(|_| job == Job::ReplyQueue);
    reply_to.map_or_else(|| who.to_owned(), |queue| String::from_utf8_lossy(queue).into_owned())
}

async fn work(job: Job, attempt: u32) -> Result<(), Failure> {
    match job {
        Job::Quick | Job::ReplyQueue => Ok(()),
        Job::Slow { ms } => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(())
        }
        Job::Hang => {
            tokio::time::sleep(Duration::from_secs(600)).await;
            Ok(())
        }
        Job::Panic => panic!("{PANIC}"),
        Job::FailFirst if attempt == 1 => Err(Failure::unavailable("the first attempt fails")),
        Job::FailFirst => Ok(()),
        Job::Abort => std::process::abort(),
    }
}

/// The text of a panic that belongs to the campaign.
pub(super) const PANIC: &str = "the campaign asked for this panic";
