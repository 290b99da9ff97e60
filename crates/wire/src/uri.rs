//! Addresses of brokers: `amqp://user:password@host:port/vhost?heartbeat=10`.
//!
//! User, password, host, vhost and parameters may be percent-encoded; the vhost `/` is written `%2f`.
//! What is left out has a default: `guest`, `guest`, `localhost`, 5672 (`amqps`: 5671), `/`.
//! Errors never quote a part that may hold the password.

use std::fmt;
use std::str::FromStr;

use crate::Secret;

/// A broker's address, decoded. Neither `Debug` nor `Display` shows the password or the parameters,
/// which may hold another one.
#[derive(Clone)]
pub struct AmqpUri {
    /// Whether the scheme is `amqps`.
    pub tls: bool,
    /// The user to log in as.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Host name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// Parameters after `?`, in order, for the client to interpret.
    pub parameters: Vec<(String, String)>,
}

/// Why a text is no broker address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriError {
    /// The scheme is neither `amqp` nor `amqps`.
    Scheme,
    /// A `%` is not followed by two hexadecimal digits.
    PercentEncoding,
    /// A decoded part is not UTF-8.
    Utf8,
    /// The host is empty where credentials or a port are given, or an IPv6 address lacks its `]`.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// There is a second `/` after the host: a `/` within the vhost is written `%2f`.
    Path,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UriError::Scheme => "the URI must start with amqp:// or amqps://",
            UriError::PercentEncoding => "a % in the URI is not followed by two hexadecimal digits",
            UriError::Utf8 => "a part of the URI is not UTF-8",
            UriError::Host => "the host in the URI is missing or malformed",
            UriError::Port => "the port in the URI is not a number from 1 to 65535",
            UriError::Path => "the URI has more than one / after the host; write a / in the vhost as %2f",
        })
    }
}

impl std::error::Error for UriError {}

impl AmqpUri {
    /// Decodes an address.
    ///
    /// # Errors
    /// Which part is wrong; never its text.
    pub fn parse(uri: &str) -> Result<AmqpUri, UriError> {
        let (scheme, rest) = uri.split_once("://").ok_or(UriError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(UriError::Scheme),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _fragment)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password, address) = split_credentials(authority)?;
        let (host, port) = split_address(address, if tls { 5671 } else { 5672 })?;
        Ok(AmqpUri { tls, user, password, host, port, vhost: vhost(path)?, parameters: parameters(query)? })
    }

    /// The first parameter with this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl FromStr for AmqpUri {
    type Err = UriError;

    fn from_str(uri: &str) -> Result<AmqpUri, UriError> {
        AmqpUri::parse(uri)
    }
}

/// The address without the password, fit for logs.
impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (user, host, port) = (percent_encode(&self.user), encode_host(&self.host), self.port);
        write!(f, "{scheme}://{user}@{host}:{port}/{}", percent_encode(&self.vhost))
    }
}

impl fmt::Debug for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUri({self})")
    }
}

fn split_credentials(authority: &str) -> Result<(String, Secret, &str), UriError> {
    let Some((userinfo, address)) = authority.rsplit_once('@') else {
        return Ok(("guest".to_owned(), Secret::from("guest"), authority));
    };
    if address.is_empty() {
        return Err(UriError::Host);
    }
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, "guest"));
    Ok((text(user)?, Secret::new(percent_decode(password)?), address))
}

fn split_address(address: &str, default_port: u16) -> Result<(String, u16), UriError> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(UriError::Host)?,
        None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
    };
    if host.is_empty() && !address.is_empty() {
        return Err(UriError::Host);
    }
    let host = if host.is_empty() { "localhost".to_owned() } else { text(host)? };
    let port = match port.strip_prefix(':') {
        Some(digits) => parse_port(digits)?,
        None if port.is_empty() => default_port,
        None => return Err(UriError::Host),
    };
    Ok((host, port))
}

fn parse_port(digits: &str) -> Result<u16, UriError> {
    let all_digits = digits.bytes().all(|octet| octet.is_ascii_digit());
    digits.parse().ok().filter(|&port| all_digits && port != 0).ok_or(UriError::Port)
}

/// No path and a bare `/` both mean the vhost `/`: a vhost without a name does not exist in practice.
fn vhost(path: &str) -> Result<String, UriError> {
    match path {
        "" => Ok("/".to_owned()),
        _ if path.contains('/') => Err(UriError::Path),
        _ => text(path),
    }
}

fn parameters(query: &str) -> Result<Vec<(String, String)>, UriError> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Ok((text(name)?, text(value)?)))
        .collect()
}

fn text(encoded: &str) -> Result<String, UriError> {
    String::from_utf8(percent_decode(encoded)?).map_err(|_| UriError::Utf8)
}

