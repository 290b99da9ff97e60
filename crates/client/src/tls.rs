//! TLS for `amqps://`. The program chooses the cryptography, never this crate: it gives a ClientConfig, or has
//! installed a rustls provider for the process.

use leveret_wire::AmqpUri;
use tokio::net::TcpStream;

use crate::error::ConnectError;
use crate::options::{ConnectOptions, TlsFiles};
use crate::transport::Halves;

/// Secures a stream: the peer proves that it is the host of the address.
#[cfg(feature = "tls")]
pub(crate) async fn secure(
    options: &ConnectOptions,
    uri: &AmqpUri,
    files: &TlsFiles,
    stream: TcpStream,
) -> Result<Halves, ConnectError> {
    let config = match &options.tls {
        Some(config) => config.clone(),
        None => files.client_config().map_err(|reason| refuse(uri, reason))?,
    };
    let name = rustls::pki_types::ServerName::try_from(uri.host.clone());
    let name = name.map_err(|_| refuse(uri, format!("'{}' is no name that a certificate has", uri.host)))?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let stream = connector.connect(name, stream).await.map_err(|error| refuse(uri, error.to_string()))?;
    Ok(crate::transport::halves(stream))
}

/// This build has no TLS.
#[cfg(not(feature = "tls"))]
pub(crate) async fn secure(
    _options: &ConnectOptions,
    uri: &AmqpUri,
    _files: &TlsFiles,
    _stream: TcpStream,
) -> Result<Halves, ConnectError> {
    Err(refuse(uri, "leveret-client was built without its feature 'tls'".to_owned()))
}

fn refuse(uri: &AmqpUri, reason: String) -> ConnectError {
    ConnectError::Tls { address: uri.to_string(), reason }
}

#[cfg(feature = "tls")]
impl TlsFiles {
    /// What a TLS client needs: the process's rustls provider with these files, or the system's certificates. For
    /// connections of other protocols to the same broker.
    ///
    /// # Errors
    /// What is wrong, in words: a file cannot be read or used, no provider is installed, nobody is trusted.
    pub fn client_config(&self) -> Result<std::sync::Arc<rustls::ClientConfig>, String> {
        rustls_config::load(self)
    }
}

#[cfg(feature = "tls")]
mod rustls_config {
    use std::fmt;
    use std::path::Path;
    use std::sync::Arc;

    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};

    use crate::options::TlsFiles;

    const NO_PROVIDER: &str = "no cryptography is installed: call \
        rustls::crypto::ring::default_provider().install_default() first, or use ConnectOptions::tls";

    /// The installed provider, with the files of an address or the system's certificates.
    pub(super) fn load(files: &TlsFiles) -> Result<Arc<ClientConfig>, String> {
        let provider = CryptoProvider::get_default().ok_or(NO_PROVIDER)?.clone();
        let roots = match &files.authorities {
            Some(path) => roots_of(path)?,
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates_of(certificate)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
                config.with_client_auth_cert(chain, private).map_err(|error| fault(certificate, &error))?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn roots_of(path: &Path) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates_of(path)? {
            roots.add(certificate).map_err(|error| fault(path, &error))?;
        }
        Ok(roots)
    }

    fn system_roots() -> Result<RootCertStore, String> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _unusable) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(
                "the system trusts nobody (no certificates found); name an authority with cacertfile"
                    .to_owned(),
            );
        }
        Ok(roots)
    }

    fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let all = all.map_err(|error| fault(path, &error))?;
        if all.is_empty() { Err(fault(path, &"no certificate in it")) } else { Ok(all) }
    }

    fn fault(path: &Path, what: &dyn fmt::Display) -> String {
        format!("{}: {what}", path.display())
    }
}
