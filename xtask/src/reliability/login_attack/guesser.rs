//! Logins as a stranger makes them, and a crowd of strangers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

use crate::reliability::lying::start_ok;

const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";
/// Class and method of `connection.tune`: whoever hears it is in.
const TUNE: [u8; 4] = [0, 10, 0, 30];
/// More wrong guesses from one address are refused unheard.
const GUESSES_PER_SOURCE: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// Addresses of this machine, all of 127.0.0.0/8 being its own.
#[derive(Debug)]
pub(super) struct Sources {
    next: u32,
}

impl Sources {
    /// Of those who measure.
    pub(super) fn strangers() -> Sources {
        Sources { next: u32::from(Ipv4Addr::new(127, 200, 0, 1)) }
    }

    /// Of one guesser; 65,535 of them.
    fn of_guesser(number: usize) -> Sources {
        Sources { next: u32::from(Ipv4Addr::new(127, 1 + number as u8, 0, 1)) }
    }

    /// Whence no wrong password comes.
    pub(super) fn honest() -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, 9)
    }

    pub(super) fn next(&mut self) -> Ipv4Addr {
        self.next += 1;
        Ipv4Addr::from(self.next - 1)
    }
}

/// How a login ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login {
    pub(super) let_in: bool,
    /// From the password to the answer, or to the end of the connection.
    pub(super) took: Duration,
}

/// One login.
///
/// # Errors
/// The broker does not greet.
pub(super) async fn log_in(broker: SocketAddr, from: Ipv4Addr, user: &str, password: &str) -> Result<Login> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(broker).await?;
    stream.set_nodelay(true)?;
    stream.write_all(PROTOCOL_HEADER).await?;
    frame(&mut stream).await.context("no greeting")?;
    let began = Instant::now();
    stream.write_all(&start_ok(&[], user, password)).await?;
    // Refused clients are hung up on.
    let answer = frame(&mut stream).await.unwrap_or_default();
    Ok(Login { let_in: answer.starts_with(&TUNE), took: began.elapsed() })
}

/// The payload of the next frame.
async fn frame(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    ensure!(size < 1 << 16, "a greeting of {size} octets");
    let mut payload = vec![0; size + 1];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

/// A crowd that guesses as fast as it is answered, while it is told to.
pub(super) struct Guessers {
    attack: Arc<AtomicBool>,
    guesses: Arc<AtomicU64>,
    tasks: Vec<AbortHandle>,
}

impl Guessers {
    /// They wait for [`attack`](Self::attack).
    pub(super) fn start(runtime: &Runtime, broker: SocketAddr, count: usize) -> Guessers {
        let (attack, guesses) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..count).map(|number| {
            let (attack, guesses) = (attack.clone(), guesses.clone());
            runtime.spawn(guess(broker, Sources::of_guesser(number), attack, guesses)).abort_handle()
        });
        let tasks = tasks.collect();
        Guessers { attack, guesses, tasks }
    }

    pub(super) fn attack(&self, whether: bool) {
        self.attack.store(whether, Ordering::Relaxed);
    }

    /// How many were answered.
    pub(super) fn guesses(&self) -> u64 {
        self.guesses.load(Ordering::Relaxed)
    }
}

impl Drop for Guessers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

async fn guess(broker: SocketAddr, mut sources: Sources, attack: Arc<AtomicBool>, guesses: Arc<AtomicU64>) {
    loop {
        let source = sources.next();
        for guess in 0..GUESSES_PER_SOURCE {
            while !attack.load(Ordering::Relaxed) {
                tokio::time::sleep(PAUSE).await;
            }
            if log_in(broker, source, "guest", &format!("guess {guess}")).await.is_ok() {
                guesses.fetch_add(1, Ordering::Relaxed);
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
