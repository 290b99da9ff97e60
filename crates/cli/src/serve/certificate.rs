//! The TLS settings of listeners, from the files that the configuration names.

use std::sync::Arc;

use anyhow::Context;
use leveret_server::load_mutual_tls;
use rustls::ServerConfig;

use crate::config::Settings;

/// Reads certificate and key, if there are any. The cryptography is chosen here, in the binary: ring builds without cmake
/// and in seconds.
///
/// # Errors
/// A file cannot be read, certificate and key do not belong together, or nobody may issue clients' certificates.
pub(super) fn load(settings: &Settings) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let Some(files) = settings.certificate_files()? else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(Some(load_mutual_tls(&files.chain, &files.key, files.clients.as_ref(), provider).context("TLS")?))
}
