//! A broker to test against: an embedded one, or the one that LEVERET_TEST_URL names (several addresses of a cluster
//! are separated by commas). With LEVERET_TEST_QUEUE_KIND=quorum, requests wait in quorum queues.
//!
//! Every test has names of its own, so tests and runs do not meet on one broker. Queues of services stay there: take a
//! broker that is for tests.
#![allow(clippy::unwrap_used, dead_code)] // the helpers of tests are tests, and not every test needs all

use std::future::IntoFuture;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use leveret::{Client, ClientBuilder, Context, Failure, Handler, Properties, QueueKind, Serve};
use leveret_client::{Connection, Flush, Publish};
use leveret_server::Broker;
use leveret_wire::AmqpUri;
use tokio::task::JoinHandle;

/// Longer than anything takes that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// What is told at once does not wait for a deadline, and all that are longer than this here. How many milliseconds it
/// takes is measured by the test `latency`: a cluster whose machine is busy with other things may take seconds.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(5);
/// For work that is still under way when a test is over, and calls that must not end by themselves.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A broker, and names on it that nobody else uses.
pub(crate) struct Site {
    urls: String,
    suffix: String,
}

impl Site {
    pub(crate) fn new() -> Site {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let run = UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let suffix = format!("{:x}-{run:x}-{number}", std::process::id());
        let urls = foreign_urls().unwrap_or_else(|| format!("embedded:{suffix}"));
        Site { urls, suffix }
    }

    pub(crate) async fn client(&self) -> Client {
        self.connect(Client::builder()).await
    }

    pub(crate) async fn connect(&self, builder: ClientBuilder) -> Client {
        builder.connect(&self.urls).await.expect("the broker is there")
    }

    /// The name of a service, an exchange, or a word of a routing key.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}.{}", self.suffix)
    }

    pub(crate) fn serve<H: Handler>(&self, client: &Client, name: &str, handler: H) -> Serve<H> {
        client.serve(&self.name(name), handler).queue_kind(queue_kind())
    }
}

/// A broker that is reached by sockets: one of our own, unless LEVERET_TEST_URL names one.
pub(crate) struct Wire {
    /// The addresses of its nodes.
    pub(crate) nodes: Vec<AmqpUri>,
    own: Option<Broker>,
}

impl Wire {
    pub(crate) async fn start() -> Wire {
        if let Some(urls) = foreign_urls() {
            return Wire {
                nodes: urls.split(',').map(|url| AmqpUri::parse(url).unwrap()).collect(),
                own: None,
            };
        }
        let broker = Broker::builder().in_memory().any_port().start().await.unwrap();
        Wire { nodes: vec![AmqpUri::parse(&broker.url()).unwrap()], own: Some(broker) }
    }

    /// Names on this broker, which is reached at these addresses.
    pub(crate) fn site(&self, addresses: &[SocketAddr]) -> Site {
        let urls: Vec<String> = addresses.iter().map(|at| self.url(*at, "guest:guest", "%2f")).collect();
        Site { urls: urls.join(","), ..Site::new() }
    }

    pub(crate) fn url(&self, at: SocketAddr, login: &str, vhost: &str) -> String {
        format!("amqp://{login}@{at}/{vhost}")
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        let node = &self.nodes[node % self.nodes.len()];
        (node.host.as_str(), node.port).to_socket_addrs().unwrap().next().unwrap()
    }
}

/// The broker that all tests of this run share, if there is one.
pub(crate) fn foreign_urls() -> Option<String> {
    std::env::var("LEVERET_TEST_URL").ok().filter(|urls| !urls.is_empty())
}

pub(crate) fn queue_kind() -> QueueKind {
    match std::env::var("LEVERET_TEST_QUEUE_KIND").as_deref() {
        Ok("quorum") => QueueKind::Quorum,
        _ => QueueKind::Classic,
    }
}

/// Asks again while the outcome is one that only says that the broker was not quick enough to know better.
pub(crate) async fn unless<T: std::fmt::Debug, F: Future<Output = T>>(
    vague: impl Fn(&T) -> bool,
    mut ask: impl FnMut() -> F,
) -> T {
    let asked = Instant::now();
    loop {
        let outcome = soon(ask()).await;
        if !vague(&outcome) || asked.elapsed() > PATIENCE {
            return outcome;
        }
    }
}

/// A call that is under way while the test goes on.
pub(crate) fn start<F>(call: F) -> JoinHandle<F::Output>
where
    F: IntoFuture,
    F::IntoFuture: Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(call.into_future())
}

/// Fails instead of waiting for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !is_so() {
        assert!(asked.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn square() -> impl Handler {
    leveret::handler(|_cx: Context, n: i64| async move {
        n.checked_mul(n).ok_or_else(|| Failure::invalid_argument("too large"))
    })
}

/// Takes this long for anything.
pub(crate) fn slow(time: Duration) -> impl Handler {
    leveret::handler(move |_cx: Context, ()| async move {
        tokio::time::sleep(time).await;
        Ok::<_, Failure>(())
    })
}

/// What a program without any library of ours sends.
pub(crate) async fn publish(connection: &Connection, queue: &str, properties: &Properties, body: &[u8]) {
    let channel = connection.channel().await.unwrap();
    let publish =
        Publish { exchange: "", routing_key: queue, mandatory: false, properties, body, flush: Flush::Now };
    channel.publish(&publish).await.unwrap();
    channel.close().await.unwrap();
}

/// A broker to restart: by the command of LEVERET_TEST_RESTART, or one of our own. Its durable queues stay.
pub(crate) struct Broken {
    pub(crate) site: Site,
    own: Option<(Broker, tempfile::TempDir)>,
}

impl Broken {
    pub(crate) async fn start() -> Broken {
        if std::env::var("LEVERET_TEST_RESTART").is_ok() {
            return Broken { site: Site::new(), own: None };
        }
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::builder().data_dir(dir.path()).any_port().start().await.unwrap();
        let site = Site { urls: broker.url(), ..Site::new() };
        Broken { site, own: Some((broker, dir)) }
    }

    pub(crate) async fn restart(self) -> Broken {
        let Broken { site, own } = self;
        let Some((broker, dir)) = own else {
            let command = std::env::var("LEVERET_TEST_RESTART").unwrap();
            let mut shell = tokio::process::Command::new("sh");
            // `leveret serve` takes LEVERET_… for its own settings.
            shell.args(["-c", &command]).env_remove("LEVERET_TEST_RESTART").env_remove("LEVERET_TEST_URL");
            let status = shell.status().await.unwrap();
            assert!(status.success(), "{command}");
            return Broken { site, own: None };
        };
        let addresses = broker.addresses().to_vec();
        broker.stop().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let broker = Broker::builder().data_dir(dir.path()).listen(addresses).start().await.unwrap();
        Broken { site, own: Some((broker, dir)) }
    }
}
