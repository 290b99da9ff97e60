//! The oracle: what was asked for, what the callers were told, and what the workers noted.
//!
//! ```text
//!   caller: asked ──▶ one outcome            worker: begun × n, done × n
//!              └──────────── judged against each other ────┘
//! ```

use leveret::{CallError, Ran, TaskError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use super::super::verdict::Verdict;
use super::job::{DELIVERY_LIMIT, Job, Mark};

const RAN_AFTER_ALL: &str = "said not to have run, and ran";

/// How a request ended for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    /// A task that the broker has confirmed.
    Confirmed,
    /// An error of this kind; `has_not_run` is what the error claims.
    Failed {
        kind: String,
        has_not_run: bool,
    },
    /// The caller did not wait for the end.
    Dropped,
    /// Nothing by the deadline and a second.
    Hung,
}

impl Outcome {
    pub(super) fn of_call(answer: &Result<String, CallError>) -> Outcome {
        let Err(error) = answer else { return Outcome::Answered };
        let has_not_run = match error {
            CallError::NoRoute { .. }
            | CallError::NoWorker { .. }
            | CallError::Busy { .. }
            | CallError::Overloaded { .. }
            | CallError::Unsendable(_)
            | CallError::Expired { ran: Ran::No, .. }
            | CallError::ConnectionLost { may_have_run: false, .. } => true,
            CallError::Remote(failure) => {
                failure.details_as::<Value>().is_some_and(|said| said["ran"] == false)
            }
            _ => false,
        };
        let kind = match error {
            CallError::Remote(failure) => format!("remote {}", failure.code.name()),
            error if has_not_run => format!("{}, not run", error.kind()),
            error => error.kind().to_owned(),
        };
        Outcome::Failed { kind, has_not_run }
    }

    pub(super) fn of_task(given: &Result<String, TaskError>) -> Outcome {
        match given {
            Ok(_) => Outcome::Confirmed,
            Err(error) => {
                let has_not_run = !matches!(error, TaskError::Unconfirmed { .. });
                Outcome::Failed { kind: format!("task: {error}"), has_not_run }
            }
        }
    }

    fn kind(&self) -> String {
        match self {
            Outcome::Failed { kind, .. } => kind.clone(),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

/// One request.
#[derive(Debug)]
struct Request {
    fault: u64,
    job: Job,
    /// A connection, a process or the broker was lost while it was under way.
    had_losses: bool,
    outcome: Option<Outcome>,
    begun: u32,
    done: u32,
}

/// All requests of one lane.
#[derive(Default)]
pub(super) struct Records {
    requests: Mutex<HashMap<String, Request>>,
}

impl Records {
    fn requests(&self) -> MutexGuard<'_, HashMap<String, Request>> {
        self.requests.lock().expect("no thread panics while it holds the records")
    }

    /// A request is about to be sent.
    pub(super) fn asked(&self, id: &str, fault: u64, job: Job, had_losses: bool) {
        let request = Request { fault, job, had_losses, outcome: None, begun: 0, done: 0 };
        self.requests().insert(id.to_owned(), request);
    }

    /// Something will be lost: what is not over yet, or just over and perhaps not acknowledged, may run again.
    pub(super) fn losses_begin(&self, fault: u64) {
        for request in self.requests().values_mut() {
            request.had_losses |= request.done == 0 || request.fault + 1 >= fault;
        }
    }

    /// It has ended for whoever asked.
    pub(super) fn ended(&self, id: &str, outcome: Outcome) {
        if let Some(request) = self.requests().get_mut(id) {
            request.outcome = Some(outcome);
        }
    }

    /// A worker notes something. Requests that are not on record are poison or control calls.
    pub(super) fn noted(&self, mark: Mark, id: &str) {
        if let Some(request) = self.requests().get_mut(id) {
            match mark {
                Mark::Begun => request.begun += 1,
                Mark::Done => request.done += 1,
            }
        }
    }

    /// Requests of a fault that ended without an answer for the caller.
    pub(super) fn unanswered(&self, fault: u64) -> u64 {
        let unanswered = |request: &&Request| {
            request.fault == fault && !matches!(request.outcome, Some(Outcome::Answered | Outcome::Confirmed))
        };
        self.requests().values().filter(unanswered).count() as u64
    }

    /// Confirmed tasks that nobody has done yet.
    pub(super) fn undone_tasks(&self) -> usize {
        let undone = |request: &&Request| request.outcome == Some(Outcome::Confirmed) && request.done == 0;
        self.requests().values().filter(undone).count()
    }

    /// How often requests ended how, of one fault or of all.
    pub(super) fn outcomes(&self, fault: Option<u64>) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for request in self.requests().values().filter(|request| fault.is_none_or(|one| one == request.fault))
        {
            let kind = request.outcome.as_ref().map_or_else(|| "hung".to_owned(), Outcome::kind);
            *counts.entry(kind).or_default() += 1;
        }
        counts
    }

    /// Compares what was said with what was done.
    ///
    /// A classic queue of RabbitMQ gives an expired request back without a word about the worker that died with it.
    /// What it makes callers believe is told, and is not the toolkit's fault: `knows_deliveries` is false.
    pub(super) fn judge(
        &self,
        verdict: &mut Verdict,
        knows_deliveries: bool,
        name_of: impl Fn(u64) -> String,
    ) {
        for (id, request) in self.requests().iter() {
            let Some(broken) = request.broken_promise() else { continue };
            let case = format!("{id}: {request:?}, during {}", name_of(request.fault));
            if !knows_deliveries && broken == RAN_AFTER_ALL && request.was_given_back() {
                verdict.fact(format!("a classic queue cannot know: {broken}: {case}"));
            } else {
                verdict.fault(broken, case);
            }
        }
    }

    /// Numbers for the report.
    pub(super) fn to_json(&self) -> Value {
        let requests = self.requests();
        let count = |which: fn(&Request) -> bool| requests.values().filter(|one| which(one)).count();
        json!({
            "requests": requests.len(),
            "begun": requests.values().map(|one| u64::from(one.begun)).sum::<u64>(),
            "begun_twice_after_a_loss": count(|one| one.had_losses && one.begun > 1 && one.job != Job::Abort),
            "ran_and_said_to_be_unknown": count(|one| one.done > 0 && matches!(&one.outcome,
                Some(Outcome::Failed { has_not_run: false, .. }))),
        })
    }
}

impl Request {
    /// Its error comes from a request that expired in its queue.
    fn was_given_back(&self) -> bool {
        let kinds = ["busy", "no_worker", "expired"];
        let kind = self.outcome.as_ref().map(Outcome::kind).unwrap_or_default();
        kinds.iter().any(|bounced| kind.starts_with(bounced))
    }

