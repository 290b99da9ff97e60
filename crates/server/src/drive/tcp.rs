//! A connection over plain TCP. Reads go through one large buffer per thread, so an idle connection has none.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::acknowledging::Acknowledging;
use super::{Driver, Flow};
use crate::lobby::Guest;
use crate::outbox::{Flushed, Outbox};
use crate::peer::Peer;
use crate::session::Step;
use crate::shared::Shared;

/// Read at a time; everything one read returns is one batch.
const READ_BYTES: usize = 256 << 10;
/// Less than a segment: the client's kernel may hold back what follows.
const SMALL_READ_BYTES: usize = 1400;
/// Reads before other connections of the thread have their turn.
const READS_IN_A_ROW: usize = 8;
/// How long a connection that is over may take to have our last words written.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a client that said goodbye may take to close the socket before we do.
const END_TIMEOUT: Duration = Duration::from_millis(500);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Serves a client until it is gone. No `async fn`: that would keep its arguments beside what is made of them.
pub(crate) fn serve_tcp(
    socket: TcpStream,
    shared: Arc<Shared>,
    peer: Peer,
    guest: Guest,
) -> impl Future<Output = ()> + Send {
    let socket = Arc::new(socket);
    let outbox = Outbox::new(Some(socket.clone()), peer.traffic.clone());
    let mut driver = Driver::new(shared, outbox, peer, Some(guest));
    async move {
        let flow = drive(&mut driver, &socket).await;
        if flow != Flow::Gone {
            // Apart, since every connection would have the room for it from the start.
            Box::pin(say_goodbye(&socket, &driver.outbox, flow == Flow::HangUp)).await;
        }
    }
}

async fn drive(driver: &mut Driver, socket: &TcpStream) -> Flow {
    let mut acknowledging = Acknowledging::new();
    loop {
        let stuck = driver.outbox.is_stuck();
        let interest = match (driver.may_read(), stuck) {
            (true, false) => Some(Interest::READABLE),
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        };
        let flow = tokio::select! {
            ready = ready(socket, interest) => match ready {
                Ok(ready) => {
                    let mut flow = Flow::Continue;
                    if ready.is_writable() && stuck {
                        driver.outbox.resume();
                        let step = driver.session.wake_up();
                        flow = driver.follow(step).await;
                    }
                    let reads = flow == Flow::Continue && ready.is_readable() && driver.may_read();
                    if reads { read(driver, socket, &mut acknowledging).await } else { flow }
                }
                Err(_) => Flow::Gone,
            },
            disturbance = driver.disturbed() => driver.handle(disturbance).await,
        };
        if flow != Flow::Continue {
            return flow;
        }
    }
}

async fn ready(socket: &TcpStream, interest: Option<Interest>) -> io::Result<tokio::io::Ready> {
    match interest {
        Some(interest) => socket.ready(interest).await,
        None => std::future::pending().await,
    }
}

async fn read(driver: &mut Driver, socket: &TcpStream, acknowledging: &mut Acknowledging) -> Flow {
    match read_row(driver, socket, acknowledging) {
        Ok(Row::Empty) => Flow::Continue,
        Ok(Row::Full) => {
            tokio::task::yield_now().await;
            Flow::Continue
        }
        Ok(Row::Step(step)) => driver.follow(step).await,
        Ok(Row::End) => Flow::Gone,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flow::Continue,
        Err(_) => Flow::Gone,
    }
}

/// What reading several times came to.
enum Row {
    /// The socket is empty, or no more may be read.
    Empty,
    /// More is there, but others have their turn.
    Full,
    /// This has to be done before more is read.
    Step(Step),
    /// The peer has closed.
    End,
}

/// Reads what there is, in large pieces, and has each dealt with. What is not a whole frame yet stays in front of the
/// next piece, and is kept apart only in the end.
fn read_row(driver: &mut Driver, socket: &TcpStream, acknowledging: &mut Acknowledging) -> io::Result<Row> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut input = Input::begin(scratch, &std::mem::take(&mut driver.partial));
        let row = (0..READS_IN_A_ROW)
            .find_map(|_| read_once(driver, socket, acknowledging, &mut input).transpose())
            .unwrap_or(Ok(Row::Full));
        driver.partial = input.rest();
        row
    })
}

