//! A connection to any AMQP broker, as the place to call from and to serve on.
//!
//! ```text
//!   Client ──▶ Link (reconnects) ──▶ Uplink, one per connection: request channel, reply queue, who waits
//!     ▲ clones share it                  │ connection lost: everybody who waits is told at once
//!     └─ with an inherited deadline and trace, inside a handler (`cx.client()`)
//! ```

mod attempt;
mod call;
mod gather;
mod pending;
mod portable;
mod stream;
mod task;
pub(crate) mod uplink;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use leveret_client::{Closed, ConnectError, ConnectOptions, Connection, Link};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use call::{Call, Decode, Reply};
pub use gather::{Gather, Gathered, Until};
pub use stream::{Replies, StreamCall};
pub use task::{Task, TaskError};

use crate::content::Format;
use crate::trace::TraceContext;
use crate::{CallError, Payload};
use uplink::Uplink;

/// A call without [`timeout`](Call::timeout) waits this long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// After an uplink could not be made on a sound connection, e.g. for lack of permissions.
const UPLINK_RETRY: Duration = Duration::from_millis(500);

/// A connection to a broker that comes back by itself. Cloning it shares the connection.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inherited: Inherited,
    format: Format,
}

/// What calls from inside a handler take over from the request being handled.
#[derive(Clone, Default)]
pub(crate) struct Inherited {
    pub(crate) deadline: Option<Instant>,
    pub(crate) trace: Option<TraceContext>,
}

pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) settings: Settings,
    uplink: watch::Receiver<Option<Arc<Uplink>>>,
    unclaimed: Arc<AtomicU64>,
    supervisor: AbortHandle,
    /// The broker of `embedded:` lives as long as its clients.
    #[cfg(feature = "embedded")]
    _embedded: Option<Arc<crate::embedded::Embedded>>,
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) app_id: String,
    pub(crate) timeout: Duration,
    direct_reply_to: bool,
}

/// Prepares a [`Client`].
pub struct ClientBuilder {
    settings: Settings,
    format: Format,
    adjust: Vec<Box<dyn FnOnce(ConnectOptions) -> ConnectOptions + Send>>,
}

