//! The connection to a management API: opened for the first request, kept for the next ones.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::rt::{Read, Write};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::address::ManagementAddress;
use super::error::ManagementError;

/// The largest answer, in octets: a listing of 100,000 queues of RabbitMQ with all their columns.
const ANSWER_MAX_BYTES: usize = 256 << 20;

type Sender = SendRequest<Full<Bytes>>;

/// A connection that comes back by itself.
pub(super) struct Link {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    kept: Mutex<Option<Sender>>,
}

impl Link {
    /// Connects with the first request.
    ///
    /// # Errors
    /// [`ManagementError::Address`]: a file for TLS is unusable, or the host is no name that a certificate has.
    pub(super) fn new(address: &ManagementAddress) -> Result<Self, ManagementError> {
        let tls = address.tls.as_ref().map(|files| {
            let config: Arc<ClientConfig> = files.client_config()?;
            let name = ServerName::try_from(address.host.clone());
            let name = name.map_err(|_| format!("'{}' is no name that a certificate has", address.host))?;
            Ok((TlsConnector::from(config), name))
        });
        let tls = tls.transpose().map_err(ManagementError::Address)?;
        Ok(Self { host: address.host.clone(), port: address.port, tls, kept: Mutex::new(None) })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// In words: no connection, or it broke. What was not sent for certain is sent again over a new connection, and
    /// so is what does the same when it is done twice.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), String> {
        // Whoever is dropped on the way leaves no connection behind that is in the middle of an answer.
        let mut kept = self.kept.lock().await;
        let request = match kept.take() {
            Some(mut sender) => {
                let again = is_repeatable(request.method()).then(|| request.clone());
                match sender.try_send_request(request).await {
                    Ok(response) => return self.finish(&mut kept, sender, response).await,
                    Err(mut failed) => match failed.take_message().or(again) {
                        Some(request) => request,
                        None => return Err(failed.into_error().to_string()),
                    },
                }
            }
            None => request,
        };
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        self.finish(&mut kept, sender, response).await
    }

    async fn finish(
        &self,
        kept: &mut Option<Sender>,
        sender: Sender,
        response: Response<Incoming>,
    ) -> Result<(u16, Bytes), String> {
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        *kept = Some(sender);
        Ok((status, body))
    }

    async fn connect(&self) -> Result<Sender, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        match &self.tls {
            None => speak(TokioIo::new(stream)).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                speak(TokioIo::new(stream.map_err(|error| format!("TLS: {error}"))?)).await
            }
        }
    }
}

async fn speak(stream: impl Read + Write + Unpin + Send + 'static) -> Result<Sender, String> {
    let (sender, connection) = handshake(stream).await.map_err(|error| error.to_string())?;
    // Its errors are those of the requests on it.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// POST is not: an answer that was lost may be of a message that was published.
fn is_repeatable(method: &Method) -> bool {
    method == Method::GET || method == Method::PUT
}
