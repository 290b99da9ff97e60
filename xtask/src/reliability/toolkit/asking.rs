//! The requests of one fault: calls and tasks at random moments around it.

use leveret::Client;
use leveret_testkit::random::Random;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

use super::fault::Fault;
use super::job::{FRAGILE, Job, WORK};
use super::records::{Outcome, Records};

pub(super) const REQUESTS: u64 = 40;
/// All requests of a fault begin within this time.
const SPREAD_MS: u64 = 900;
/// What is allowed on top of the deadline.
const GRACE: Duration = Duration::from_secs(1);
/// A deadly request has to kill a few processes before it is given up.
const DEADLY_TIMEOUT: Duration = Duration::from_secs(3);

/// One request to be made.
struct Plan {
    id: String,
    service: &'static str,
    job: Job,
    after: Duration,
    timeout: Duration,
    how: How,
}

enum How {
    Call {
        retries: u32,
        fail_fast: bool,
    },
    /// A call that is dropped after this time.
    Dropped(Duration),
    Task {
        delay: Option<Duration>,
    },
}

/// Asks. The set is empty when every request has ended, or should have.
pub(super) fn ask_all(
    client: &Client,
    records: &Arc<Records>,
    number: u64,
    fault: Fault,
    random: &mut Random,
) -> JoinSet<()> {
    let mut asking = JoinSet::new();
    for request in 0..REQUESTS {
        let mut plan = plan(fault, random);
        plan.id = format!("{number}-{request}-{:08x}", random.next() as u32);
        if fault == Fault::DeadlyRequest && request == 0 {
            (plan.service, plan.job, plan.timeout) = (FRAGILE, Job::Abort, DEADLY_TIMEOUT);
            plan.how = How::Call { retries: 0, fail_fast: false };
        }
        let (client, records) = (client.clone(), records.clone());
        asking.spawn(async move {
            tokio::time::sleep(plan.after).await;
            records.asked(&plan.id, number, plan.job, fault.has_losses());
            let outcome = ask(&client, &plan).await;
            records.ended(&plan.id, outcome);
        });
    }
    asking
}

fn plan(fault: Fault, random: &mut Random) -> Plan {
    let is_task = random.chance(1, 5) && !fault.takes_tasks();
    let job = job(fault, is_task, random);
    let how = match fault {
        _ if is_task => {
            How::Task { delay: random.chance(1, 8).then(|| Duration::from_millis(random.below(800))) }
        }
        Fault::CancelStorm => How::Dropped(Duration::from_millis(random.below(250))),
        _ if random.chance(1, 20) => How::Dropped(Duration::from_millis(random.below(250))),
        _ => How::Call { retries: if random.chance(1, 4) { 3 } else { 0 }, fail_fast: random.chance(1, 10) },
    };
    // Handlers that hang make every call wait for its deadline.
    let most = if fault == Fault::Hangs { 1_500 } else { 3_000 };
    Plan {
        id: String::new(),
        service: WORK,
        job,
        after: Duration::from_millis(random.below(SPREAD_MS)),
        timeout: Duration::from_millis(1_000 + random.below(most - 1_000)),
        how,
    }
}

fn job(fault: Fault, is_task: bool, random: &mut Random) -> Job {
    match fault {
        _ if is_task && random.chance(1, 5) => Job::FailFirst,
        _ if is_task => Job::Quick,
        Fault::CancelStorm => Job::Slow { ms: 300 },
        Fault::Panics if random.chance(1, 2) => Job::Panic,
        Fault::Hangs if random.chance(1, 3) => Job::Hang,
        _ if random.chance(1, 4) => Job::Slow { ms: 10 + random.below(300) },
        _ => Job::Quick,
    }
}

async fn ask(client: &Client, plan: &Plan) -> Outcome {
    let late = plan.timeout + GRACE;
    match plan.how {
        How::Task { delay } => {
            let mut task = client.task(plan.service, &plan.job).message_id(&plan.id).timeout(plan.timeout);
            if let Some(delay) = delay {
                task = task.delay(delay);
            }
            let given = tokio::time::timeout(late, task.into_future()).await;
            given.map_or(Outcome::Hung, |given| Outcome::of_task(&given))
        }
        How::Call { retries, fail_fast } => {
            let mut call = client.call::<_, String>(plan.service, &plan.job).message_id(&plan.id);
            call = call.timeout(plan.timeout).retries(retries);
            if fail_fast {
                call = call.fail_fast();
            }
            let answer = tokio::time::timeout(late, call.into_future()).await;
            answer.map_or(Outcome::Hung, |answer| Outcome::of_call(&answer))
        }
        How::Dropped(after) => {
            let call = client.call::<_, String>(plan.service, &plan.job).message_id(&plan.id);
            let answer = tokio::time::timeout(after, call.timeout(plan.timeout).into_future()).await;
            answer.map_or(Outcome::Dropped, |answer| Outcome::of_call(&answer))
        }
    }
}