/// Reads once and has that dealt with. `None`: there may be more.
fn read_once(
    driver: &mut Driver,
    socket: &TcpStream,
    acknowledging: &mut Acknowledging,
    input: &mut Input<'_>,
) -> io::Result<Option<Row>> {
    let count = receive(socket, input.room())?;
    if count == 0 {
        return Ok(Some(Row::End));
    }
    driver.received(count);
    let is_small = count < SMALL_READ_BYTES;
    let hurries = is_small && acknowledging.at_once(Instant::now(), driver.outbox.sent_bytes());
    let (used, step) = driver.session.receive(input.received(count));
    input.used(used);
    if hurries {
        acknowledge_at_once(socket);
    }
    let Step::More = step else { return Ok(Some(Row::Step(step))) };
    driver.after_input();
    Ok((is_small || !driver.may_read()).then_some(Row::Empty))
}

/// What was read and is not dealt with yet: the front of the thread's buffer.
struct Input<'b> {
    buffer: &'b mut Vec<u8>,
    size_bytes: usize,
}

impl<'b> Input<'b> {
    /// Begins with what was kept from before.
    fn begin(buffer: &'b mut Vec<u8>, kept: &[u8]) -> Self {
        let mut input = Self { buffer, size_bytes: 0 };
        if !kept.is_empty() {
            input.buffer.resize(input.buffer.len().max(kept.len()), 0);
            input.buffer[..kept.len()].copy_from_slice(kept);
            input.size_bytes = kept.len();
        }
        input
    }

    /// Where the next octets go.
    fn room(&mut self) -> &mut [u8] {
        let end = self.size_bytes + READ_BYTES;
        self.buffer.resize(self.buffer.len().max(end), 0);
        &mut self.buffer[self.size_bytes..end]
    }

    /// So many have come; answers all there are.
    fn received(&mut self, count: usize) -> &[u8] {
        self.size_bytes += count;
        &self.buffer[..self.size_bytes]
    }

    /// So many are done with.
    fn used(&mut self, count: usize) {
        self.buffer.copy_within(count..self.size_bytes, 0);
        self.size_bytes -= count;
    }

    /// What is left, without more room than that: idle connections have no buffers.
    fn rest(&self) -> Vec<u8> {
        self.buffer[..self.size_bytes].to_vec()
    }
}

/// A read that does not fill the buffer has emptied the socket. After a small one Tokio is told so, as by a read that would
/// block, which saves that one; what comes meanwhile is an event of its own. After a large one more is likely to be there
/// by now, and reading again is cheaper than waiting for that event.
fn receive(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut received = None;
    let tried = socket.try_io(Interest::READABLE, || {
        let count = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?.0;
        received = Some(count);
        if 0 < count && count < SMALL_READ_BYTES { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
    });
    received.map_or(tried, Ok)
}

/// Not sticky, hence at every small read it is meant for; nothing is sent when our answer has carried the acknowledgement
/// already.
fn acknowledge_at_once(socket: &TcpStream) {
    if let Err(error) = rustix::net::sockopt::set_tcp_quickack(socket, true) {
        tracing::debug!(%error, "no TCP_QUICKACK");
    }
}

/// Writes what is left and reads until the client hangs up, so that no reset overtakes our last words; with
/// `hang_up` it is told at once that nothing follows them. Whoever takes too long is cut off.
async fn say_goodbye(socket: &TcpStream, outbox: &Outbox, hang_up: bool) {
    if tokio::time::timeout(LAST_WORDS_TIMEOUT, write_rest(socket, outbox)).await.is_err() {
        return;
    }
    if hang_up {
        // An error means that the socket is gone, and then reading ends too.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
    }
    let _ = tokio::time::timeout(END_TIMEOUT, read_to_end(socket)).await;
}

async fn write_rest(socket: &TcpStream, outbox: &Outbox) {
    while !outbox.is_empty() {
        if socket.writable().await.is_err() || outbox.resume() == Flushed::Closed {
            return;
        }
        outbox.flush();
    }
}

async fn read_to_end(socket: &TcpStream) {
    let mut discard = [0; 1024];
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut discard) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}
