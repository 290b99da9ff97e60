//! From the protocol header to connection.open-ok, without the socket. Every answer consumes the state it answers:
//!
//! ```text
//!  Start ──connection.start──▶ Tune ──connection.tune──▶ OpenOk ──connection.open-ok──▶ Agreed
//!    └────────────────┴──── connection.close: Refused ─────┘
//! ```

use leveret_wire::handshake::sasl;
use leveret_wire::method::{
    ConnectionCloseOk, ConnectionOpen, ConnectionStart, ConnectionStartOk, ConnectionTuneOk,
};
use leveret_wire::{
    FieldTable, FieldValue, INITIAL_FRAME_MAX, Method, PROTOCOL_HEADER, RawTable, Secret, TuneLimits,
    negotiate_client, split_frame, write_method,
};

use crate::connection::ServerProperties;

/// What we can, said to the broker.
const CAPABILITIES: [&str; 5] = [
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "publisher_confirms",
];
/// A hostile broker's idea of a frame is no reason to reserve more than this, in octets.
const FRAME_MAX_LIMIT: u32 = 16 << 20;

/// Who logs in, where, and with which wishes.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) proof: Proof,
    pub(crate) vhost: String,
    pub(crate) name: Option<String>,
    pub(crate) wish: TuneLimits,
}

/// How the user shows who it is.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// By PLAIN or AMQPLAIN.
    Password(Secret),
    /// By EXTERNAL: the broker knows from the client's certificate.
    Certificate,
}

/// What both sides agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) server: ServerProperties,
    pub(crate) limits: TuneLimits,
}

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HandshakeError {
    /// The broker said why.
    Refused { code: u16, text: String, stage: Stage },
    /// The peer broke the protocol, or cannot do what is needed.
    Protocol(String),
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Until the credentials were accepted.
    Login,
    /// The virtual host.
    Vhost,
}

/// What an octet more brought.
#[derive(Debug)]
pub(crate) enum Shake {
    /// More octets are needed. This many are done with.
    More(Handshake, usize),
    /// The connection is open. This many octets are done with; what follows them belongs to the session.
    Done(Agreed, usize),
}

/// A connection that is being opened.
#[derive(Debug)]
pub(crate) struct Handshake {
    login: Login,
    state: State,
}

#[derive(Debug)]
enum State {
    Start,
    Tune { server: ServerProperties },
    OpenOk { server: ServerProperties, limits: TuneLimits },
}

impl Handshake {
    /// Appends the protocol header.
    pub(crate) fn start(login: Login, out: &mut Vec<u8>) -> Handshake {
        out.extend_from_slice(&PROTOCOL_HEADER);
        Handshake { login, state: State::Start }
    }

    /// Takes what has come, and appends the answers.
    pub(crate) fn receive(mut self, buf: &[u8], out: &mut Vec<u8>) -> Result<Shake, HandshakeError> {
        if matches!(self.state, State::Start) && buf.starts_with(b"AMQP") {
            let version = buf.get(4..8).map_or_else(String::new, |octets| format!(" {octets:?}"));
            return Err(HandshakeError::Protocol(format!("it speaks another version:{version}")));
        }
        let mut used = 0;
        while let Some((frame, size_bytes)) = split_frame(&buf[used..], INITIAL_FRAME_MAX).map_err(broken)? {
            used += size_bytes;
            if frame.kind == leveret_wire::FRAME_HEARTBEAT {
                continue;
            }
            if frame.kind != leveret_wire::FRAME_METHOD || frame.channel != 0 {
                return Err(broken(frame.unexpected()));
            }
            let method = Method::decode(frame.payload).map_err(broken)?;
            self = match self.step(&method, out)? {
                Step::Next(next) => next,
                Step::Done(agreed) => return Ok(Shake::Done(agreed, used)),
            };
        }
        Ok(Shake::More(self, used))
    }

