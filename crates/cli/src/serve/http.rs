//! The HTTP API of the broker in this process.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use leveret_admin::{Host, LoggedIn};
use leveret_broker::{Batch, Broker};
use leveret_server::Handle;
use leveret_wire::sasl::Credentials;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The API on its listener.
pub(super) struct Http {
    pub(super) address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Http {
    /// Serves on a listener from now on.
    ///
    /// # Errors
    /// The listener has no address.
    pub(super) fn serve(listener: TcpListener, broker: Handle) -> std::io::Result<Http> {
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let router = leveret_admin::router(Arc::new(Process(broker)));
        let stopped = |mut stopping: watch::Receiver<bool>| async move {
            drop(stopping.wait_for(|stop| *stop).await);
        };
        let served =
            leveret_admin::http::serve(listener, router, stopped(stopping.clone()), stopped(stopping));
        Ok(Http { address, stop, serving: tokio::spawn(served) })
    }

    /// Ends what is being served.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            tracing::error!(%error, "the HTTP API failed");
        }
    }
}

/// This process, as the API sees it.
struct Process(Handle);

impl Host for Process {
    fn broker(&self) -> &Arc<Broker> {
        self.0.rules()
    }

    fn finish(&self, batch: &mut Batch) {
        self.0.finish(batch);
    }

    fn hurry(&self) {
        self.0.hurry();
    }

    fn login(&self, credentials: Credentials, peer: IpAddr) -> LoggedIn<'_> {
        Box::pin(self.0.login(credentials, peer))
    }

    fn now_us(&self) -> u64 {
        self.0.now_us()
    }
}
