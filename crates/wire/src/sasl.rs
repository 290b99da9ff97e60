//! SASL: how a client proves who it is in `response` of connection.start-ok.
//!
//! | mechanism | response |
//! |---|---|
//! | PLAIN | `\0` user `\0` password (an authorization id before the first `\0` is refused, as in RabbitMQ) |
//! | AMQPLAIN | the octets of a field table with `LOGIN` and `PASSWORD`, without its length |
//! | EXTERNAL | nothing: the user is known otherwise, e.g. from a TLS certificate (the Go client says `\0*\0*`) |
//!
//! RabbitMQ quotes a response it cannot read in its error text, password and all. We do not.

use crate::{FieldTable, FieldValue, RawTable, ReplyCode, Secret, WireError};

/// A user name and a password as a client sent them.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A mechanism's response, decoded.
#[derive(Debug, Clone)]
pub enum Response {
    /// PLAIN or AMQPLAIN.
    Password(Credentials),
    /// EXTERNAL.
    External,
}

/// Decodes the response of a mechanism.
///
/// # Errors
/// 503 `unknown authentication mechanism 'X'`; 502 for a response the mechanism does not have.
pub fn parse(mechanism: &str, response: &[u8]) -> Result<Response, WireError> {
    match mechanism {
        "PLAIN" => parse_plain(response).map(Response::Password),
        "AMQPLAIN" => parse_amqplain(response).map(Response::Password),
        "EXTERNAL" => parse_external(response).map(|()| Response::External),
        _ => {
            let text = format!("unknown authentication mechanism '{mechanism}'");
            Err(WireError::new(ReplyCode::COMMAND_INVALID, text).with_method(10, 11))
        }
    }
}

/// Decodes a PLAIN response.
///
/// # Errors
/// 502 unless it is `\0` user `\0` password, the user in UTF-8.
pub fn parse_plain(response: &[u8]) -> Result<Credentials, WireError> {
    let mut parts = response.split(|&octet| octet == 0);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(b""), Some(user), Some(password), None) => credentials(user, password),
        _ => None,
    }
    .ok_or_else(|| invalid(format!("response of {} octets invalid", response.len())))
}

/// The PLAIN response for a user.
pub fn build_plain(user: &str, password: &Secret) -> Vec<u8> {
    [b"\0", user.as_bytes(), b"\0", password.expose()].concat()
}

/// Decodes an AMQPLAIN response.
///
/// # Errors
/// 502 unless it is a sound table with the texts `LOGIN` and `PASSWORD`.
pub fn parse_amqplain(response: &[u8]) -> Result<Credentials, WireError> {
    let table = RawTable::parse(response).map_err(|error| error.with_method(10, 11))?;
    match (table.find("LOGIN"), table.find("PASSWORD")) {
        (Some(FieldValue::LongString(user)), Some(FieldValue::LongString(password))) => {
            credentials(&user, &password)
                .ok_or_else(|| invalid("AMQPLAIN auth info has a LOGIN field that is not UTF-8".to_owned()))
        }
        (Some(_), Some(_)) => {
            let text = "AMQPLAIN auth info uses unsupported type for LOGIN or PASSWORD field";
            Err(invalid(text.to_owned()))
        }
        _ => Err(invalid("AMQPLAIN auth info is missing LOGIN or PASSWORD field".to_owned())),
    }
}

/// The AMQPLAIN response for a user, for peers that offer nothing else.
///
/// # Errors
/// A password above 2³²−1 octets.
pub fn build_amqplain(user: &str, password: &Secret) -> Result<Vec<u8>, crate::EncodeError> {
    let password = FieldValue::LongString(password.expose().to_vec());
    FieldTable::from([("LOGIN", FieldValue::from(user)), ("PASSWORD", password)]).raw_bytes()
}