    fn step(self, method: &Method<'_>, out: &mut Vec<u8>) -> Result<Step, HandshakeError> {
        let Handshake { login, state } = self;
        let state = match (state, method) {
            (state, Method::ConnectionClose(close)) => {
                send(out, &Method::ConnectionCloseOk(ConnectionCloseOk))?;
                let stage = if matches!(state, State::OpenOk { .. }) { Stage::Vhost } else { Stage::Login };
                let text = close.reply_text.to_owned();
                return Err(HandshakeError::Refused { code: close.reply_code, text, stage });
            }
            (State::Start, Method::ConnectionStart(start)) => {
                send_start_ok(start, &login, out)?;
                State::Tune { server: ServerProperties::new(start.server_properties.to_table()) }
            }
            (State::Tune { server }, Method::ConnectionTune(tune)) => {
                let limits = capped(negotiate_client(login.wish, tune));
                let TuneLimits { channel_max, frame_max, heartbeat_s: heartbeat } = limits;
                send(out, &Method::ConnectionTuneOk(ConnectionTuneOk { channel_max, frame_max, heartbeat }))?;
                let open = ConnectionOpen { virtual_host: &login.vhost, ..ConnectionOpen::default() };
                send(out, &Method::ConnectionOpen(open))?;
                State::OpenOk { server, limits }
            }
            (State::OpenOk { server, limits }, Method::ConnectionOpenOk(_)) => {
                return Ok(Step::Done(Agreed { server, limits }));
            }
            (State::Tune { .. }, Method::ConnectionSecure(_)) => {
                return Err(HandshakeError::Protocol(
                    "it wants a second proof after the password".to_owned(),
                ));
            }
            (_, method) => {
                let text = format!("{} came too early or too late", method.name());
                return Err(HandshakeError::Protocol(text));
            }
        };
        Ok(Step::Next(Handshake { login, state }))
    }
}

enum Step {
    Next(Handshake),
    Done(Agreed),
}

fn send_start_ok(
    start: &ConnectionStart<'_>,
    login: &Login,
    out: &mut Vec<u8>,
) -> Result<(), HandshakeError> {
    if (start.version_major, start.version_minor) != (0, 9) {
        let text = format!("it speaks AMQP {}-{}", start.version_major, start.version_minor);
        return Err(HandshakeError::Protocol(text));
    }
    let (mechanism, response) = prove(login, start.mechanisms)?;
    let properties = client_properties(login.name.as_deref()).raw_bytes().map_err(unsendable)?;
    let client_properties = RawTable::parse(&properties).map_err(broken)?;
    let start_ok = ConnectionStartOk { client_properties, mechanism, response: &response, locale: "en_US" };
    send(out, &Method::ConnectionStartOk(start_ok))
}

/// The mechanism to log in by, of those offered, and its response.
fn prove(login: &Login, offered: &[u8]) -> Result<(&'static str, Vec<u8>), HandshakeError> {
    let offers = |wanted: &[u8]| offered.split(|&octet| octet == b' ').any(|one| one == wanted);
    let missing = |what: &str| {
        let offered = String::from_utf8_lossy(offered);
        Err(HandshakeError::Protocol(format!("no login with {what}, only: {offered}")))
    };
    match &login.proof {
        Proof::Password(password) if offers(b"PLAIN") => {
            Ok(("PLAIN", sasl::build_plain(&login.user, password)))
        }
        Proof::Password(password) if offers(b"AMQPLAIN") => {
            Ok(("AMQPLAIN", sasl::build_amqplain(&login.user, password).map_err(unsendable)?))
        }
        Proof::Password(_) => missing("a password"),
        Proof::Certificate if offers(b"EXTERNAL") => Ok(("EXTERNAL", Vec::new())),
        Proof::Certificate => missing("a certificate"),
    }
}

