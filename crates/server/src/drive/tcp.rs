//! A connection over plain TCP. Reads go through one large buffer per thread, so an idle connection has none.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{Driver, Flow};
use crate::outbox::{Flushed, Outbox};
use crate::session::Step;
use crate::shared::{Shared, is_loopback};

/// Read at a time; everything one read returns is one batch.
const READ_BYTES: usize = 256 << 10;
/// Reads before other connections of the thread have their turn.
const READS_IN_A_ROW: usize = 8;
/// How long a closing connection may take to write its last words.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Serves a client until it is gone.
pub(crate) async fn serve_tcp(socket: TcpStream, shared: Arc<Shared>) {
    let loopback = socket.peer_addr().is_ok_and(|peer| is_loopback(peer.ip()));
    let socket = Arc::new(socket);
    let outbox = Outbox::new(Some(socket.clone()));
    let mut driver = Driver::new(shared, outbox.clone(), loopback);
    let flow = drive(&mut driver, &socket).await;
    if flow == Flow::HangUp {
        let farewell = last_words(&socket, &outbox);
        drop(tokio::time::timeout(LAST_WORDS_TIMEOUT, farewell).await); // nobody to tell
    }
}

async fn drive(driver: &mut Driver, socket: &TcpStream) -> Flow {
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
                    if ready.is_writable() && stuck {
                        driver.outbox.resume();
                        driver.session.has_room();
                    }
                    if ready.is_readable() && driver.may_read() { read(driver, socket).await } else { Flow::Continue }
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

async fn read(driver: &mut Driver, socket: &TcpStream) -> Flow {
    for _ in 0..READS_IN_A_ROW {
        let step = match read_once(driver, socket) {
            Ok(Some(step)) => step,
            Ok(None) => return Flow::Gone,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flow::Continue,
            Err(_) => return Flow::Gone,
        };
        let flow = driver.follow(step).await;
        if flow != Flow::Continue || !driver.may_read() {
            return flow;
        }
    }
    tokio::task::yield_now().await;
    Flow::Continue
}

/// Reads what there is and has it dealt with. `None`: the peer has closed.
fn read_once(driver: &mut Driver, socket: &TcpStream) -> io::Result<Option<Step>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let kept = driver.partial.len();
        scratch.resize(scratch.len().max(kept + READ_BYTES), 0);
        let count = socket.try_read(&mut scratch[kept..kept + READ_BYTES])?;
        if count == 0 {
            return Ok(None);
        }
        scratch[..kept].copy_from_slice(&driver.partial);
        driver.heart.heard();
        driver.shared.received(count);
        Ok(Some(driver.receive(&scratch[..kept + count])))
    })
}

/// Writes what is left and lets the peer hang up first, so that it reads our last words before a reset.
async fn last_words(socket: &TcpStream, outbox: &Outbox) {
    while !outbox.is_empty() {
        if socket.writable().await.is_err() || outbox.resume() == Flushed::Closed {
            return;
        }
        outbox.flush();
    }
    let mut discard = [0; 1024];
    let _unlinked = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut discard) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}
