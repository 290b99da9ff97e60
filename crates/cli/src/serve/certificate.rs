//! The TLS settings of listeners, from the files that the configuration names.

use std::sync::Arc;

use leveret_server::{TlsError, load_tls};
use rustls::ServerConfig;

use crate::config::CertificateFiles;

/// Reads certificate and key. The cryptography is chosen here, in the binary: ring builds without cmake and in seconds.
///
/// # Errors
/// A file cannot be read, or the two do not belong together.
pub(super) fn load(files: &CertificateFiles) -> Result<Arc<ServerConfig>, TlsError> {
    load_tls(&files.chain, &files.key, Arc::new(rustls::crypto::ring::default_provider()))
}