fn client_properties(name: Option<&str>) -> FieldTable {
    let capabilities: FieldTable = CAPABILITIES.into_iter().map(|name| (name, true)).collect();
    let mut properties = FieldTable::from([
        ("capabilities", FieldValue::Table(capabilities)),
        ("platform", "Rust".into()),
        ("product", "leveret-client".into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
    ]);
    if let Some(name) = name {
        properties.push("connection_name", name);
    }
    properties
}

/// No limit becomes the default one, which both sides then keep.
fn capped(limits: TuneLimits) -> TuneLimits {
    let frame_max = match limits.frame_max {
        0 => leveret_wire::DEFAULT_FRAME_MAX,
        frame_max => frame_max.min(FRAME_MAX_LIMIT),
    };
    let channel_max = if limits.channel_max == 0 { u16::MAX } else { limits.channel_max };
    TuneLimits { frame_max, channel_max, ..limits }
}

fn send(out: &mut Vec<u8>, method: &Method<'_>) -> Result<(), HandshakeError> {
    write_method(out, 0, method).map_err(unsendable)
}

fn unsendable(error: leveret_wire::EncodeError) -> HandshakeError {
    HandshakeError::Protocol(format!("user, password, virtual host or name are not sendable: {error}"))
}

fn broken(error: leveret_wire::WireError) -> HandshakeError {
    HandshakeError::Protocol(error.text.into_owned())
}

#[cfg(test)]
mod tests {
    use leveret_wire::method::{ConnectionClose, ConnectionOpenOk, ConnectionSecure, ConnectionTune};

    use super::*;

    fn login() -> Login {
        Login {
            user: "guest".to_owned(),
            proof: Proof::Password(Secret::from("canary")),
            vhost: "/".to_owned(),
            name: Some("test".to_owned()),
            wish: TuneLimits { channel_max: 2047, frame_max: 131_072, heartbeat_s: 10 },
        }
    }

    fn start(mechanisms: &[u8]) -> Method<'_> {
        Method::ConnectionStart(ConnectionStart {
            version_major: 0,
            version_minor: 9,
            mechanisms,
            locales: b"en_US",
            ..ConnectionStart::default()
        })
    }

    #[test]
    fn a_certificate_is_never_replaced_by_a_password() {
        let check = |proof: Proof, offered: &[u8], expected: Result<&str, &str>| {
            let found = prove(&Login { proof, ..login() }, offered).map(|(mechanism, _)| mechanism);
            let expected = expected.map_err(|text| HandshakeError::Protocol(text.to_owned()));
            assert_eq!(found, expected);
        };
        let password = || Proof::Password(Secret::from("canary"));
        check(Proof::Certificate, b"PLAIN AMQPLAIN EXTERNAL", Ok("EXTERNAL"));
        check(Proof::Certificate, b"PLAIN", Err("no login with a certificate, only: PLAIN"));
        check(password(), b"EXTERNAL AMQPLAIN", Ok("AMQPLAIN"));
        check(password(), b"EXTERNAL", Err("no login with a password, only: EXTERNAL"));
    }

    fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> Method<'static> {
        Method::ConnectionTune(ConnectionTune { channel_max, frame_max, heartbeat })
    }

    fn open_ok() -> Method<'static> {
        Method::ConnectionOpenOk(ConnectionOpenOk::default())
    }

    fn close(reply_code: u16, reply_text: &str) -> Method<'_> {
        Method::ConnectionClose(ConnectionClose { reply_code, reply_text, class_id: 0, method_id: 0 })
    }

    /// Feeds octet by octet; gives the answers after the protocol header, and how it ended.
    fn shake(methods: &[Method<'_>]) -> (Vec<u8>, Result<Option<Agreed>, HandshakeError>) {
        let (mut octets, mut out) = (Vec::new(), Vec::new());
        for method in methods {
            write_method(&mut octets, 0, method).unwrap();
        }
        let mut handshake = Handshake::start(login(), &mut out);
        assert_eq!(out, PROTOCOL_HEADER);
        out.clear();
        let mut pending = Vec::new();
        for octet in octets {
            pending.push(octet);
            match handshake.receive(&pending, &mut out) {
                Ok(Shake::More(next, used)) => {
                    handshake = next;
                    pending.drain(..used);
                }
                Ok(Shake::Done(agreed, used)) => {
                    assert_eq!(used, pending.len());
                    return (out, Ok(Some(agreed)));
                }
                Err(error) => return (out, Err(error)),
            }
        }
        (out, Ok(None))
    }

    fn answers(octets: &[u8]) -> Vec<String> {
        let (mut names, mut at) = (Vec::new(), 0);
        while let Some((frame, size_bytes)) = split_frame(&octets[at..], 0).unwrap() {
            names.push(Method::decode(frame.payload).unwrap().name().to_owned());
            at += size_bytes;
        }
        assert_eq!(at, octets.len());
        names
    }

    #[test]
    fn a_handshake_is_answered_to_the_letter() {
        let (out, agreed) = shake(&[start(b"AMQPLAIN PLAIN"), tune(100, 8192, 60), open_ok()]);
        let agreed = agreed.unwrap().unwrap();
        assert_eq!(agreed.limits, TuneLimits { channel_max: 100, frame_max: 8192, heartbeat_s: 10 });
        assert_eq!(answers(&out), ["connection.start-ok", "connection.tune-ok", "connection.open"]);
        let table = concat!(
            "\x0ccapabilitiesF\0\0\0\x6f",
            "\x1cauthentication_failure_closet\x01\x0abasic.nackt\x01\x12connection.blockedt\x01",
            "\x16consumer_cancel_notifyt\x01\x12publisher_confirmst\x01",
            "\x08platformS\0\0\0\x04Rust\x07productS\0\0\0\x0eleveret-client",
            "\x07versionS\0\0\0\x05",
            env!("CARGO_PKG_VERSION"),
            "\x0fconnection_nameS\0\0\0\x04test",
        );
        let sized = |text: &[u8]| [&(text.len() as u32).to_be_bytes(), text].concat();
        let login = [&b"\x05PLAIN"[..], &sized(b"\0guest\0canary"), b"\x05en_US"].concat();
        let start_ok = [&b"\0\x0a\0\x0b"[..], &sized(table.as_bytes()), &login].concat();
        let tune_ok = b"\0\x0a\0\x1f\0\x64\0\0\x20\0\0\x0a";
        let open = b"\0\x0a\0\x28\x01/\0\0";
        let frame = |payload: &[u8]| [&b"\x01\0\0"[..], &sized(payload), &[0xce]].concat();
        assert_eq!(out, [frame(&start_ok), frame(tune_ok), frame(open)].concat());
    }

    #[test]
    fn absurd_limits_are_brought_down() {
        let check = |channel_max, frame_max, heartbeat, expected| {
            let (_, agreed) = shake(&[start(b"PLAIN"), tune(channel_max, frame_max, heartbeat), open_ok()]);
            let limits = agreed.unwrap().unwrap().limits;
            assert_eq!((limits.channel_max, limits.frame_max, limits.heartbeat_s), expected);
        };
        check(0, 0, 0, (2047, 131_072, 10));
        check(u16::MAX, u32::MAX, u16::MAX, (2047, 131_072, 10));
        check(1, 1, 1, (1, 4096, 1));
    }

    #[test]
    fn refusals_say_how_far_it_came() {
        let check = |before: &[Method<'_>], stage| {
            let (out, refused) = shake(&[before, &[close(403, "ACCESS_REFUSED - no")]].concat());
            let text = "ACCESS_REFUSED - no".to_owned();
            assert_eq!(refused.unwrap_err(), HandshakeError::Refused { code: 403, text, stage });
            assert_eq!(answers(&out).last().unwrap(), "connection.close-ok");
        };
        check(&[], Stage::Login);
        check(&[start(b"PLAIN")], Stage::Login);
        check(&[start(b"PLAIN"), tune(0, 0, 0)], Stage::Vhost);
    }

    #[test]
    fn what_is_out_of_place_is_named() {
        let check = |methods: &[Method<'_>], expected: &str| {
            let (_, error) = shake(methods);
            assert_eq!(error.unwrap_err(), HandshakeError::Protocol(expected.to_owned()));
        };
        check(&[tune(0, 0, 0)], "connection.tune came too early or too late");
        check(&[start(b"PLAIN"), start(b"PLAIN")], "connection.start came too early or too late");
        check(&[start(b"PLAIN"), open_ok()], "connection.open-ok came too early or too late");
        check(&[start(b"EXTERNAL")], "no login with a password, only: EXTERNAL");
        let secure = Method::ConnectionSecure(ConnectionSecure::default());
        check(&[start(b"PLAIN"), secure], "it wants a second proof after the password");
        let newer = ConnectionStart { version_major: 1, mechanisms: b"PLAIN", ..ConnectionStart::default() };
        check(&[Method::ConnectionStart(newer)], "it speaks AMQP 1-0");
    }

    #[test]
    fn strangers_are_recognised() {
        let check = |octets: &[u8], expected: &str| {
            let handshake = Handshake::start(login(), &mut Vec::new());
            let error = handshake.receive(octets, &mut Vec::new()).unwrap_err();
            let HandshakeError::Protocol(text) = error else { panic!("{error:?}") };
            assert!(text.contains(expected), "{text}");
        };
        check(b"AMQP\0\x01\0\0", "another version: [0, 1, 0, 0]");
        check(b"HTTP/1.1 400 Bad Request", "frame_too_large");
        check(b"\x01\0\x01\0\0\0\x04\0\x0a\0\x0a\xce", "all octets");
    }
}
