//! The TLS settings of listeners, from the files that the configuration names.

use std::sync::Arc;

use anyhow::Context;
use leveret_server::{ClientTrust, chain_expires_at_s, load_mutual_tls};
use rustls::ServerConfig;

use crate::config::{CertificateFiles, Settings};

/// For AMQP: certificate and key, if there are any, and whose certificates clients may show.
///
/// # Errors
/// A file cannot be read, certificate and key do not belong together, or nobody may issue clients' certificates.
pub(super) fn load(settings: &Settings) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let Some(files) = settings.certificate_files()? else { return Ok(None) };
    read(&files, files.clients.as_ref()).map(Some)
}

/// The same for HTTP, which knows its users by passwords and asks no browser for a certificate.
///
/// # Errors
/// As [`load`].
pub(super) fn load_for_http(settings: &Settings) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let Some(files) = settings.certificate_files()? else { return Ok(None) };
    read(&files, None).map(Some)
}

/// When the certificate ends, or one of those that vouch for it, s since 1970; `None` where there is none.
///
/// # Errors
/// The file cannot be read.
pub(super) fn expires_at_s(settings: &Settings) -> anyhow::Result<Option<u64>> {
    let Some(files) = settings.certificate_files()? else { return Ok(None) };
    chain_expires_at_s(&files.chain).context("TLS")
}

/// The cryptography is chosen here, in the binary: ring builds without cmake and in seconds.
fn read(files: &CertificateFiles, clients: Option<&ClientTrust>) -> anyhow::Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    load_mutual_tls(&files.chain, &files.key, clients, provider).context("TLS")
}
