//! A blocking socket for the peers that do not speak AMQP, with the habits of `leveret_bench`'s own: one large read
//! at a time into a buffer that never grows, and an end within a tenth of a second when the load is over.

use anyhow::{Context, Result, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// As much as a reader of AMQP frames takes at once.
const BUFFER_BYTES: usize = 512 * 1024;
/// How often a blocked call looks whether it shall stop.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// A server that owes something and sends nothing for so long has lost it.
const SILENCE_MAX: Duration = Duration::from_secs(60);

pub(super) struct Socket {
    stream: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    silent_since: Option<Instant>,
}

/// A stream with short timeouts, for `send` and for reads in between which one looks whether to stop.
pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).context("connecting")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STOP_CHECK))?;
    stream.set_write_timeout(Some(STOP_CHECK))?;
    Ok(stream)
}

/// Sends all of `bytes`; false when `stop` was set before.
pub(super) fn send(stream: &mut TcpStream, mut bytes: &[u8], stop: &AtomicBool) -> Result<bool> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if is_timeout(&error) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error).context("writing"),
        }
    }
    Ok(true)
}

impl Socket {
    pub(super) fn connect(address: SocketAddr) -> Result<Socket> {
        let stream = connect(address)?;
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Socket { stream, buffer, start: 0, end: 0, silent_since: None })
    }

    /// Sends all of `bytes`; false when `stop` was set before.
    pub(super) fn send(&mut self, bytes: &[u8], stop: &AtomicBool) -> Result<bool> {
        send(&mut self.stream, bytes, stop)
    }

    /// One read; false when nothing came for a while.
    pub(super) fn fill(&mut self) -> Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        ensure!(self.end < self.buffer.len(), "a message of more than {BUFFER_BYTES} bytes came");
        match self.stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(read) => {
                self.end += read;
                Ok(true)
            }
            Err(error) if is_timeout(&error) => Ok(false),
            Err(error) => Err(error).context("reading"),
        }
    }

    /// One read, for callers that are owed something: an error when nothing has come for too long.
    pub(super) fn fill_patiently(&mut self) -> Result<()> {
        if self.fill()? {
            self.silent_since = None;
            return Ok(());
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        ensure!(since.elapsed() < SILENCE_MAX, "nothing came for {SILENCE_MAX:?}");
        Ok(())
    }

    /// What has been read and not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes the next `len` bytes, if all of them have been read.
    pub(super) fn take(&mut self, len: usize) -> Option<&[u8]> {
        let start = self.start;
        let taken = self.buffer[..self.end].get(start..start.checked_add(len)?)?;
        self.start += len;
        Some(taken)
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_is_cut_comes_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = Socket::connect(listener.local_addr().unwrap()).unwrap();
        let mut sender = listener.accept().unwrap().0;
        let mut seen = Vec::new();
        for piece in (0..60).collect::<Vec<u8>>().chunks(7) {
            sender.write_all(piece).unwrap();
            assert!(socket.fill().unwrap());
            while let Some(taken) = socket.take(10) {
                seen.push(taken.to_vec());
            }
        }
        assert_eq!(seen.concat(), (0..60).collect::<Vec<u8>>());
        assert!(!socket.fill().unwrap() && socket.rest().is_empty());
    }
}
