//! The octets of a connection: those of its socket, or TLS above it. What is not encrypted goes to the kernel as if
//! this module were not there.
//!
//! ```text
//!  FrameReader ─┐               ┌─ Plain   socket, socket        two handles of one socket, no lock
//!  Writer ──────┴─ Transport ───┴─ Secure  one session, locked   both halves are of one thread: nobody ever waits
//! ```

use crate::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, BufReader, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// rustls reads 4 KiB at a time, from here instead of from the kernel.
const ENCRYPTED_BUFFER_BYTES: usize = 256 * 1024;

/// How to encrypt: whom to trust, who we are, and which name the broker's certificate must have.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// One half of a connection.
pub(crate) enum Transport {
    Plain(TcpStream),
    Secure(Arc<Mutex<Session>>),
}

type Session = StreamOwned<ClientConnection, Socket>;

impl Transport {
    /// Both halves of a socket that was connected, after the handshake of TLS if that is wanted.
    ///
    /// # Errors
    /// The socket, or one side does not trust the other.
    pub(crate) fn halves(socket: TcpStream, tls: Option<&Tls>) -> Result<(Transport, Transport)> {
        let Some(tls) = tls else {
            let other = socket.try_clone().map_err(Error::socket("setting options of the socket"))?;
            return Ok((Transport::Plain(socket), Transport::Plain(other)));
        };
        let shaking = "TLS handshake";
        let session = ClientConnection::new(tls.config.clone(), tls.name.clone());
        let session = session.map_err(|error| Error::Socket(shaking, io::Error::other(error)))?;
        let socket = Socket(BufReader::with_capacity(ENCRYPTED_BUFFER_BYTES, socket));
        let mut session = StreamOwned::new(session, socket);
        while session.conn.is_handshaking() {
            session.conn.complete_io(&mut session.sock).map_err(Error::socket(shaking))?;
        }
        let session = Arc::new(Mutex::new(session));
        Ok((Transport::Secure(session.clone()), Transport::Secure(session)))
    }

    /// How long a read may block, for both halves.
    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.set_read_timeout(Some(timeout)),
            Transport::Secure(session) => lock(session).sock.0.get_ref().set_read_timeout(Some(timeout)),
        }
    }

    /// Whether a read would bring something, now or before `timeout` has passed.
    ///
    /// # Errors
    /// The socket failed.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        match self {
            Transport::Plain(socket) => readable(socket, timeout),
            Transport::Secure(session) => {
                let session = lock(session);
                // What was decrypted, or has left the kernel, the kernel tells nobody about.
                let here = !session.conn.wants_read() || !session.sock.0.buffer().is_empty();
                if here { Ok(true) } else { readable(session.sock.0.get_ref(), timeout) }
            }
        }
    }

    /// Says that nothing more will be sent. A bare socket says so by being closed.
    pub(crate) fn end(&mut self) {
        if let Transport::Secure(session) = self {
            let mut session = lock(session);
            session.conn.send_close_notify();
            // The peer may have gone first.
            let _ = session.flush();
        }
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(buffer),
            Transport::Secure(session) => lock(session).read(buffer),
        }
    }
}

/// TLS may keep what was written to it until it is flushed; a bare socket keeps nothing.
impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write(bytes),
            Transport::Secure(session) => lock(session).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(_) => Ok(()),
            Transport::Secure(session) => lock(session).flush(),
        }
    }
}

/// What TLS reads and writes: encrypted octets, read in large pieces.
pub(crate) struct Socket(BufReader<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// More precise than the timeout of a read.
fn readable(socket: &TcpStream, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A thread that panicked in the middle of TLS has ended the load; its octets are nobody's any more.
fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}