    fn broken_promise(&self) -> Option<&'static str> {
        let begins_max = match self.job {
            Job::Abort => DELIVERY_LIMIT,
            // The second attempt succeeds; a call of it is asked again if the caller said so.
            Job::FailFirst => 2,
            _ => 1,
        };
        match &self.outcome {
            None | Some(Outcome::Hung) => Some("hung: no outcome by the deadline and a second"),
            Some(Outcome::Failed { has_not_run: true, .. }) if self.begun > 0 => Some(RAN_AFTER_ALL),
            Some(Outcome::Answered) if self.done == 0 => Some("answered, and never done"),
            Some(Outcome::Confirmed) if self.done == 0 => Some("a confirmed task was not done"),
            _ if self.job == Job::Abort && self.begun > begins_max => {
                Some("poison beyond the delivery limit")
            }
            _ if !self.had_losses && self.begun > begins_max => Some("ran twice, and nothing was lost"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with a story: b begun, d done; then what the caller was told.
    fn check(story: &str, had_losses: bool, outcome: Option<Outcome>, expected: Option<&str>) {
        let records = Records::default();
        records.asked("id", 1, Job::Quick, had_losses);
        for step in story.chars() {
            records.noted(if step == 'b' { Mark::Begun } else { Mark::Done }, "id");
        }
        if let Some(outcome) = outcome.clone() {
            records.ended("id", outcome);
        }
        let found = records.requests()["id"].broken_promise();
        assert_eq!(found.is_some(), expected.is_some(), "{story} {outcome:?}: {found:?}");
        assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{found:?}");
    }

    #[test]
    fn promises_are_judged() {
        let failed = |has_not_run| Some(Outcome::Failed { kind: "expired".to_owned(), has_not_run });
        check("bd", false, Some(Outcome::Answered), None);
        check("bbd", true, Some(Outcome::Answered), None);
        check("b", false, failed(false), None);
        check("", false, failed(true), None);
        check("", false, Some(Outcome::Dropped), None);
        check("bdbd", false, Some(Outcome::Answered), Some("twice"));
        check("b", true, failed(true), Some("not to have run"));
        check("", true, Some(Outcome::Answered), Some("never done"));
        check("b", true, Some(Outcome::Confirmed), Some("not done"));
        check("bd", false, None, Some("hung"));
        check("bd", false, Some(Outcome::Hung), Some("hung"));
    }
}
