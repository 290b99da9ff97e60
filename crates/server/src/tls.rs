//! TLS with rustls. The binary chooses the cryptography; this crate only loads certificates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leveret_broker::roster::TlsFacts;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate or key that cannot be used.
#[derive(Debug)]
pub struct TlsError {
    file: PathBuf,
    what: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for TlsError {}

/// Loads a PEM certificate chain and its PEM key. TLS 1.2 and 1.3, no client certificates.
pub fn load_tls(
    certificates: &Path,
    key: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificates).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| fault(certificates, &error))?;
    if chain.is_empty() {
        return Err(fault(certificates, &"no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(certificates, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| fault(certificates, &error))?;
    Ok(Arc::new(config))
}

/// What a handshake came to, in the words of RabbitMQ's listings where there are any.
pub(crate) fn tls_facts(connection: &rustls::ServerConnection) -> TlsFacts {
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    let cipher = suite.and_then(|suite| suite.as_str()).unwrap_or_default();
    let group = connection.negotiated_key_exchange_group();
    TlsFacts {
        protocol: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "tlsv1.3".into(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "tlsv1.2".into(),
            other => format!("{other:?}"),
        },
        key_exchange: group.map(|group| format!("{:?}", group.name())).unwrap_or_default(),
        hash: cipher.rsplit('_').next().unwrap_or_default().to_lowercase(),
        cipher: cipher.to_owned(),
        ..TlsFacts::default()
    }
}

fn fault(file: &Path, what: &dyn fmt::Display) -> TlsError {
    TlsError { file: file.to_owned(), what: what.to_string() }
}
