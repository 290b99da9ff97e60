//! One connection through the proxy: two pumps, each of which holds bytes for as long as the faults say.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Direction, Faults};
use crate::random::Random;

const CHUNK_BYTES: usize = 16 << 10;
/// Chunks that a pump holds while they are delayed; then it reads no more, as a network that is full.
const HELD_CHUNKS: usize = 1024;
/// A limited pump writes what may pass in this time, then waits for as long.
const SLICES_PER_S: u64 = 100;

/// Bytes on their way; none: the sender has ended its half of the connection.
struct Held {
    due: Instant,
    bytes: Vec<u8>,
}

/// Relays one connection until both sides have ended it, one has failed, or it is cut.
pub(super) async fn run(
    mut client: TcpStream,
    upstream: SocketAddr,
    faults: watch::Receiver<Faults>,
    seed: u64,
) {
    let mut cuts = faults.clone();
    let before = cuts.borrow_and_update().cuts;
    // An error says that the proxy is gone, which ends its connections too.
    let cut = async move { drop(cuts.wait_for(|faults| faults.cuts != before).await) };
    tokio::pin!(cut);
    let connected = tokio::select! {
        connected = connect(upstream, faults.clone()) => connected,
        () = &mut cut => Err(io::ErrorKind::ConnectionReset.into()),
    };
    let Ok(mut upstream) = connected else { return reset(client) };
    let ended = tokio::select! {
        ended = pump_both(&mut client, &mut upstream, faults, seed) => ended,
        () = &mut cut => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if ended.is_err() {
        reset(client);
        reset(upstream);
    }
}

/// Closes so that the other side sees a reset and not an end.
fn reset(stream: TcpStream) {
    let _it_is_closed_anyway = stream.set_zero_linger();
}

async fn connect(upstream: SocketAddr, mut faults: watch::Receiver<Faults>) -> io::Result<TcpStream> {
    thawed(&mut faults).await?;
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn pump_both(
    client: &mut TcpStream,
    upstream: &mut TcpStream,
    faults: watch::Receiver<Faults>,
    seed: u64,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_upstream, to_upstream) = upstream.split();
    let random = Random::new(seed);
    tokio::try_join!(
        pump(from_client, to_upstream, Direction::ToUpstream, faults.clone(), random.clone()),
        pump(from_upstream, to_client, Direction::ToClient, faults, random),
    )?;
    Ok(())
}

async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    faults: watch::Receiver<Faults>,
    random: Random,
) -> io::Result<()> {
    let (hold, held) = mpsc::channel(HELD_CHUNKS);
    tokio::try_join!(receive(from, hold, direction, faults.clone(), random), send(to, held, faults))?;
    Ok(())
}

/// Reads, and notes when each chunk may go on.
async fn receive(
    mut from: ReadHalf<'_>,
    hold: mpsc::Sender<Held>,
    direction: Direction,
    mut faults: watch::Receiver<Faults>,
    mut random: Random,
) -> io::Result<()> {
    let mut latest = Instant::now();
    loop {
        thawed(&mut faults).await?;
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        let read = from.read_buf(&mut bytes).await;
        thawed(&mut faults).await?; // a freeze holds a reset too
        let is_end = read? == 0;
        let latency = faults.borrow().latency(direction);
        let jitter = Duration::from_nanos(random.below(latency.jitter.as_nanos() as u64 + 1));
        // Chance must not change the order.
        latest = latest.max(Instant::now() + latency.delay + jitter);
        let held = hold.send(Held { due: latest, bytes }).await;
        if is_end || held.is_err() {
            return Ok(());
        }
    }
}

/// Writes what is due, at most at the speed that is allowed, and nothing during a freeze.
async fn send(
    mut to: WriteHalf<'_>,
    mut held: mpsc::Receiver<Held>,
    mut faults: watch::Receiver<Faults>,
) -> io::Result<()> {
    while let Some(Held { due, bytes }) = held.recv().await {
        sleep_until(due).await;
        thawed(&mut faults).await?;
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            rest = send_slice(&mut to, rest, &mut faults).await?;
        }
    }
    Ok(())
}

/// Writes what may pass at once and takes the time that it takes; answers what is left.
async fn send_slice<'b>(
    to: &mut WriteHalf<'_>,
    bytes: &'b [u8],
    faults: &mut watch::Receiver<Faults>,
) -> io::Result<&'b [u8]> {
    thawed(faults).await?;
    let limit = faults.borrow().bytes_per_s;
    let Some(bytes_per_s) = limit.map(|limit| limit.max(1)) else {
        to.write_all(bytes).await?;
        return Ok(&[]);
    };
    let slice_bytes = (bytes_per_s / SLICES_PER_S).max(1).min(bytes.len() as u64);
    let (slice, rest) = bytes.split_at(slice_bytes as usize);
    to.write_all(slice).await?;
    sleep(Duration::from_secs_f64(slice_bytes as f64 / bytes_per_s as f64)).await;
    Ok(rest)
}

async fn thawed(faults: &mut watch::Receiver<Faults>) -> io::Result<()> {
    let watched = faults.wait_for(|faults| !faults.frozen).await;
    watched.map(drop).map_err(|_the_proxy_is_gone| io::ErrorKind::BrokenPipe.into())
}
