//! The inbox in a PostgreSQL database.

use std::time::Duration;

use tokio_postgres::{Error, GenericClient, Transaction};

/// Makes the table `leveret_inbox`, in the first schema of the search path. Does nothing if it is there.
///
/// # Errors
/// The database's own, e.g. no permission.
pub async fn create_table(client: &impl GenericClient) -> Result<(), Error> {
    client.batch_execute(super::SCHEMA_POSTGRES).await
}

/// Whether the service sees this message for the first time, and a note that it has, which counts when the transaction
/// commits. While another transaction has noted the same message, this waits for its end.
///
/// # Errors
/// The database's own.
pub async fn first_time(
    transaction: &Transaction<'_>,
    service: &str,
    message_id: &str,
) -> Result<bool, Error> {
    let statement = "INSERT INTO leveret_inbox (service, message_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    Ok(transaction.execute(statement, &[&service, &message_id]).await? == 1)
}

/// Forgets messages seen longer ago than this. Returns how many there were.
///
/// # Errors
/// The database's own.
pub async fn purge(client: &impl GenericClient, older_than: Duration) -> Result<u64, Error> {
    let statement = "DELETE FROM leveret_inbox WHERE received_at < now() - $1 * interval '1 second'";
    client.execute(statement, &[&older_than.as_secs_f64()]).await
}
