//! A TCP proxy that does to connections what networks do: cut them, refuse them, fall silent, be slow.
//!
//! ```text
//!   client ⇄ [ pump ─► held: delay, freeze, limit ─► ] ⇄ upstream        one relay per connection,
//!                        ▲                                               one pump per direction
//!   test ─► Faults ──────┘   (a watched value: every pump sees a change at once)
//! ```
//!
//! Bytes are never lost, changed or reordered: TCP would not let a program see that. What a program does see is
//! that they come late, or never, or that the connection ends.

mod relay;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Connections that wait to be accepted, at most.
const BACKLOG: u32 = 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the upstream.
    ToUpstream,
    /// From the upstream to the client.
    ToClient,
}

/// How late bytes come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Latency {
    delay: Duration,
    /// At most this much is added, by chance.
    jitter: Duration,
}

/// What is wrong with the network at the moment.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    frozen: bool,
    to_upstream: Latency,
    to_client: Latency,
    /// For each connection and direction; `None`: no limit.
    bytes_per_s: Option<u64>,
    /// How often everything was cut; a connection ends when it sees the count rise.
    cuts: u64,
}

impl Faults {
    fn latency(&self, direction: Direction) -> Latency {
        match direction {
            Direction::ToUpstream => self.to_upstream,
            Direction::ToClient => self.to_client,
        }
    }
}

/// How many connections there are and were.
#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
}

/// A proxy in front of one address, on a loopback port of its own. Dropping it cuts everything and frees the port.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    upstream: watch::Sender<SocketAddr>,
    faults: watch::Sender<Faults>,
    counts: Arc<Counts>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    /// Bound and never listening: keeps the port while new connections are refused.
    _reserved: TcpSocket,
}

impl FaultProxy {
    /// Starts a proxy without faults. Connections to it are connected on to `upstream`, which need not be there yet:
    /// while it is not, they are reset.
    ///
    /// # Errors
    /// There is no free port.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(upstream: SocketAddr) -> io::Result<FaultProxy> {
        let reserved = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let proxy = FaultProxy {
            address: reserved.local_addr()?,
            upstream: watch::Sender::new(upstream),
            faults: watch::Sender::new(Faults::default()),
            counts: Arc::default(),
            acceptor: Mutex::default(),
            _reserved: reserved,
        };
        *proxy.acceptor.lock() = Some(proxy.accept()?);
        Ok(proxy)
    }

    /// The upstream has moved: new connections are connected on to where it is now.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// What clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.counts.open.load(Ordering::Acquire)
    }

    /// How many connections there have ever been: how often a client came again.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Acquire)
    }

    /// Ends all connections with a reset, on both sides. New ones are accepted; see [`Self::refuse`].
    pub fn cut(&self) {
        self.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Whether new connections are refused, as if nothing listened. Has happened when it returns; those that are
    /// open stay so.
    ///
    /// # Errors
    /// The port cannot be listened on again.
    pub async fn refuse(&self, refuses: bool) -> io::Result<()> {
        let before = self.acceptor.lock().take();
        match (before, refuses) {
            (Some(acceptor), true) => {
                acceptor.abort();
                let _cancelled = acceptor.await;
            }
            (None, true) => {}
            (Some(acceptor), false) => *self.acceptor.lock() = Some(acceptor),
            (None, false) => *self.acceptor.lock() = Some(self.accept()?),
        }
        Ok(())
    }

    /// From now on nothing passes, not even the end of a connection, while all sockets stay open: a peer that is gone
    /// without a word. What is sent meanwhile is held, and passes after [`Self::thaw`].
    pub fn freeze(&self) {
        self.faults.send_modify(|faults| faults.frozen = true);
    }

    /// Ends a [`Self::freeze`].
    pub fn thaw(&self) {
        self.faults.send_modify(|faults| faults.frozen = false);
    }

    /// Bytes in this direction come `delay` later, and up to `jitter` more by chance, in their order. Concerns what
    /// arrives at the proxy from now on.
    pub fn delay(&self, direction: Direction, delay: Duration, jitter: Duration) {
        let latency = Latency { delay, jitter };
        self.faults.send_modify(|faults| match direction {
            Direction::ToUpstream => faults.to_upstream = latency,
            Direction::ToClient => faults.to_client = latency,
        });
    }

    /// At most so many bytes a second pass in each direction of each connection; `None`: any number.
    pub fn limit_bytes_per_s(&self, limit: Option<u64>) {
        self.faults.send_modify(|faults| faults.bytes_per_s = limit);
    }

    fn accept(&self) -> io::Result<JoinHandle<()>> {
        let listener = bind(self.address)?.listen(BACKLOG)?;
        let (upstream, faults, counts) =
            (self.upstream.subscribe(), self.faults.subscribe(), self.counts.clone());
        Ok(tokio::spawn(accept_all(listener, upstream, faults, counts)))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(acceptor) = self.acceptor.lock().take() {
            acceptor.abort();
        }
    }
}

/// Sockets that permit reuse may share a port as long as at most one of them listens.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept_all(
    listener: TcpListener,
    upstream: watch::Receiver<SocketAddr>,
    faults: watch::Receiver<Faults>,
    counts: Arc<Counts>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let seed = counts.accepted.fetch_add(1, Ordering::AcqRel);
        let open = Open::new(&counts);
        let relay = relay::run(client, *upstream.borrow(), faults.clone(), seed);
        tokio::spawn(async move {
            relay.await;
            drop(open);
        });
    }
}

