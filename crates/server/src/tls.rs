//! TLS with rustls. The binary chooses the cryptography; this crate only loads certificates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leveret_broker::roster::TlsFacts;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};

use crate::certificate::{expires_at_s, subject_of};

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

/// Whose certificates clients may show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTrust {
    /// PEM file with those who issue them.
    pub authorities: PathBuf,
    /// Who shows none gets no connection.
    pub required: bool,
}

/// Loads a PEM certificate chain and its PEM key. TLS 1.2 and 1.3, no client certificates.
///
/// # Errors
/// A file cannot be read, or the two do not belong together.
pub fn load_tls(
    certificates: &Path,
    key: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    load_mutual_tls(certificates, key, None, provider)
}

/// The same, and those who may vouch for clients, if clients are asked for a certificate.
///
/// # Errors
/// A file cannot be read, certificate and key do not belong together, or nobody is there to vouch for clients.
pub fn load_mutual_tls(
    certificates: &Path,
    key: &Path,
    clients: Option<&ClientTrust>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain = read_certificates(certificates)?;
    let verifier = clients.map(|trust| verifier(trust, provider.clone())).transpose()?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, &error))?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(certificates, &error))?
        .with_client_cert_verifier(verifier.unwrap_or_else(|| Arc::new(NoClientAuth)))
        .with_single_cert(chain, private)
        .map_err(|error| fault(certificates, &error))?;
    Ok(Arc::new(config))
}

/// When the first of a chain of PEM certificates ends, s since 1970; `None` if none of them says so.
///
/// # Errors
/// The file cannot be read, or there is no certificate in it.
pub fn chain_expires_at_s(file: &Path) -> Result<Option<u64>, TlsError> {
    let chain = read_certificates(file)?;
    Ok(chain.iter().filter_map(|certificate| expires_at_s(certificate)).min())
}

/// What a handshake came to, in the words of RabbitMQ's listings where there are any.
pub(crate) fn tls_facts(connection: &rustls::ServerConnection) -> TlsFacts {
    let suite = connection.negotiated_cipher_suite().map(|suite| suite.suite());
    let cipher = suite.and_then(|suite| suite.as_str()).unwrap_or_default();
    let group = connection.negotiated_key_exchange_group();
    let subject = client_certificate(connection).and_then(subject_of);
    TlsFacts {
        protocol: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "tlsv1.3".into(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "tlsv1.2".into(),
            other => format!("{other:?}"),
        },
        key_exchange: group.map(|group| format!("{:?}", group.name())).unwrap_or_default(),
        hash: cipher.rsplit('_').next().unwrap_or_default().to_lowercase(),
        cipher: cipher.to_owned(),
        peer_cert_subject: subject.as_ref().map(|subject| subject.subject.clone()),
        peer_cert_issuer: subject.map(|subject| subject.issuer),
        peer_cert_validity: None,
    }
}

/// The certificate that the client has shown.
pub(crate) fn client_certificate(connection: &rustls::ServerConnection) -> Option<&[u8]> {
    connection.peer_certificates()?.first().map(AsRef::as_ref)
}

fn verifier(
    trust: &ClientTrust,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let file = &trust.authorities;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots.add(certificate).map_err(|error| fault(file, &error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if trust.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| fault(file, &error))
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|error| fault(file, &error))?;
    if all.is_empty() { Err(fault(file, &"no certificate in it")) } else { Ok(all) }
}

fn fault(file: &Path, what: &dyn fmt::Display) -> TlsError {
    TlsError { file: file.to_owned(), what: what.to_string() }
}