/// The octets that a percent-encoded text stands for.
///
/// # Errors
/// [`UriError::PercentEncoding`]: a `%` without two hexadecimal digits behind it.
pub fn percent_decode(encoded: &str) -> Result<Vec<u8>, UriError> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut octets = encoded.bytes();
    while let Some(octet) = octets.next() {
        decoded.push(match octet {
            b'%' => hex_digit(octets.next())? << 4 | hex_digit(octets.next())?,
            octet => octet,
        });
    }
    Ok(decoded)
}

fn hex_digit(octet: Option<u8>) -> Result<u8, UriError> {
    let digit = octet.and_then(|octet| char::from(octet).to_digit(16)).ok_or(UriError::PercentEncoding)?;
    Ok(digit as u8)
}

fn encode_host(host: &str) -> String {
    let parts: Vec<String> = host.split(':').map(percent_encode).collect();
    if parts.len() > 1 { format!("[{}]", parts.join(":")) } else { parts.concat() }
}

/// A text as one part of a URI: everything but letters, digits and `-_.~` becomes `%` and two hexadecimal digits.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(octet));
            }
            _ => encoded.push_str(&format!("%{octet:02x}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts<'a> = (bool, &'a str, &'a str, &'a str, u16, &'a str);

    fn check(uri: &str, expected: Result<Parts<'_>, UriError>) {
        let parsed = AmqpUri::parse(uri);
        let found = parsed.as_ref().map_err(|&error| error).map(|uri| {
            let password = std::str::from_utf8(uri.password.expose()).unwrap();
            (uri.tls, uri.user.as_str(), password, uri.host.as_str(), uri.port, uri.vhost.as_str())
        });
        assert_eq!(found, expected, "{uri}");
    }

    #[test]
    fn every_part_has_a_default() {
        check("amqp://", Ok((false, "guest", "guest", "localhost", 5672, "/")));
        check("amqps://", Ok((true, "guest", "guest", "localhost", 5671, "/")));
        check("AMQP://h", Ok((false, "guest", "guest", "h", 5672, "/")));
        check("amqp://h/", Ok((false, "guest", "guest", "h", 5672, "/")));
        check("amqp://u@h:1", Ok((false, "u", "guest", "h", 1, "/")));
        check("amqp:///v", Ok((false, "guest", "guest", "localhost", 5672, "v")));
    }

    #[test]
    fn parts_are_decoded() {
        check("amqp://u:p@h:1/v", Ok((false, "u", "p", "h", 1, "v")));
        check("amqp://a%3Ab:c%40d%2F@h/%2f", Ok((false, "a:b", "c@d/", "h", 5672, "/")));
        check("amqp://u:@h", Ok((false, "u", "", "h", 5672, "/")));
        check("amqp://u:p@ss@h", Ok((false, "u", "p@ss", "h", 5672, "/")));
        check("amqp://[::1]:99/v%C3%A4", Ok((false, "guest", "guest", "::1", 99, "v\u{e4}")));
        check("amqp://[::1]", Ok((false, "guest", "guest", "::1", 5672, "/")));
    }

    #[test]
    fn what_is_refused() {
        check("", Err(UriError::Scheme));
        check("http://h", Err(UriError::Scheme));
        check("amqp:h", Err(UriError::Scheme));
        check("amqp://h/%2", Err(UriError::PercentEncoding));
        check("amqp://h/%zz", Err(UriError::PercentEncoding));
        check("amqp://h/%+1", Err(UriError::PercentEncoding));
        check("amqp://h/%ff", Err(UriError::Utf8));
        check("amqp://u:p@", Err(UriError::Host));
        check("amqp://:5672", Err(UriError::Host));
        check("amqp://[::1", Err(UriError::Host));
        check("amqp://[::1]x", Err(UriError::Host));
        check("amqp://h:", Err(UriError::Port));
        check("amqp://h:0", Err(UriError::Port));
        check("amqp://h:+1", Err(UriError::Port));
        check("amqp://h:65536", Err(UriError::Port));
        check("amqp://h/a/b", Err(UriError::Path));
    }

    #[test]
    fn parameters_keep_their_order() {
        let uri: AmqpUri = "amqp://h/v?heartbeat=10&heartbeat=20&x&name=a%20b".parse().unwrap();
        assert_eq!(uri.parameter("heartbeat"), Some("10"));
        assert_eq!(
            (uri.parameter("x"), uri.parameter("name"), uri.parameter("y")),
            (Some(""), Some("a b"), None)
        );
        assert_eq!(uri.vhost, "v");
    }

    #[test]
    fn neither_address_nor_error_shows_the_password() {
        let uri = AmqpUri::parse("amqps://us%20er:canary@[::1]/%2f?password=canary").unwrap();
        assert_eq!(uri.to_string(), "amqps://us%20er@[::1]:5671/%2f");
        assert!(!format!("{uri:?}").contains("canary"));
        for wrong in
            ["amqp://u:canary@h:canary", "amqp://u:canary%@h", "canary://u:canary@h", "amqp://u:canary@"]
        {
            let error = AmqpUri::parse(wrong).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{wrong}");
        }
    }
}
