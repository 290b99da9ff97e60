//! The HTTP API of the broker in this process: its listeners, and those that have metrics only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use leveret_admin::http::Listener;
use leveret_admin::{Listening, Surface};
use leveret_server::Handle;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::certificate;
use super::federation::Federation;
use super::host::Process;
use super::inherited::Inherited;
use super::shovels::Shovels;
use crate::config::Settings;
use crate::logging::Log;

/// Listeners that nobody serves yet.
pub(super) struct Bound {
    plain: Vec<TcpListener>,
    tls: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
    /// What `plain` and `tls` offer.
    surface: Surface,
    certificate: watch::Sender<Option<Arc<ServerConfig>>>,
    expires_s: Arc<AtomicU64>,
}

/// The API on its listeners.
pub(super) struct Http {
    urls: Vec<String>,
    certificate: watch::Sender<Option<Arc<ServerConfig>>>,
    /// When the certificate of all listeners over TLS ends, s since 1970; 0: never.
    expires_s: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    serving: Vec<JoinHandle<()>>,
}

impl Bound {
    /// Listens; `certificate` is for those with TLS.
    ///
    /// # Errors
    /// An address is taken; the text names it. Or the certificate cannot be read.
    pub(super) async fn bind(
        settings: &Settings,
        certificate: Option<Arc<ServerConfig>>,
        inherited: &mut Inherited,
    ) -> anyhow::Result<Bound> {
        let certificate = watch::Sender::new(certificate);
        let surface = if settings.metrics_anonymous { Surface::WholeWithOpenMetrics } else { Surface::Whole };
        let (plain, tls, metrics) = (Vec::new(), Vec::new(), Vec::new());
        let expires_s = Arc::new(AtomicU64::new(certificate::expires_at_s(settings)?.unwrap_or(0)));
        let mut bound = Bound { plain, tls, metrics, surface, certificate, expires_s };
        for address in &settings.http {
            bound.plain.push(listen(*address, inherited).await?);
        }
        for address in &settings.http_tls {
            bound.tls.push(listen(*address, inherited).await?);
        }
        for address in &settings.metrics {
            bound.metrics.push(listen(*address, inherited).await?);
        }
        Ok(bound)
    }

    /// Serves from now on.
    ///
    /// # Errors
    /// A listener has no address.
    pub(super) fn serve(
        self,
        broker: Handle,
        log: Arc<Log>,
        shovels: Arc<Shovels>,
        federation: Arc<Federation>,
    ) -> std::io::Result<Http> {
        let (stop, stopping) = watch::channel(false);
        let http = self.listening()?;
        let certificate_expires_s = self.expires_s.clone();
        let process = Process { broker, log, http, shovels, federation, certificate_expires_s };
        let [whole, metrics] = leveret_admin::routers(Arc::new(process), [self.surface, Surface::Metrics]);
        let (mut urls, mut serving) = (Vec::new(), Vec::new());
        let certificate = &self.certificate;
        let plain = |socket| ("http", "", Listener::plain(socket), whole.clone());
        let tls = |socket| ("https", "", Listener::tls(socket, certificate.subscribe()), whole.clone());
        let metrics = |socket| ("http", "/metrics", Listener::plain(socket), metrics.clone());
        let plain = self.plain.into_iter().map(plain);
        let all = plain.chain(self.tls.into_iter().map(tls)).chain(self.metrics.into_iter().map(metrics));
        for (scheme, path, listener, router) in all {
            urls.push(format!("{scheme}://{}{path}", listener.local_addr()?));
            let (stop, hurry) = (stopped(stopping.clone()), stopped(stopping.clone()));
            serving.push(tokio::spawn(leveret_admin::http::serve(listener, router, stop, hurry)));
        }
        Ok(Http { urls, certificate: self.certificate, expires_s: self.expires_s, stop, serving })
    }

    fn listening(&self) -> std::io::Result<Vec<Listening>> {
        let plain = self.plain.iter().map(|socket| ("http", socket));
        let tls = self.tls.iter().map(|socket| ("https", socket));
        let metrics = self.metrics.iter().map(|socket| ("http/prometheus", socket));
        let listening = |(protocol, socket): (_, &TcpListener)| {
            socket.local_addr().map(|address| Listening { protocol, address })
        };
        plain.chain(tls).chain(metrics).map(listening).collect()
    }
}

impl Http {
    /// Where it is, in the order of the configuration.
    pub(super) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// New connections get this certificate, which ends then (s since 1970).
    pub(super) fn change_certificate(&self, certificate: Arc<ServerConfig>, expires_at_s: Option<u64>) {
        self.certificate.send_replace(Some(certificate));
        self.expires_s.store(expires_at_s.unwrap_or(0), Ordering::Relaxed);
    }

    /// Ends what is being served.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        for serving in self.serving {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the HTTP API failed");
            }
        }
    }
}

async fn listen(address: SocketAddr, inherited: &mut Inherited) -> anyhow::Result<TcpListener> {
    let listener = match inherited.take(address) {
        Some(socket) => TcpListener::from_std(socket),
        None => TcpListener::bind(address).await,
    };
    listener.with_context(|| format!("cannot listen on {address}"))
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}
