//! A TLS certificate that can be renewed while the broker runs: connections that exist keep theirs.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use leveret_server::{TlsError, load_tls};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::CertificateFiles;

/// Certificate and key from files that are read again on demand.
pub(super) struct ReloadableCertificate {
    files: CertificateFiles,
    current: Arc<Current>,
    server_config: Arc<ServerConfig>,
}

/// Answers each handshake with the newest certificate.
struct Current(RwLock<Arc<dyn ResolvesServerCert>>);

impl ReloadableCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or the two do not belong together.
    pub(super) fn load(files: CertificateFiles) -> Result<Self, TlsError> {
        let loaded = read(&files)?;
        let current = Arc::new(Current(RwLock::new(loaded.cert_resolver.clone())));
        let mut server_config = ServerConfig::clone(&loaded);
        server_config.cert_resolver = current.clone();
        Ok(Self { files, current, server_config: Arc::new(server_config) })
    }

    /// What a listener needs; follows every [`Self::reload`].
    pub(super) fn server_config(&self) -> Arc<ServerConfig> {
        self.server_config.clone()
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// As [`Self::load`]; the certificate in use stays.
    pub(super) fn reload(&self) -> Result<(), TlsError> {
        let loaded = read(&self.files)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = loaded.cert_resolver.clone();
        Ok(())
    }
}

/// The cryptography is chosen here, in the binary: ring builds without cmake and in seconds.
fn read(files: &CertificateFiles) -> Result<Arc<ServerConfig>, TlsError> {
    load_tls(&files.chain, &files.key, Arc::new(rustls::crypto::ring::default_provider()))
}

impl ResolvesServerCert for Current {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        current.resolve(hello)
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(…)")
    }
}
