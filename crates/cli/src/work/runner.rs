//! The two ways to run a program for a service.

use leveret::Failure;

use super::job::{Job, Output};
use super::per_request::PerRequest;
use super::pool::Pool;

/// Answers requests with a program.
pub(crate) enum Runner {
    /// A process for each request: any program.
    PerRequest(PerRequest),
    /// Long-lived processes that speak lines of JSON: programs that are slow to start.
    Pool(Pool),
}

impl Runner {
    /// Answers one request. Dropping the future cancels it: the program is ended as at the deadline.
    ///
    /// # Errors
    /// What the program says, or that it did not say anything in time.
    pub(crate) async fn run(&self, job: Job) -> Result<Output, Failure> {
        match self {
            Runner::PerRequest(runner) => runner.run(job).await,
            Runner::Pool(pool) => pool.run(job).await,
        }
    }

    /// Ends what still runs, and waits for that: the processes of a pool, and those whose request was cancelled.
    pub(crate) async fn close(&self) {
        match self {
            Runner::PerRequest(runner) => runner.census.none_left().await,
            Runner::Pool(pool) => pool.close().await,
        }
    }
}
