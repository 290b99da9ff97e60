//! A connection over anything that reads and writes: TLS, or memory within one process.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use super::{Driver, Flow};
use crate::buffers;
use crate::lobby::Guest;
use crate::outbox::{Outbox, WriteNow};
use crate::peer::Peer;
use crate::shared::Shared;

const READ_BYTES: usize = 32 << 10;
/// How long a closing connection may take to write its last words.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a client until it is gone.
pub(crate) async fn serve_stream<S>(stream: S, shared: Arc<Shared>, peer: Peer, guest: Option<Guest>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(stream);
    let outbox = Outbox::new(None, peer.traffic.clone());
    let writing = tokio::spawn(write_all(writer, outbox.clone()));
    let mut driver = Driver::new(shared, outbox.clone(), peer, guest);
    let flow = drive(&mut driver, &mut reader).await;
    if flow != Flow::Gone {
        drop(tokio::time::timeout(LAST_WORDS_TIMEOUT, outbox.drained()).await); // nobody to tell
    }
    drop(driver);
    outbox.filled.notify_one();
    let abort = writing.abort_handle();
    if tokio::time::timeout(LAST_WORDS_TIMEOUT, writing).await.is_err() {
        abort.abort();
    }
}

async fn drive<S: AsyncRead>(driver: &mut Driver, reader: &mut ReadHalf<S>) -> Flow {
    let mut input = vec![0; READ_BYTES];
    loop {
        let reading = driver.may_read();
        let flow = tokio::select! {
            count = reader.read(&mut input), if reading => match count {
                Ok(count) if count > 0 => {
                    driver.received(count);
                    let mut kept = std::mem::take(&mut driver.partial);
                    kept.extend_from_slice(&input[..count]);
                    let step = driver.receive(&kept);
                    driver.follow(step).await
                }
                _ => Flow::Gone,
            },
            disturbance = driver.disturbed() => driver.handle(disturbance).await,
        };
        if flow != Flow::Continue {
            return flow;
        }
    }
}

/// Writes what comes into an outbox that has no socket, until it is closed.
pub(crate) async fn write_all<S: AsyncWrite, D: WriteNow>(mut writer: WriteHalf<S>, outbox: Arc<Outbox<D>>) {
    loop {
        outbox.filled.notified().await;
        while let Some(octets) = outbox.take() {
            if writer.write_all(&octets).await.is_err() || writer.flush().await.is_err() {
                outbox.close();
                outbox.wake.notify_one();
                return;
            }
            outbox.written(octets.len());
            buffers::put_back(octets);
        }
        if outbox.is_closed() {
            // TLS: `close_notify`, so that the client knows that nothing was cut off. It may be gone by now.
            let _ = writer.shutdown().await;
            return;
        }
    }
}
