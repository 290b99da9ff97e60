//! `leveret serve`: the broker as a process.
//!
//! ```text
//!   flags, variables, file ─► Settings ─► Broker ─► one line per listener on stdout: ready
//!        SIGHUP reads them again ──┘        │
//!        SIGTERM, SIGINT drain, exit 0 ◄────┤
//!        a failed disk exits 1 at once ◄────┘
//! ```

mod certificate;
mod definitions;
mod end;
mod federation;
mod first_user;
mod host;
mod http;
mod inherited;
mod journal;
mod open_files;
mod parameter;
mod program_pages;
mod reload;
mod shovels;
mod systemd;

use std::io::{self, Write};
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use leveret_server::{Broker, StartError};
use rustls::ServerConfig;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::ConfigError;
use crate::config::{Given, Origin, Settings, from_environment, from_file, from_set_flag};
use crate::failure::Failure;
use crate::logging::Log;
use crate::say::say;
use crate::signals::Termination;
use federation::Federation;
use http::{Bound, Http};
use inherited::Inherited;
use reload::Reloadable;
use shovels::Shovels;
use systemd::Systemd;

/// Run the broker
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the data is kept; made if it is missing [default: ./leveret-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where AMQP is spoken; may be repeated [default: 127.0.0.1:5672, and [::1]:5672 where
    /// there is IPv6]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Vec<String>,
    /// Where AMQP is spoken over TLS; may be repeated
    #[arg(long, value_name = "HOST:PORT")]
    listen_tls: Vec<String>,
    /// Certificate chain for TLS, PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Private key for TLS, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Where the HTTP API and the console are served; may be repeated [default: 127.0.0.1:15672]
    #[arg(long, value_name = "HOST:PORT")]
    http: Vec<String>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE", env = "LEVERET_CONFIG")]
    config: Option<PathBuf>,
    /// Any setting of the configuration file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Serves until a signal or a failed disk ends it.
pub(crate) async fn run(arguments: Arguments, log: Option<String>) -> Result<(), Failure> {
    let mut inherited = Inherited::of_environment().map_err(|error| Failure::Usage(error.to_string()))?;
    let source = Source { arguments, log, sockets: inherited.settings() };
    let settings = source.read()?;
    let log = Arc::new(Log::start(settings.log.clone(), settings.log_format));
    open_files::raise_limit();
    let systemd = Systemd::of_environment();
    let mut termination = Termination::catch()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let certificate = certificate::load(&settings)?;
    let bound = Bound::bind(&settings, certificate::load_for_http(&settings)?, &mut inherited).await?;
    let broker = start(&settings, certificate, &mut inherited).await?;
    // Before the definitions, which may have shovels and upstreams among them.
    let (shovels, federation) = (Shovels::start(broker.handle()), Federation::start(broker.handle()));
    set_up(&settings, &broker)?;
    let http =
        bound.serve(broker.handle(), log.clone(), shovels.clone(), federation.clone()).context("HTTP")?;
    let status = announce(&broker, &http, &settings);
    systemd.ready(&status);
    tokio::spawn(program_pages::give_back_after_start());
    let mut reloadable = Reloadable::new(settings);
    loop {
        tokio::select! {
            name = termination.next() => {
                tracing::info!(signal = name, "stopping");
                systemd.stopping();
                return stop(broker, http, (&shovels, &federation), termination).await;
            }
            _ = hangup.recv() => {
                systemd.reloading();
                let reloaded = source.read().map_err(anyhow::Error::from);
                let reloaded = reloaded.and_then(|new| reloadable.reload(new, &broker, &http, &log));
                if let Err(error) = reloaded {
                    tracing::error!(error = format!("{error:#}"), "nothing reloaded");
                }
                systemd.ready(&status);
            }
            () = systemd.live() => {}
            failed = broker.failed() => {
                // P1: nothing is confirmed any more, and nothing is tried again. Threads that wait for the
                // disk must not hold the process.
                say(&format!("leveret: {failed}"));
                std::process::exit(1);
            }
        }
    }
}

/// Where the settings come from, now and at every reload.
struct Source {
    arguments: Arguments,
    log: Option<String>,
    sockets: Vec<Given>,
}

impl Source {
    fn read(&self) -> Result<Settings, ConfigError> {
        let Self { arguments, log, sockets } = self;
        let mut given = Vec::new();
        if let Some(path) = &arguments.config {
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::Unreadable { path: path.clone(), error })?;
            given.extend(from_file(path, &text)?);
        }
        given.extend(from_environment(std::env::vars_os())?);
        for text in &arguments.set {
            given.push(from_set_flag(text)?);
        }
        given.extend(flags(arguments, log.as_deref()));
        given.extend(sockets.iter().cloned());
        let is_default = !given.iter().any(|given| given.key == "listen");
        let mut settings = Settings::overlay(given)?;
        if is_default && has_ipv6_loopback() {
            let ports: Vec<u16> = settings.broker.listen.iter().map(SocketAddr::port).collect();
            let addresses = ports.iter().map(|port| SocketAddr::from((Ipv6Addr::LOCALHOST, *port)));
            settings.broker.listen.extend(addresses);
        }
        Ok(settings)
    }
}

/// Clients that look up `localhost` may get the IPv6 address first, Node's among them.
fn has_ipv6_loopback() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn flags<'a>(arguments: &'a Arguments, log: Option<&'a str>) -> impl Iterator<Item = Given> + 'a {
    let one = |key: &'static str, flag: &'static str, text: Option<&str>| {
        text.map(|text| Given { key: key.into(), texts: vec![text.into()], origin: Origin::Flag(flag) })
    };
    let many = |key: &'static str, flag: &'static str, texts: &[String]| {
        let texts = (!texts.is_empty()).then(|| texts.to_vec());
        texts.map(|texts| Given { key: key.into(), texts, origin: Origin::Flag(flag) })
    };
    let given = [
        one("data_dir", "--data-dir", arguments.data_dir.as_deref()),
        many("listen", "--listen", &arguments.listen),
        many("listen_tls", "--listen-tls", &arguments.listen_tls),
        one("tls_cert", "--tls-cert", arguments.tls_cert.as_deref()),
        one("tls_key", "--tls-key", arguments.tls_key.as_deref()),
        many("http", "--http", &arguments.http),
        one("log", "--log", log),
    ];
    given.into_iter().flatten()
}

async fn start(
    settings: &Settings,
    certificate: Option<Arc<ServerConfig>>,
    inherited: &mut Inherited,
) -> Result<Broker, Failure> {
    let mut config = settings.broker.clone();
    config.tls = certificate;
    let builder = Broker::builder().config(config).data_dir(&settings.data_dir);
    let started = builder.open_sockets(inherited.take_rest()).start().await;
    started.map_err(|error| {
        let error = match error {
            StartError::Open(_) => {
                let directory = settings.data_dir.display().to_string();
                anyhow::Error::new(error).context(format!("data directory {directory}"))
            }
            StartError::Io(_) | StartError::NoCertificate => anyhow::Error::new(error),
        };
        Failure::Other(error)
    })
}

/// What a broker has before its first client: definitions, and somebody who may log in.
fn set_up(settings: &Settings, broker: &Broker) -> anyhow::Result<()> {
    let handle = broker.handle();
    if let Some(file) = &settings.load_definitions {
        definitions::load(file, &handle).context("load_definitions")?;
    }
    if let Some(first) = settings.first_user()? {
        first_user::ensure(&first, broker.rules()).context("default_user")?;
    }
    handle.hurry();
    Ok(())
}

/// Says that the broker is ready: what a script waits for. Returns the same in one line.
fn announce(broker: &Broker, http: &Http, settings: &Settings) -> String {
    let plain = broker.addresses().iter().map(|address| format!("amqp://{address}"));
    let tls = broker.tls_addresses().iter().map(|address| format!("amqps://{address}"));
    let urls: Vec<String> = plain.chain(tls).chain(http.urls().iter().cloned()).collect();
    for damage in &broker.condition().damage {
        tracing::error!(?damage, "damaged; its queues are offline, its files are kept");
    }
    let torn_bytes = broker.condition().torn_bytes;
    if torn_bytes > 0 {
        tracing::warn!(
            torn_bytes,
            "the end of the log was cut off: it was being written when the last process ended"
        );
    }
    tracing::info!(data_dir = %settings.data_dir.display(), "ready");
    let mut stdout = io::stdout().lock();
    if let Err(error) = writeln!(stdout, "{}", urls.join("\n")).and_then(|()| stdout.flush()) {
        tracing::warn!(%error, "nobody reads stdout");
    }
    format!("ready: {}", urls.join(" "))
}

/// Drains. A second signal does not wait for clients that will not go.
async fn stop(
    broker: Broker,
    http: Http,
    (shovels, federation): (&Shovels, &Federation),
    mut termination: Termination,
) -> Result<(), Failure> {
    let stopping = async {
        http.stop().await;
        tokio::join!(shovels.stop(), federation.stop());
        broker.stop().await
    };
    tokio::select! {
        stopped = stopping => Ok(stopped.context("the broker could not stop in order")?),
        name = termination.next() => {
            say(&format!("leveret: {name} again: exit without draining"));
            std::process::exit(1);
        }
    }
}
