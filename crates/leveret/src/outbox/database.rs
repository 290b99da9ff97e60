//! What a relay needs of a database, whichever it is.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use super::row::{Row, Settlement};

/// Why the database cannot be used just now.
pub(super) type DatabaseError = Box<dyn Error + Send + Sync>;

/// A place with an outbox in it.
pub(super) trait Database: Send + Sync + 'static {
    type Session: Session;

    /// Connects. Waits if only one relay may work at a time and it is another's turn.
    fn open(&self) -> impl Future<Output = Result<Self::Session, DatabaseError>> + Send;
}

/// A connection to the database of an outbox. After an error it is not used again.
pub(super) trait Session: Send + 'static {
    /// At most `limit` rows that may leave now, in the order of their ids. Until they are settled, no other relay gets
    /// them, nor any that come after them under the same order key.
    fn claim(&mut self, limit: usize) -> impl Future<Output = Result<Vec<Row>, DatabaseError>> + Send;

    /// Writes down what came of them. Those it says nothing about are free again.
    fn settle(
        &mut self,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Returns when there may be something new, at the latest after `poll`.
    fn wait(&mut self, poll: Duration) -> impl Future<Output = Result<(), DatabaseError>> + Send;
}