/// Accepts an EXTERNAL response, which must be empty, or name nobody as the Go client does.
///
/// # Errors
/// 502 if it asks for another identity than the one proven.
pub fn parse_external(response: &[u8]) -> Result<(), WireError> {
    if response.is_empty() || response == b"\0*\0*" {
        Ok(())
    } else {
        Err(invalid("response of EXTERNAL must be empty".to_owned()))
    }
}

fn credentials(user: &[u8], password: &[u8]) -> Option<Credentials> {
    let user = std::str::from_utf8(user).ok()?;
    Some(Credentials { user: user.to_owned(), password: Secret::new(password) })
}

fn invalid(text: String) -> WireError {
    WireError::new(ReplyCode::SYNTAX_ERROR, text).with_method(10, 11)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mechanism: &str, response: &[u8], expected: Result<(&str, &[u8]), (ReplyCode, &str)>) {
        let found = match parse(mechanism, response) {
            Ok(Response::Password(Credentials { user, password })) => Ok((user, password.expose().to_vec())),
            Ok(Response::External) => Ok((String::new(), Vec::new())),
            Err(error) => {
                assert_eq!((error.class_id, error.method_id), (10, 11));
                Err((error.code, error.text.into_owned()))
            }
        };
        let expected = expected
            .map(|(user, password)| (user.to_owned(), password.to_vec()))
            .map_err(|(code, text)| (code, text.to_owned()));
        assert_eq!(found, expected, "{mechanism} {response:?}");
    }

    #[test]
    fn responses() {
        let syntax = ReplyCode::SYNTAX_ERROR;
        check("PLAIN", b"\0guest\0secret", Ok(("guest", b"secret")));
        check("PLAIN", b"\0guest\0", Ok(("guest", b"")));
        check("PLAIN", b"\0g\0\xff", Ok(("g", b"\xff")));
        check("PLAIN", b"", Err((syntax, "response of 0 octets invalid")));
        check("PLAIN", b"guest\0secret", Err((syntax, "response of 12 octets invalid")));
        check("PLAIN", b"\0guest", Err((syntax, "response of 6 octets invalid")));
        check("PLAIN", b"z\0guest\0secret", Err((syntax, "response of 14 octets invalid")));
        check("PLAIN", b"\0guest\0sec\0ret", Err((syntax, "response of 14 octets invalid")));
        check("PLAIN", b"\0\xff\0secret", Err((syntax, "response of 9 octets invalid")));
        let login = b"\x05LOGINS\0\0\0\x01u\x08PASSWORDS\0\0\0\x01p";
        check("AMQPLAIN", login, Ok(("u", b"p")));
        let missing = "AMQPLAIN auth info is missing LOGIN or PASSWORD field";
        check("AMQPLAIN", b"", Err((syntax, missing)));
        check("AMQPLAIN", &login[..12], Err((syntax, missing)));
        check("AMQPLAIN", &login[..11], Err((syntax, "field table ends within an entry")));
        let wrong_type = "AMQPLAIN auth info uses unsupported type for LOGIN or PASSWORD field";
        check("AMQPLAIN", b"\x05LOGINt\x01\x08PASSWORDV", Err((syntax, wrong_type)));
        check("EXTERNAL", b"", Ok(("", b"")));
        check("EXTERNAL", b"\0*\0*", Ok(("", b"")));
        check("EXTERNAL", b"root", Err((syntax, "response of EXTERNAL must be empty")));
        let unknown = "unknown authentication mechanism 'ANONYMOUS'";
        check("ANONYMOUS", b"", Err((ReplyCode::COMMAND_INVALID, unknown)));
    }

    #[test]
    fn what_is_built_is_understood() {
        let password = Secret::from("p\u{e4}ss");
        check("PLAIN", &build_plain("user", &password), Ok(("user", password.expose())));
        check("AMQPLAIN", &build_amqplain("user", &password).unwrap(), Ok(("user", password.expose())));
    }

    #[test]
    fn credentials_do_not_show_the_password() {
        let credentials = parse_plain(b"\0user\0canary").unwrap();
        assert!(!format!("{credentials:?}").contains("canary"));
    }
}
