//! What a migration has done, for people and for machines.

use std::io::{self, Write};

use serde::Serialize;

use super::lane::{Outcome, QueueMove};

/// The end of a migration, or what it would do.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Nothing is left at the source, as far as is known.
    pub(super) complete: bool,
    pub(super) queues: Vec<QueueReport>,
    /// Definitions that were not migrated, and why.
    pub(super) left_out: Vec<String>,
    /// What the destination refused.
    pub(super) refused: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct QueueReport {
    pub(super) vhost: String,
    pub(super) name: String,
    /// Messages confirmed by the destination, in this run and earlier ones that left their state.
    pub(super) moved: u64,
    /// Those of them that are marked as possibly being there twice.
    pub(super) marked: u64,
    /// Messages ready at the source.
    pub(super) left: Option<u64>,
    /// Messages that consumers hold at the source; `None` if it cannot be asked.
    pub(super) unacknowledged: Option<u64>,
    /// Messages ready at the destination.
    pub(super) at_destination: Option<u64>,
    /// Why it is not moved, if it is not.
    pub(super) problem: Option<String>,
}

impl QueueReport {
    pub(super) fn new(queue: &QueueMove, outcome: &Outcome) -> Self {
        let problem = match outcome {
            Outcome::Moved => None,
            Outcome::Stopped => Some("interrupted".to_owned()),
            Outcome::Gone => Some("the source has no such queue any more".to_owned()),
            Outcome::Failed(why) => Some(why.clone()),
        };
        let counts = queue.counts();
        Self {
            vhost: queue.vhost.clone(),
            name: queue.name.clone(),
            moved: counts.moved,
            marked: counts.marked,
            left: None,
            unacknowledged: None,
            at_destination: None,
            problem,
        }
    }

    /// A queue that is gone has nothing left.
    pub(super) fn is_complete(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Gone => true,
            Outcome::Failed(_) => false,
            Outcome::Moved | Outcome::Stopped => {
                self.left.unwrap_or(0) == 0 && self.unacknowledged.unwrap_or(0) == 0
            }
        }
    }
}

impl Report {
    /// One JSON object, or a table.
    ///
    /// # Errors
    /// Nobody reads stdout any more.
    pub(super) fn print(&self, as_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer(&mut out, self)?;
            return writeln!(out);
        }
        writeln!(out, "vhost\tqueue\tmoved\tmarked\tleft\tunacknowledged\tat destination\tproblem")?;
        for queue in &self.queues {
            let QueueReport { vhost, name, moved, marked, .. } = queue;
            let [left, unacknowledged, there] =
                [queue.left, queue.unacknowledged, queue.at_destination].map(shown);
            let problem = queue.problem.as_deref().unwrap_or("-");
            let (vhost, name) = (vhost.escape_debug(), name.escape_debug());
            writeln!(
                out,
                "{vhost}\t{name}\t{moved}\t{marked}\t{left}\t{unacknowledged}\t{there}\t{problem}"
            )?;
        }
        let moved: u64 = self.queues.iter().map(|queue| queue.moved).sum();
        let marked: u64 = self.queues.iter().map(|queue| queue.marked).sum();
        writeln!(out, "total\t{}\t{moved}\t{marked}", self.queues.len())
    }
}

fn shown(count: Option<u64>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}