impl Client {
    /// Connects to a broker: `amqp://user:password@host/vhost`, several of them separated by commas, or
    /// `embedded:` for one inside this process (`embedded:NAME` is shared within the process,
    /// `embedded:./DIR` keeps its data in a directory).
    ///
    /// # Errors
    /// One line that says which part is wrong: the address, the host, the login, the virtual host. At once, or
    /// after 10 s without an answer. Later losses of the connection are not errors: the client reconnects.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = leveret::Client::connect("embedded:").await?;
    /// let worker = client.serve("square", leveret::handler(|_, n: u64| async move { Ok::<_, String>(n * n) }));
    /// let worker = worker.start().await?;
    ///
    /// let nine: u64 = client.call("square", &3).await?;
    /// assert_eq!(nine, 9);
    /// worker.drain().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(url: &str) -> Result<Client, ConnectError> {
        Client::builder().connect(url).await
    }

    /// Settings before connecting.
    pub fn builder() -> ClientBuilder {
        let app_id = std::env::current_exe().ok();
        let app_id = app_id.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
        let app_id = app_id.map_or_else(|| "leveret".to_owned(), |name| name.chars().take(80).collect());
        let settings = Settings { app_id, timeout: DEFAULT_TIMEOUT, direct_reply_to: false };
        ClientBuilder { settings, format: Format::Json, adjust: Vec::new() }
    }

    /// Asks a service: `let answer: Forecast = client.call("weather.ohio", &place).await?`.
    ///
    /// The service is the queue of that name. The request is `query` as JSON (see [`Client::with_format`]).
    pub fn call<Q: Serialize + ?Sized, R: Decode>(&self, service: &str, query: &Q) -> Call<R> {
        Call::new(self.clone(), service, crate::content::encode(self.format, query))
    }

    /// Asks a service with a body that is already encoded; the answer comes as it is.
    pub fn request(&self, service: &str, payload: Payload) -> Call<Reply> {
        Call::new(self.clone(), service, Ok(payload))
    }

    /// Asks for many answers to one request; see [`StreamCall`].
    pub fn stream<Q: Serialize + ?Sized, R: Decode>(&self, service: &str, query: &Q) -> StreamCall<R> {
        StreamCall::new(self.call::<Q, Reply>(service, query))
    }

    /// Asks everybody who listens to a routing key and gathers their answers; see [`Gather`].
    pub fn gather<Q: Serialize + ?Sized, R: Decode>(
        &self,
        exchange: &str,
        routing_key: &str,
        query: &Q,
    ) -> Gather<R> {
        Gather::new(self.call::<Q, Reply>(routing_key, query).exchange(exchange, routing_key))
    }

    /// [`Client::stream`] with a body that is already encoded.
    pub fn stream_raw<R: Decode>(&self, service: &str, payload: Payload) -> StreamCall<R> {
        StreamCall::new(self.request(service, payload))
    }

    /// [`Client::gather`] with a body that is already encoded.
    pub fn gather_raw<R: Decode>(&self, exchange: &str, routing_key: &str, payload: Payload) -> Gather<R> {
        Gather::new(self.request(routing_key, payload).exchange(exchange, routing_key))
    }

    /// Gives a service work without waiting for an answer; see [`Task`].
    pub fn task<Q: Serialize + ?Sized>(&self, service: &str, query: &Q) -> Task {
        Task::new(self.clone(), service, crate::content::encode(self.format, query))
    }

    /// [`Client::task`] with a body that is already encoded.
    pub fn task_raw(&self, service: &str, payload: Payload) -> Task {
        Task::new(self.clone(), service, Ok(payload))
    }

    /// Serves requests; see [`Serve`](crate::Serve).
    pub fn serve<S: crate::Handler>(&self, service: &str, handler: S) -> crate::Serve<S> {
        crate::Serve::new(self.clone(), service, handler)
    }

    /// The same connection; what is called through it is encoded in this format.
    #[must_use]
    pub fn with_format(&self, format: Format) -> Client {
        Client { format, ..self.clone() }
    }

    /// Answers that nobody waited for any more: too late, cancelled, or not ours.
    pub fn unclaimed_answers(&self) -> u64 {
        self.shared.unclaimed.load(Ordering::Relaxed)
    }

    /// How many calls wait for an answer on the current connection.
    pub fn in_flight(&self) -> usize {
        self.shared.uplink.borrow().as_ref().map_or(0, |uplink| uplink.pending.len())
    }

    /// The connection to do anything else with that AMQP offers. Waits while reconnecting.
    ///
    /// # Errors
    /// The client was closed.
    pub async fn connection(&self) -> Result<Connection, Closed> {
        self.shared.link.connection().await
    }

    /// Ends the connection in order. Calls that wait end as [`CallError::ConnectionLost`].
    pub async fn close(&self) {
        self.shared.link.close().await;
    }

    /// The uplink of the current connection; waits for one until the deadline.
    pub(crate) async fn uplink(&self, deadline: Instant) -> Result<Arc<Uplink>, CallError> {
        let mut uplinks = self.shared.uplink.clone();
        let usable =
            |uplink: &Option<Arc<Uplink>>| uplink.as_ref().is_some_and(|uplink| !uplink.pending.has_ended());
        if let Some(uplink) =
            uplinks.borrow_and_update().as_ref().filter(|uplink| !uplink.pending.has_ended())
        {
            return Ok(uplink.clone());
        }
        let wait = uplinks.wait_for(usable);
        match tokio::time::timeout_at(deadline.into(), wait).await {
            Ok(Ok(uplink)) => uplink.clone().ok_or(CallError::Cancelled),
            Ok(Err(_)) => Err(CallError::Cancelled),
            Err(_) => Err(CallError::ConnectionLost {
                may_have_run: false,
                reason: "no broker was reachable before the deadline".to_owned(),
            }),
        }
    }

    pub(crate) fn within(&self, inherited: Inherited) -> Client {
        Client { inherited, ..self.clone() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.supervisor.abort();
        let link = self.link.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { link.close().await });
        }
    }
}

