//! A body that comes by stdin.

use std::io::{self, Read};

use crate::failure::Failure;

/// All of it, read on a thread of its own: a pipe may be silent for hours.
///
/// # Errors
/// It cannot be read.
pub(crate) async fn read_stdin() -> Result<Vec<u8>, Failure> {
    let reading = tokio::task::spawn_blocking(|| {
        let mut body = Vec::new();
        io::stdin().lock().read_to_end(&mut body).map(|_| body)
    });
    let body = reading.await.map_err(|error| Failure::Other(error.into()))?;
    Ok(body?)
}
