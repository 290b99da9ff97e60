//! From the first octet to an open virtual host. Nothing in here can touch the broker's content.

use std::sync::Arc;

use leveret_broker::roster::Introduction;
use leveret_broker::users::User;
use leveret_broker::{Connection, ConnectionPort, Refusal};
use leveret_wire::method::{ConnectionOpenOk, ConnectionStart, ConnectionTune};
use leveret_wire::sasl::{self, Response};
use leveret_wire::{
    DEFAULT_FRAME_MAX, INITIAL_FRAME_MAX, Method, PROTOCOL_HEADER, ProtocolHeader, RawTable, ReplyCode,
    TuneLimits, WireError, negotiate_server, protocol_header, split_frame,
};

use super::{Received, Step, check_heartbeat};
use crate::identity::{Client, cluster_name, server_properties};
use crate::logins::Claim;
use crate::outbox::{Outbox, SocketOutlet};
use crate::peer::Peer;
use crate::shared::{Shared, now_us};

/// A connection that is not open yet.
pub(super) struct Greeting {
    client: Client,
    introduction: Introduction,
    /// The user that the client's certificate names.
    certificate_user: Option<String>,
    stage: Stage,
}

enum Stage {
    Header,
    StartOk,
    /// The credentials are being checked.
    Login,
    TuneOk(Arc<User>),
    Open(Arc<User>, TuneLimits),
    Opened(Opened),
    Over,
}

/// A finished handshake.
pub(super) struct Opened {
    pub(super) connection: Arc<Connection>,
    pub(super) limits: TuneLimits,
    pub(super) client: Client,
}

impl Greeting {
    pub(super) fn new(peer: Peer) -> Self {
        let Peer { over, tls, traffic, certificate_user, .. } = peer;
        let connected_at_ms = now_us() / 1000;
        let introduction = Introduction { over, tls, traffic, connected_at_ms, ..Introduction::default() };
        Self { client: Client::default(), introduction, certificate_user, stage: Stage::Header }
    }

    /// Before `start-ok` a peer has not shown that it speaks AMQP; a refused login is only told to those who
    /// understand it.
    pub(super) fn may_be_told(&self) -> bool {
        match self.stage {
            Stage::Header => false,
            Stage::Login | Stage::Over => self.client.authentication_failure_close,
            _ => true,
        }
    }

    pub(super) fn receive(
        &mut self,
        rest: &[u8],
        shared: &Arc<Shared>,
        outbox: &Arc<Outbox>,
    ) -> Result<Received, WireError> {
        if let Stage::Header = self.stage {
            return Ok(self.header(rest, shared, outbox));
        }
        let Some((frame, octets)) = split_frame(rest, self.frame_max())? else {
            return Ok(Received::Incomplete);
        };
        if frame.kind == leveret_wire::FRAME_HEARTBEAT {
            return check_heartbeat(&frame).map(|()| Received::Frame(octets));
        }
        if frame.kind != leveret_wire::FRAME_METHOD {
            return Err(leveret_wire::content::expected_method());
        }
        if frame.channel != 0 {
            return Err(WireError::new(ReplyCode::CHANNEL_ERROR, "expected method on channel 0"));
        }
        let method = Method::decode(frame.payload)?;
        let step = self.method(&method, shared, outbox)?;
        Ok(match step {
            Step::More => Received::Frame(octets),
            step => Received::Step(octets, step),
        })
    }

    /// Octets that a frame may have. What is more has to be agreed, and with strangers nothing has been.
    fn frame_max(&self) -> u32 {
        let mut frame_max = DEFAULT_FRAME_MAX;
        if let Stage::Open(_, limits) = &self.stage {
            return limits.frame_max;
        }
        frame_max = frame_max.min(INITIAL_FRAME_MAX); // mutation: before-login
        frame_max
    }

    fn header(&mut self, rest: &[u8], shared: &Shared, outbox: &Outbox) -> Received {
        let Some((octets, _)) = rest.split_first_chunk::<8>() else {
            return Received::Incomplete;
        };
        let version_minor = match protocol_header(octets) {
            ProtocolHeader::Amqp091 | ProtocolHeader::Amqp09 => 9,
            ProtocolHeader::Refuse => {
                outbox.send_raw(&PROTOCOL_HEADER);
                self.stage = Stage::Over;
                return Received::Step(rest.len(), Step::Close);
            }
        };
        let properties = server_properties(&cluster_name(&shared.broker)).raw_bytes().unwrap_or_default();
        outbox.send(
            0,
            &Method::ConnectionStart(ConnectionStart {
                version_major: 0,
                version_minor,
                server_properties: RawTable::parse(&properties).unwrap_or_default(),
                mechanisms: if self.certificate_user.is_some() {
                    b"PLAIN AMQPLAIN EXTERNAL"
                } else {
                    b"PLAIN AMQPLAIN"
                },
                locales: b"en_US",
            }),
        );
        self.stage = Stage::StartOk;
        Received::Frame(8)
    }