impl ClientBuilder {
    /// Who calls, for logs and statistics: `name/version`. Default: the name of the program.
    pub fn app_id(mut self, app_id: impl Into<String>) -> Self {
        self.settings.app_id = app_id.into();
        self
    }

    /// How long a call without a timeout of its own waits. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// The format of requests. Default: JSON.
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Takes answers by RabbitMQ's direct reply-to instead of a reply queue: nothing to declare, but requests
    /// cannot bounce, so that a refusal is noticed at the deadline only.
    pub fn direct_reply_to(mut self) -> Self {
        self.settings.direct_reply_to = true;
        self
    }

    /// Anything else about the connection: TLS, heartbeats, limits.
    pub fn connection(
        mut self,
        adjust: impl FnOnce(ConnectOptions) -> ConnectOptions + Send + 'static,
    ) -> Self {
        self.adjust.push(Box::new(adjust));
        self
    }

    /// Connects; see [`Client::connect`].
    ///
    /// # Errors
    /// See [`Client::connect`].
    pub async fn connect(self, url: &str) -> Result<Client, ConnectError> {
        #[cfg(feature = "embedded")]
        if let Some(place) = url.strip_prefix("embedded:") {
            let embedded = crate::embedded::Embedded::at(place).await?;
            let options = embedded.options();
            return self.open(options, Some(embedded)).await;
        }
        self.open(
            ConnectOptions::parse(url)?,
            #[cfg(feature = "embedded")]
            None,
        )
        .await
    }

    async fn open(
        self,
        options: ConnectOptions,
        #[cfg(feature = "embedded")] embedded: Option<Arc<crate::embedded::Embedded>>,
    ) -> Result<Client, ConnectError> {
        let ClientBuilder { settings, format, adjust } = self;
        let options = options.name(&settings.app_id);
        let link = Link::open(adjust.into_iter().fold(options, |options, adjust| adjust(options))).await?;
        let unclaimed = Arc::new(AtomicU64::new(0));
        let (sender, uplink) = watch::channel(None);
        let supervisor = supervise(link.clone(), settings.direct_reply_to, unclaimed.clone(), sender);
        let shared = Shared {
            link,
            settings,
            uplink,
            unclaimed,
            supervisor: tokio::spawn(supervisor).abort_handle(),
            #[cfg(feature = "embedded")]
            _embedded: embedded,
        };
        Ok(Client { shared: Arc::new(shared), inherited: Inherited::default(), format })
    }
}

/// Gives every connection its uplink, and tells everybody who waits when one ends.
async fn supervise(
    link: Link,
    direct_reply_to: bool,
    unclaimed: Arc<AtomicU64>,
    uplinks: watch::Sender<Option<Arc<Uplink>>>,
) {
    while let Ok(connection) = link.connection().await {
        match Uplink::open(connection.clone(), direct_reply_to, unclaimed.clone()).await {
            Ok(uplink) => {
                let uplink = Arc::new(uplink);
                uplinks.send_replace(Some(uplink.clone()));
                tokio::select! {
                    closed = uplink.requests.channel().closed() => uplink.pending.end(&closed),
                    // Its reply queue may be deleted while the connection lives.
                    () = uplink.pending.ended() => {}
                }
                uplinks.send_replace(None);
            }
            Err(error) => {
                tracing::warn!(%error, "the reply queue cannot be set up");
                tokio::time::sleep(UPLINK_RETRY).await;
            }
        }
    }
}
