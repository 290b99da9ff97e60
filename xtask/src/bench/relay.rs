//! No broker at all: a process that copies bytes between two sockets and looks at none of them. Nobody who reads what
//! one socket brings and writes it to another can be faster, so beside a broker it shows how much the broker adds; and
//! it shows that the load generator is not what is measured.
//!
//! The first two connections are a pair, then the next two: what one sends, the other receives.

use super::socket;
use anyhow::{Context, Result, ensure};
use leveret_bench::frames::{
    BODY, Frame, FrameReader, HAS_CORRELATION_ID, HAS_REPLY_TO, write_publish, write_short_string,
};
use leveret_bench::load::{Batch, Counters, Histogram, NUMBER_BYTES};
use leveret_bench::rpc;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// More at a time was not faster.
const COPY_BYTES: usize = 256 * 1024;
const QUEUE: &[u8] = b"relay";

/// Serves on `address` until the process is ended.
pub(super) fn serve(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    loop {
        let (left, right) = (listener.accept()?.0, listener.accept()?.0);
        for stream in [&left, &right] {
            stream.set_nodelay(true)?;
        }
        let (from_left, from_right) = (left.try_clone()?, right.try_clone()?);
        std::thread::spawn(move || copy(from_left, right));
        std::thread::spawn(move || copy(from_right, left));
    }
}

/// A client that goes is all an error here can mean; the other one shall see it too.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; COPY_BYTES];
    while let Ok(read) = from.read(&mut buffer)
        && read > 0
        && to.write_all(&buffer[..read]).is_ok()
    {}
    for stream in [from, to] {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// One end of a pair. It writes and reads the frames that it would if a broker were between the ends.
pub(super) struct End {
    stream: TcpStream,
    reader: FrameReader,
}

/// The two ends of a new pair.
pub(super) fn pair(address: SocketAddr) -> Result<(End, End)> {
    Ok((End::connect(address)?, End::connect(address)?))
}

impl End {
    fn connect(address: SocketAddr) -> Result<End> {
        let stream = socket::connect(address)?;
        Ok(End { reader: FrameReader::new(stream.try_clone()?), stream })
    }

    /// Takes what one read brings; `each` is called with every whole frame.
    fn receive(&mut self, mut each: impl FnMut(Frame<'_>) -> Result<()>) -> Result<()> {
        self.reader.fill_patiently()?;
        while let Some(frame) = self.reader.next_buffered()? {
            each(frame)?;
        }
        Ok(())
    }
}

/// Publishes as fast as the socket takes it, until stopped.
pub(super) fn publish(mut end: End, mut batch: Batch, counters: &Counters) -> Result<()> {
    let count = batch.capacity();
    let mut number = 0;
    until_stopped(counters, || {
        socket::send(&mut end.stream, batch.numbered(number, count), &counters.stop)?;
        number += count;
        counters.sent.fetch_add(count, Ordering::Relaxed);
        Ok(())
    })
}

/// Counts messages until stopped. Any gap in their numbers is an error.
pub(super) fn consume(mut end: End, counters: &Counters) -> Result<()> {
    let mut wanted: u64 = 0;
    until_stopped(counters, || {
        let before = wanted;
        end.receive(|frame| {
            if frame.kind == BODY {
                let number = frame.payload.first_chunk::<NUMBER_BYTES>().context("a body is too short")?;
                ensure!(u64::from_be_bytes(*number) == wanted, "another message came instead of {wanted}");
                wanted += 1;
            }
            Ok(())
        })?;
        counters.received.fetch_add(wanted - before, Ordering::Relaxed);
        Ok(())
    })
}

/// Calls until stopped; returns how long answers took. Answers come in the order of the calls.
pub(super) fn request(mut end: End, in_flight: u32, counters: &Counters) -> Result<Histogram> {
    let mut properties = Vec::new();
    write_short_string(&mut properties, b"00000000");
    write_short_string(&mut properties, QUEUE);
    let (mut out, mut sent_at) = (Vec::new(), VecDeque::new());
    let mut latencies = Histogram::default();
    let mut owed = in_flight;
    until_stopped(counters, || {
        out.clear();
        let now = Instant::now();
        for _ in 0..owed {
            let flags = HAS_CORRELATION_ID | HAS_REPLY_TO;
            write_publish(&mut out, QUEUE, flags, &properties, &[b'?'; rpc::BODY_BYTES]);
            sent_at.push_back(now);
        }
        socket::send(&mut end.stream, &out, &counters.stop)?;
        owed = 0;
        end.receive(|frame| {
            owed += u32::from(frame.kind == BODY);
            Ok(())
        })?;
        let now = Instant::now();
        for sent in sent_at.drain(..owed as usize) {
            if counters.is_recording() {
                latencies.record(now - sent);
            }
        }
        counters.sent.fetch_add(owed.into(), Ordering::Relaxed);
        counters.received.fetch_add(owed.into(), Ordering::Relaxed);
        Ok(())
    })?;
    Ok(latencies)
}

/// Echoes until stopped.
pub(super) fn respond(mut end: End, counters: &Counters) -> Result<()> {
    let mut properties = Vec::new();
    write_short_string(&mut properties, b"00000000");
    let mut out = Vec::new();
    until_stopped(counters, || {
        out.clear();
        end.receive(|frame| {
            if frame.kind == BODY {
                write_publish(&mut out, QUEUE, HAS_CORRELATION_ID, &properties, frame.payload);
            }
            Ok(())
        })?;
        socket::send(&mut end.stream, &out, &counters.stop).map(drop)
    })
}

/// Repeats a step. The other end may be gone first when a load is over: that is no error.
fn until_stopped(counters: &Counters, mut step: impl FnMut() -> Result<()>) -> Result<()> {
    while !counters.stopped() {
        match step() {
            Err(error) if !counters.stopped() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn calls_are_answered_through_the_relay() {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        thread::spawn(move || serve(&address.to_string()));
        let (requester, responder) = loop {
            if let Ok(pair) = pair(address) {
                break pair;
            }
        };
        let counters = Counters::default();
        thread::scope(|scope| {
            scope.spawn(|| counters.run(|| respond(responder, &counters)).unwrap());
            scope.spawn(|| counters.run(|| request(requester, 8, &counters)).unwrap());
            while counters.received.load(Ordering::Relaxed) < 100 && !counters.stopped() {
                thread::sleep(Duration::from_millis(1));
            }
            counters.stop.store(true, Ordering::Relaxed);
        });
        assert!(counters.received.load(Ordering::Relaxed) >= 100);
    }
}