    fn method(
        &mut self,
        method: &Method<'_>,
        shared: &Arc<Shared>,
        outbox: &Arc<Outbox>,
    ) -> Result<Step, WireError> {
        match (std::mem::replace(&mut self.stage, Stage::Over), method) {
            (Stage::StartOk, Method::ConnectionStartOk(start_ok)) => {
                self.client = Client::of(start_ok.client_properties);
                self.introduction.client_properties = start_ok.client_properties.as_bytes().into();
                self.introduction.auth_mechanism = start_ok.mechanism.to_owned();
                let response = sasl::parse(start_ok.mechanism, start_ok.response);
                self.stage = Stage::StartOk; // an unknown mechanism is told to everybody
                let mechanism = start_ok.mechanism.to_owned();
                let claim = match (response?, self.certificate_user.take()) {
                    (Response::Password(credentials), _) => Claim::Password { credentials, mechanism },
                    (Response::External, Some(user)) => Claim::Certificate { user },
                    (Response::External, None) => {
                        let text = format!("unknown authentication mechanism '{mechanism}'");
                        return Err(WireError::new(ReplyCode::COMMAND_INVALID, text).with_method(10, 11));
                    }
                };
                self.stage = Stage::Login;
                Ok(Step::Authenticate(claim))
            }
            (Stage::TuneOk(user), Method::ConnectionTuneOk(tune_ok)) => {
                self.stage = Stage::StartOk;
                let limits = negotiate_server(shared.tune_limits(), tune_ok)?;
                outbox.agreed(limits.frame_max, self.client.consumer_cancel_notify);
                self.stage = Stage::Open(user, limits);
                Ok(Step::More)
            }
            (Stage::Open(user, limits), Method::ConnectionOpen(open)) => {
                self.stage = Stage::StartOk;
                let opened = self.open(user, limits, open.virtual_host, shared, outbox);
                self.stage = Stage::Opened(opened.map_err(|refusal| {
                    WireError::new(refusal.code, refusal.explanation).with_method(10, 40)
                })?);
                Ok(Step::More)
            }
            (_, Method::ConnectionClose(_)) => {
                let close_ok = leveret_wire::method::ConnectionCloseOk;
                outbox.send(0, &Method::ConnectionCloseOk(close_ok));
                Ok(Step::Close)
            }
            (stage, method) => Err(unexpected(stage, method, &mut self.stage)),
        }
    }

    fn open(
        &mut self,
        user: Arc<User>,
        limits: TuneLimits,
        vhost: &str,
        shared: &Arc<Shared>,
        outbox: &Arc<Outbox>,
    ) -> Result<Opened, Refusal> {
        let broker = shared.broker.clone();
        let introduction = Introduction {
            channel_max: limits.channel_max,
            frame_max: limits.frame_max,
            timeout_s: limits.heartbeat_s,
            ..std::mem::take(&mut self.introduction)
        };
        let outlet = Box::new(SocketOutlet(outbox.clone()));
        let port = ConnectionPort::introduced(broker.next_connection_id(), outlet, introduction);
        let connection = Connection::open(broker, port, user, vhost, self.client.consumer_cancel_notify)?;
        outbox.send(0, &Method::ConnectionOpenOk(ConnectionOpenOk { known_hosts: "" }));
        Ok(Opened { connection, limits, client: self.client })
    }

    pub(super) fn authenticated(
        &mut self,
        login: Result<Arc<User>, Refusal>,
        shared: &Shared,
        outbox: &Outbox,
    ) -> Result<Step, Refusal> {
        let user = login?;
        let limits = shared.tune_limits();
        let tune = ConnectionTune {
            channel_max: limits.channel_max,
            frame_max: limits.frame_max,
            heartbeat: limits.heartbeat_s,
        };
        outbox.send(0, &Method::ConnectionTune(tune));
        self.stage = Stage::TuneOk(user);
        Ok(Step::More)
    }

    pub(super) fn take_opened(&mut self) -> Option<Opened> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Opened(opened) => Some(opened),
            other => {
                self.stage = other;
                None
            }
        }
    }
}

/// Any other method than the one the stage waits for.
fn unexpected(stage: Stage, method: &Method<'_>, put_back: &mut Stage) -> WireError {
    let waiting_for = match &stage {
        Stage::Header => "header",
        Stage::StartOk | Stage::Login | Stage::Over => "starting",
        Stage::TuneOk(_) => "tuning",
        Stage::Open(..) | Stage::Opened(_) => "opening",
    };
    *put_back = stage;
    let text = format!("unexpected method in connection state {waiting_for}");
    WireError::new(ReplyCode::CHANNEL_ERROR, text).with_method(method.class_id(), method.method_id())
}
