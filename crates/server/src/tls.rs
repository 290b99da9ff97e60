//! TLS with rustls. The binary chooses the cryptography; this crate only loads certificates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

fn fault(file: &Path, what: &dyn fmt::Display) -> TlsError {
    TlsError { file: file.to_owned(), what: what.to_string() }
}
