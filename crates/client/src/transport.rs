//! Streams of octets to a broker: TCP, TLS over it, or whatever a connector makes.

use std::io;

use leveret_wire::AmqpUri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::ConnectError;
use crate::options::{ConnectOptions, Connector, TlsFiles, Transport};
use crate::outbox::Writer;

pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// A stream in two halves, so that reading never waits for writing.
pub(crate) struct Halves {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

/// Connects to an address.
pub(crate) async fn connect(
    options: &ConnectOptions,
    uri: &AmqpUri,
    files: &TlsFiles,
) -> Result<Halves, ConnectError> {
    let stream = TcpStream::connect((uri.host.as_str(), uri.port)).await;
    let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
    let stream = stream.map_err(|error| unreachable_at(&uri.to_string(), &error))?;
    if uri.tls {
        return crate::tls::secure(options, uri, files, stream).await;
    }
    let (reader, writer) = stream.into_split();
    Ok(Halves { reader: Box::new(reader), writer: Box::new(writer) })
}

/// Asks a connector.
pub(crate) async fn connect_memory(connector: &dyn Connector) -> Result<Halves, ConnectError> {
    let stream = connector.connect().await.map_err(|error| unreachable_at("memory", &error))?;
    Ok(halves(stream))
}

/// Splits any stream.
pub(crate) fn halves(stream: impl Transport + 'static) -> Halves {
    let (reader, writer) = tokio::io::split(stream);
    Halves { reader: Box::new(reader), writer: Box::new(writer) as Box<dyn AsyncWrite + Send + Unpin> }
}

pub(crate) fn unreachable_at(address: &str, error: &io::Error) -> ConnectError {
    ConnectError::Unreachable { address: address.to_owned(), reason: error.to_string() }
}
