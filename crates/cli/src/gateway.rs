//! `leveret gateway`: HTTP in, AMQP out. `docs/features/gateway.md` has the rules.
//!
//! ```text
//!   curl ──HTTP──▶ server ─▶ access ─▶ routes ─▶ ask ─▶ call │ task │ gather ──AMQP──▶ workers
//!                                                problem ◀── whatever goes wrong
//! ```

mod access;
mod allow;
mod ask;
mod body;
mod call;
mod deadline;
mod discover;
mod events;
mod gather;
mod health;
mod listen;
mod openapi;
mod problem;
mod query;
mod routes;
mod task;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};

use crate::failure::Failure;
use crate::signals::Termination;
use crate::toolkit::{BrokerUrl, duration, size};
use access::Access;
use allow::{Allow, Pattern};
use deadline::Patience;
use routes::Gateway;

/// Longer calls are tasks; and a deadline must stay a time that clocks can tell.
const TIMEOUT_LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// Let HTTP clients call services
///
/// POST /call/SERVICE[/METHOD] asks, POST /task/SERVICE gives work, POST /gather/EXCHANGE/KEY asks many,
/// GET /services and /openapi.json tell what there is.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    url: BrokerUrl,
    /// Where HTTP is spoken. For other machines it needs --token or --allow-anonymous
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    http: String,
    /// How long to wait for an answer if the client does not say
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// The longest time that a client may ask for
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    timeout_max: Duration,
    /// The largest body of a request
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size)]
    body_max: usize,
    /// What may be called, `*` is anything: a SERVICE, or an EXCHANGE/KEY; may be repeated. Default: everything but
    /// amq.* and rpc.*
    #[arg(long, value_name = "PATTERN")]
    allow: Vec<Pattern>,
    /// A file of tokens, one a line: clients must send `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE", conflicts_with = "allow_anonymous")]
    token: Option<PathBuf>,
    /// Let everybody in: a proxy in front decides who may
    #[arg(long)]
    allow_anonymous: bool,
    /// How many requests at once; one more is answered with 503
    #[arg(long, value_name = "N", default_value = "512")]
    concurrency: NonZeroU16,
}

/// Serves until a signal ends it.
pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let patience = patience(&arguments)?;
    let access = access(&arguments)?;
    let listener = listen::bind(&arguments.http, &access).await?;
    // Both futures below wait for it, one after the other.
    let termination = Mutex::new(Termination::catch()?);
    let client = arguments.url.connect("leveret gateway").await?;
    let gateway = Gateway {
        client: client.clone(),
        access,
        allow: Allow::only(arguments.allow),
        patience,
        body_max_bytes: arguments.body_max,
        running: Arc::new(Semaphore::new(arguments.concurrency.get().into())),
    };
    announce(listener.local_addr()?)?;
    let signal = || async {
        let name = termination.lock().await.next().await;
        tracing::info!(signal = name, "stopping");
    };
    leveret_admin::http::serve(listener, routes::router(Arc::new(gateway)), signal(), signal()).await;
    client.close().await;
    Ok(())
}

fn patience(arguments: &Arguments) -> Result<Patience, Failure> {
    let patience = Patience { default: arguments.timeout, max: arguments.timeout_max };
    if patience.default.is_zero() || patience.default > patience.max {
        return Err(Failure::Usage("--timeout must be from 1ms to --timeout-max".to_owned()));
    }
    if patience.max > TIMEOUT_LIMIT {
        return Err(Failure::Usage("--timeout-max must be at most 24h".to_owned()));
    }
    Ok(patience)
}

fn access(arguments: &Arguments) -> Result<Access, Failure> {
    match (&arguments.token, arguments.allow_anonymous) {
        (Some(file), _) => Access::read_tokens(file),
        (None, true) => Ok(Access::Anybody),
        (None, false) => Ok(Access::ThisMachine),
    }
}

/// Says that the gateway is ready: what a script waits for.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "http://{address}")?;
    stdout.flush()
}

fn json_response(body: &Value) -> Response {
    let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([content_type], body.to_string()).into_response()
}
