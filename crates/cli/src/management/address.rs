//! Where a management API is, and who asks.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use leveret_client::{ConnectOptions, TlsFiles};
use leveret_wire::Secret;
use leveret_wire::uri::{percent_decode, percent_encode};

use super::error::ManagementError;

/// RabbitMQ's ports, plain and with TLS.
const PORT: u16 = 15_672;
const TLS_PORT: u16 = 15_671;

/// An address, decoded. `Display` and `Debug` show neither password nor parameters.
#[derive(Clone)]
pub(crate) struct ManagementAddress {
    /// Files for TLS; `None` speaks plain HTTP.
    pub(super) tls: Option<TlsFiles>,
    /// Host name or address; an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// What stands before `/api`, for a broker behind a proxy; without a `/` at its end.
    pub(super) prefix: String,
    user: String,
    password: Secret,
}

impl ManagementAddress {
    /// Decodes `http(s)://USER:PASSWORD@HOST:PORT/PREFIX`. Without a user it is guest. An https address may name
    /// PEM files: `?cacertfile=…&certfile=…&keyfile=…`.
    ///
    /// # Errors
    /// [`ManagementError::Address`], which never quotes the text: a password may be in it.
    pub(crate) fn parse(text: &str) -> Result<Self, ManagementError> {
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| refuse("it must begin with http:// or https://"))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(refuse("it must begin with http:// or https://")),
        };
        // What is behind it would be no part of the address, and a password half of one.
        if rest.contains('#') {
            return Err(refuse("a # is written %23"));
        }
        // Passwords may have signs in them that no authority may have: the user part is cut off first.
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (credentials, bare) = match rest[..end].rfind('@') {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let uri: Uri =
            format!("http://{bare}").parse().map_err(|_| refuse("host, port or path is malformed"))?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(refuse("there is no host in it"));
        }
        let (user, password) = credentials.map_or_else(|| Ok(guest()), split_credentials)?;
        let default_port = if secure { TLS_PORT } else { PORT };
        Ok(Self {
            tls: tls_files(secure, uri.query())?,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(default_port),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            user,
            password,
        })
    }

    /// The management API that a RabbitMQ has beside an AMQP address: the same host, user and files for TLS,
    /// port 15672 or, for `amqps`, 15671. Of several addresses it is the first one's.
    ///
    /// # Errors
    /// [`ManagementError::Address`]: no AMQP address.
    pub(crate) fn beside(urls: &str) -> Result<Self, ManagementError> {
        let options = ConnectOptions::parse(urls)
            .map_err(|error| ManagementError::Address(format!("--url: {error}")))?;
        let uri = options.addresses().first().ok_or_else(|| refuse("there is none"))?;
        let file = |name| uri.parameter(name).map(PathBuf::from);
        let files =
            TlsFiles { authorities: file("cacertfile"), certificate: file("certfile"), key: file("keyfile") };
        Ok(Self {
            tls: uri.tls.then_some(files),
            host: uri.host.clone(),
            port: if uri.tls { TLS_PORT } else { PORT },
            prefix: String::new(),
            user: uri.user.clone(),
            password: uri.password.clone(),
        })
    }

    /// For the header `authorization`.
    pub(super) fn authorization(&self) -> String {
        let pair = [self.user.as_bytes(), b":", self.password.expose()].concat();
        format!("Basic {}", STANDARD.encode(pair))
    }

    /// For the header `host`.
    pub(super) fn authority(&self) -> String {
        let host = &self.host;
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for ManagementAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}@{}{}", percent_encode(&self.user), self.authority(), self.prefix)
    }
}

impl fmt::Debug for ManagementAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManagementAddress({self})")
    }
}

fn refuse(what: &str) -> ManagementError {
    ManagementError::Address(format!("the address of the management API: {what}"))
}

fn guest() -> (String, Secret) {
    ("guest".to_owned(), Secret::from("guest"))
}

fn split_credentials(text: &str) -> Result<(String, Secret), ManagementError> {
    let (user, password) = text.split_once(':').unwrap_or((text, "guest"));
    let decode =
        |text| percent_decode(text).map_err(|_| refuse("a % is not followed by two hexadecimal digits"));
    let user = String::from_utf8(decode(user)?).map_err(|_| refuse("the user is not UTF-8"))?;
    if user.contains(':') {
        return Err(refuse("HTTP's basic authentication has no users with a : in their name"));
    }
    Ok((user, Secret::new(decode(password)?)))
}

fn tls_files(secure: bool, query: Option<&str>) -> Result<Option<TlsFiles>, ManagementError> {
    let mut files = TlsFiles::default();
    for (name, value) in
        query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| pair.split_once('='))
    {
        let value = percent_decode(value).ok().and_then(|value| String::from_utf8(value).ok());
        let value = value.ok_or_else(|| refuse("a parameter is not UTF-8"))?;
        let file = match name {
            "cacertfile" => &mut files.authorities,
            "certfile" => &mut files.certificate,
            "keyfile" => &mut files.key,
            _ => return Err(refuse("it has cacertfile, certfile and keyfile as parameters, and no others")),
        };
        *file = Some(PathBuf::from(value));
    }
    match (secure, files == TlsFiles::default()) {
        (false, false) => Err(refuse("cacertfile, certfile and keyfile need https://")),
        (secure, _) => Ok(secure.then_some(files)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parsed: Result<ManagementAddress, ManagementError>, expected: &str) {
        match parsed {
            Ok(address) => assert_eq!(address.to_string(), expected),
            Err(error) => assert!(error.to_string().contains(expected), "{error}: expected {expected}"),
        }
    }

    #[test]
    fn an_address_is_decoded() {
        let check = |text, expected| check(ManagementAddress::parse(text), expected);
        check("http://127.0.0.1", "http://guest@127.0.0.1:15672");
        check("http://a.example:80/", "http://guest@a.example:80");
        check("https://me:p%40ss@a.example/mq/", "https://me@a.example:15671/mq");
        check("http://me:p@ss#1@a.example", "a # is written %23");
        check("http://me:p@ss@a.example", "http://me@a.example:15672");
        check("http://[::1]:15672", "http://guest@[::1]:15672");
        check("https://a?cacertfile=%2fca.pem", "https://guest@a:15671");
        check("http://a?cacertfile=ca.pem", "need https://");
        check("https://a?verify=none", "no others");
        check("amqp://a", "must begin with http://");
        check("127.0.0.1:15672", "must begin with http://");
        check("http://a%3ab:c@d", "with a : in");
        check("http://:80", "no host");
    }

    #[test]
    fn a_management_api_is_beside_its_broker() {
        let check = |text, expected| check(ManagementAddress::beside(text), expected);
        check("amqp://me:secret@a.example:5673/v", "http://me@a.example:15672");
        check("amqps://a.example?cacertfile=ca.pem,amqp://b", "https://guest@a.example:15671");
        check("http://a", "--url: ");
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let address = ManagementAddress::parse("http://Aladdin:open%20sesame@a").unwrap();
        assert_eq!(address.authorization(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{address} {address:?}").contains("sesame"));
        let error = ManagementAddress::parse("http://me:canary@a b").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