/// Counts a connection while it is open.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Ordering::AcqRel);
        Self(counts.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const SILENCE: Duration = Duration::from_millis(100);

    /// Sends everything back, on every connection.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = peer.split();
                    let _until_its_end = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn proxied() -> (FaultProxy, TcpStream) {
        let proxy = FaultProxy::start(echo().await).unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        check_echo(&mut client, b"hello").await;
        (proxy, client)
    }

    async fn check_echo(client: &mut TcpStream, bytes: &[u8]) {
        client.write_all(bytes).await.unwrap();
        check_reads(client, bytes).await;
    }

    async fn check_reads(client: &mut TcpStream, expected: &[u8]) {
        let mut back = vec![0; expected.len()];
        tokio::time::timeout(PATIENCE, client.read_exact(&mut back)).await.unwrap().unwrap();
        assert!(back == expected);
    }

    async fn check_reset(client: &mut TcpStream) {
        let read = tokio::time::timeout(PATIENCE, client.read(&mut [0; 16])).await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    async fn check_silence(client: &mut TcpStream) {
        let read = tokio::time::timeout(SILENCE, client.read(&mut [0; 16])).await;
        assert!(read.is_err(), "{read:?}");
    }

    async fn wait_for_connections(proxy: &FaultProxy, expected: usize) {
        let deadline = Instant::now() + PATIENCE;
        while proxy.connections() != expected {
            assert!(Instant::now() < deadline, "{} connections", proxy.connections());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn without_faults_every_byte_and_the_end_pass() {
        let (proxy, client) = proxied().await;
        let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let (mut read, mut write) = client.into_split();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let mut back = Vec::new();
        tokio::time::timeout(PATIENCE, read.read_to_end(&mut back)).await.unwrap().unwrap();
        assert!(back == expected);
        writer.await.unwrap();
        wait_for_connections(&proxy, 0).await;
        assert_eq!(proxy.accepted(), 1);
    }

    #[tokio::test]
    async fn a_cut_resets_every_connection_and_lets_new_ones_in() {
        let (proxy, mut first) = proxied().await;
        let mut second = TcpStream::connect(proxy.address()).await.unwrap();
        check_echo(&mut second, b"too").await;
        proxy.cut();
        check_reset(&mut first).await;
        check_reset(&mut second).await;
        wait_for_connections(&proxy, 0).await;
        let mut third = TcpStream::connect(proxy.address()).await.unwrap();
        check_echo(&mut third, b"again").await;
        assert_eq!((proxy.connections(), proxy.accepted()), (1, 3));
    }

    #[tokio::test]
    async fn refusing_concerns_new_connections_only() {
        let (proxy, mut client) = proxied().await;
        for _ in 0..2 {
            proxy.refuse(true).await.unwrap();
            let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
        check_echo(&mut client, b"still here").await;
        for _ in 0..2 {
            proxy.refuse(false).await.unwrap();
            let mut late = TcpStream::connect(proxy.address()).await.unwrap();
            check_echo(&mut late, b"welcome").await;
        }
    }

    #[tokio::test]
    async fn a_freeze_holds_everything_until_the_thaw() {
        let (proxy, mut client) = proxied().await;
        proxy.freeze();
        client.write_all(b"held").await.unwrap();
        check_silence(&mut client).await;
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        late.write_all(b"late").await.unwrap();
        check_silence(&mut late).await;
        proxy.thaw();
        check_reads(&mut client, b"held").await;
        check_reads(&mut late, b"late").await;
        proxy.freeze();
        late.set_zero_linger().unwrap();
        drop(late);
        tokio::time::sleep(SILENCE).await;
        assert_eq!(proxy.connections(), 2, "nobody has heard that one is gone");
        proxy.cut();
        check_reset(&mut client).await;
    }

    #[tokio::test]
    async fn a_delay_adds_to_its_direction_and_keeps_the_order() {
        let (proxy, mut client) = proxied().await;
        proxy.delay(Direction::ToUpstream, Duration::from_millis(50), Duration::from_millis(20));
        proxy.delay(Direction::ToClient, Duration::from_millis(30), Duration::ZERO);
        let before = Instant::now();
        for number in 0..50_u8 {
            client.write_all(&[number]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        check_reads(&mut client, &(0..50).collect::<Vec<_>>()).await;
        let took = before.elapsed();
        assert!((Duration::from_millis(130)..Duration::from_millis(400)).contains(&took), "{took:?}");
        proxy.delay(Direction::ToUpstream, Duration::ZERO, Duration::ZERO);
        proxy.delay(Direction::ToClient, Duration::ZERO, Duration::ZERO);
        let before = Instant::now();
        check_echo(&mut client, b"quick").await;
        assert!(before.elapsed() < Duration::from_millis(40), "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn a_limit_slows_down_what_passes() {
        let (proxy, mut client) = proxied().await;
        proxy.limit_bytes_per_s(Some(200_000));
        let before = Instant::now();
        check_echo(&mut client, &[7; 40_000]).await;
        let took = before.elapsed();
        assert!((Duration::from_millis(190)..Duration::from_millis(900)).contains(&took), "{took:?}");
        proxy.limit_bytes_per_s(None);
        check_echo(&mut client, &[7; 400_000]).await;
    }

    #[tokio::test]
    async fn a_dropped_proxy_resets_its_connections_and_frees_its_port() {
        let (proxy, mut client) = proxied().await;
        let address = proxy.address();
        drop(proxy);
        check_reset(&mut client).await;
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn new_connections_follow_an_upstream_that_moved() {
        let reserved = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let proxy = FaultProxy::start(reserved.local_addr().unwrap()).unwrap();
        proxy.redirect(echo().await);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        check_echo(&mut client, b"found").await;
    }

    #[tokio::test]
    async fn an_upstream_that_is_gone_resets_the_client() {
        let reserved = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let proxy = FaultProxy::start(reserved.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        check_reset(&mut client).await;
    }
}
