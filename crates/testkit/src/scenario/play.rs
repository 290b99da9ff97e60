//! Plays a scenario against a broker.
//!
//! ```text
//!   steps ──► Player ──► Peer (one per connection) ──► RawClient
//!                │          events per channel, in order
//!                └─ environment: unique names, captured values
//! ```
//!
//! Whatever the broker said that no step expected fails the scenario at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::{ConnectOptions, Event, Peer};
use super::term::{Environment, Term, TermError};
use super::{Action, MessageTerm, Operator, OrderTerm, Place, Scenario, Step};
use crate::raw_client::message::{self, Content, Message, Properties};
use crate::raw_client::spec::{self, BASIC_PROPERTIES, FieldType};
use crate::raw_client::value::{FIELD_INT, Value, quoted};

/// A broker to play against.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub addr: SocketAddr,
    /// How long an answer may take.
    pub answer_timeout: Duration,
    /// How long it may take to close a socket it has given up.
    pub close_timeout: Duration,
    /// Who sets its policies and limits; `None`: nobody can.
    pub operator: Option<Arc<dyn Operator>>,
}

impl Target {
    /// A broker with our promise to close within a second what is refused. RabbitMQ holds a refused socket
    /// for three seconds, so that guessing is slow.
    pub fn new(addr: SocketAddr, is_rabbitmq: bool) -> Target {
        let close_timeout = Duration::from_secs(if is_rabbitmq { 8 } else { 1 });
        Target { addr, answer_timeout: Duration::from_secs(5), close_timeout, operator: None }
    }

    /// The same broker, with somebody who sets its policies and limits.
    #[must_use]
    pub fn operated_by(self, operator: Arc<dyn Operator>) -> Target {
        Target { operator: Some(operator), ..self }
    }
}

/// Why a scenario failed: the step, what came instead, and everything said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Line in the file of the scenario.
    pub line: usize,
    /// The step, as written.
    pub expected: String,
    /// What happened.
    pub actual: String,
    /// All that was sent (`>`) and received (`<`), in order.
    pub transcript: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  line {}", self.line)?;
        writeln!(f, "  expected  {}", self.expected)?;
        writeln!(f, "  actual    {}", self.actual)?;
        for line in &self.transcript {
            writeln!(f, "      {line}")?;
        }
        Ok(())
    }
}

/// Plays one scenario; `suffix` makes its names unique among all that share the broker. Whatever the scenario
/// declared under such a name is deleted afterwards.
/// Returns all that was said.
pub fn check(scenario: &Scenario, target: &Target, suffix: &str) -> Result<Vec<String>, Failure> {
    let mut player = Player::new(target, suffix);
    let result = player.play(&scenario.steps);
    player.peers.clear();
    player.delete_declared();
    result.map(|()| player.stripped_transcript())
}

/// Plays one scenario and leaves what it declared, for another one to find.
pub fn check_and_leave(scenario: &Scenario, target: &Target, suffix: &str) -> Result<(), Failure> {
    Player::new(target, suffix).play(&scenario.steps)
}

const POLL_INTERVAL: Duration = Duration::from_millis(20);

struct Player<'a> {
    target: &'a Target,
    environment: Environment,
    peers: BTreeMap<String, Peer>,
    transcript: Vec<String>,
    declared: Vec<Message>,
}

/// What a step ends with when it does not fit: words for `Failure::actual`.
type Outcome = Result<(), String>;

impl<'a> Player<'a> {
    fn new(target: &'a Target, suffix: &str) -> Self {
        let environment = Environment { suffix: suffix.to_owned(), ..Environment::default() };
        Self { target, environment, peers: BTreeMap::new(), transcript: Vec::new(), declared: Vec::new() }
    }

    fn play(&mut self, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            self.perform(&step.action).map_err(|actual| self.failure(step.line, &step.text, actual))?;
        }
        let line = steps.last().map_or(0, |step| step.line);
        self.nothing_is_left().map_err(|actual| self.failure(line, "nothing more", actual))
    }

    fn failure(&self, line: usize, expected: &str, actual: String) -> Failure {
        let expected = expected.replace('%', "");
        Failure { line, expected, actual: self.strip(&actual), transcript: self.stripped_transcript() }
    }

    fn stripped_transcript(&self) -> Vec<String> {
        self.transcript.iter().map(|line| self.strip(line)).collect()
    }

    /// Names without the part that differs from run to run.
    fn strip(&self, text: &str) -> String {
        text.replace(&format!("-{}", self.environment.suffix), "")
    }

    fn perform(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Connect(place, options) => self.connect(place, options),
            Action::Socket(place) => {
                let peer = Peer::socket(self.target.addr)?;
                self.peers.insert(place.connection.clone(), peer);
                Ok(())
            }
            Action::Send(place, term) => self.send(place, term),
            Action::Ask(place, term) => {
                self.send(place, term)?;
                let event = self.next_event(place, self.target.answer_timeout)?;
                let is_ok = event.is_message(&format!("{}-ok", term.method));
                if is_ok { Ok(()) } else { Err(event.to_string()) }
            }
            Action::SendBytes(place, terms) => {
                let bytes = self.concatenate(terms)?;
                self.note(place, '>', &format!("bytes {}", quoted(&bytes)));
                self.peer(place)?.send_bytes(&bytes);
                Ok(())
            }
            Action::SendFrame(place, kind, terms) => {
                let payload = self.concatenate(terms)?;
                self.send_frame(place, *kind, &payload)
            }
            Action::SendHeader { place, class_id, body_size, properties } => {
                let properties = self.properties(properties.as_ref())?;
                let payload =
                    message::encode_header(*class_id, *body_size, &properties).map_err(|error| error.0)?;
                self.send_frame(place, 2, &payload)
            }
            Action::Expect(group) => self.expect_group(group.clone()),
            Action::ExpectError { place, code, method, text } => {
                self.expect_error(place, *code, *method, text)
            }
            Action::ExpectBytes(place, terms) => self.expect_bytes(place, terms),
            Action::ExpectClosed(place) => self.expect_closed(place, false),
            Action::ExpectRefused(place) => self.expect_closed(place, true),
            Action::ExpectNothing(place, duration) => self.expect_nothing(place, *duration),
            Action::ExpectHeartbeat(place, duration) => self.expect_heartbeat(place, *duration),
            Action::Poll(place, ask, answer) => self.poll(place, ask, answer),
            Action::ExpectAcked { place, first, last } => self.expect_acked(place, *first, *last),
            Action::Close(place) => self.close(place),
            Action::Disconnect(place) => {
                self.note(place, '>', "disconnect");
                self.peers.remove(&place.connection);
                Ok(())
            }
            Action::Wait(duration) => {
                std::thread::sleep(*duration);
                Ok(())
            }
            Action::Order(order, refusal) => self.order(order, refusal.as_ref()),
        }
    }

    fn order(&mut self, order: &OrderTerm, refusal: Option<&Term>) -> Outcome {
        let order = order.to_order(&self.environment).map_err(|error| error.0)?;
        let operator = self.target.operator.as_ref().ok_or("nobody operates this broker")?;
        let refused = operator.carry_out(&order).err();
        self.transcript.push(format!("{order:?}: {}", refused.as_deref().unwrap_or("done")));
        match (refused, refusal) {
            (None, None) => Ok(()),
            (Some(said), Some(Term::Word { parts, .. })) => {
                let glob = self.environment.glob(parts).map_err(|error| error.0)?;
                if super::term::glob_matches(&glob, said.as_bytes()) { Ok(()) } else { Err(said) }
            }
            (said, _) => Err(said.unwrap_or_else(|| "done".into())),
        }
    }

    fn connect(&mut self, place: &Place, options: &[(String, Term)]) -> Outcome {
        let mut chosen = ConnectOptions::default();
        for (name, term) in options {
            self.choose(&mut chosen, name, term).map_err(|error| error.0)?;
        }
        let peer = Peer::open(self.target, &chosen)?;
        self.peers.insert(place.connection.clone(), peer);
        Ok(())
    }

    fn choose(&self, chosen: &mut ConnectOptions, name: &str, term: &Term) -> Result<(), TermError> {
        let environment = &self.environment;
        let text = || Ok(String::from_utf8_lossy(&term.bytes(environment)?).into_owned());
        let number = || text()?.parse().map_err(|_| TermError(format!("{name} is a number")));
        match name {
            "user" => chosen.user = text()?,
            "password" => chosen.password = text()?,
            "vhost" => chosen.vhost = text()?,
            "channels" => chosen.opens_channels = text()? != "manual",
            "open" => chosen.opens = text()? != "manual",
            "frame-max" => chosen.frame_max = Some(number()?),
            "channel-max" => chosen.channel_max = Some(number()?),
            "heartbeat" => chosen.heartbeat_s = number()?,
            "capabilities" => chosen.capabilities = term.to_table_value(environment)?,
            _ => return Err(TermError(format!("a connection has no option '{name}'"))),
        }
        Ok(())
    }

    fn peer(&mut self, place: &Place) -> Result<&mut Peer, String> {
        self.peers
            .get_mut(&place.connection)
            .ok_or_else(|| format!("connection {} is not open", place.connection))
    }

    /// The peer, opened, and with the channel open unless the scenario is about to open it itself.
    fn ready_peer(&mut self, place: &Place, is_opening: bool) -> Result<&mut Peer, String> {
        if !self.peers.contains_key(&place.connection) {
            self.connect(place, &[])?;
        }
        let timeout = self.target.answer_timeout;
        let peer = self.peer(place)?;
        if is_opening {
            peer.mark_open(place.channel);
        } else {
            peer.ensure_channel(place.channel, timeout)?;
        }
        Ok(peer)
    }

    fn note(&mut self, place: &Place, direction: char, what: &str) {
        self.transcript.push(format!("{}.{}{direction} {what}", place.connection, place.channel));
    }

    fn send(&mut self, place: &Place, term: &MessageTerm) -> Outcome {
        let message = self.message(term)?;
        self.send_message(place, message)
    }

    fn send_message(&mut self, place: &Place, message: Message) -> Outcome {
        self.note(place, '>', &message.to_string());
        self.remember_declared(&message);
        let is_open = message.method == "channel.open";
        self.ready_peer(place, is_open)?.send_message(place.channel, &message)
    }

    fn send_frame(&mut self, place: &Place, kind: u8, payload: &[u8]) -> Outcome {
        self.note(place, '>', &format!("frame {kind} {}", quoted(payload)));
        let bytes = crate::raw_client::frame_bytes(kind, place.channel, payload);
        let peer = if self.peers.contains_key(&place.connection) {
            self.peer(place)?
        } else {
            self.ready_peer(place, false)?
        };
        peer.send_bytes(&bytes);
        Ok(())
    }

    fn message(&self, term: &MessageTerm) -> Result<Message, String> {
        let mut message = Message::new(term.method).ok_or("a parsed method is in the table")?;
        for (name, value) in &term.fields {
            let kind = field_type(term.method, name).ok_or_else(|| format!("no field {name}"))?;
            message = message.with(name, value.to_field(kind, &self.environment).map_err(|error| error.0)?);
        }
        if let Some(content) = &mut message.content {
            let body = term.body.as_ref().map(|body| body.bytes(&self.environment)).transpose();
            let body = body.map_err(|error| error.0)?.unwrap_or_default();
            *content = Content { properties: self.properties(term.properties.as_ref())?, body };
        }
        Ok(message)
    }

    fn properties(&self, term: Option<&Term>) -> Result<Properties, String> {
        let Some(Term::Table { entries, .. }) = term else { return Ok(Vec::new()) };
        let properties = entries.iter().map(|(name, value)| {
            let (name, kind) = property(name).ok_or_else(|| format!("there is no property '{name}'"))?;
            Ok((name, value.to_field(kind, &self.environment).map_err(|error| error.0)?))
        });
        properties.collect()
    }

    fn concatenate(&self, terms: &[Term]) -> Result<Vec<u8>, String> {
        let pieces: Result<Vec<_>, _> = terms.iter().map(|term| term.bytes(&self.environment)).collect();
        Ok(pieces.map_err(|error| error.0)?.concat())
    }

    /// The next event of a channel; anything but an event in time is an error in words.
    fn next_event(&mut self, place: &Place, timeout: Duration) -> Result<Event, String> {
        let deadline = Instant::now() + timeout;
        let event = self.peer(place)?.next(place.channel, deadline);
        self.note(place, '<', &event.to_string());
        Ok(event)
    }

    fn expect_group(&mut self, mut group: Vec<(Place, MessageTerm)>) -> Outcome {
        while let Some((place, _)) = group.first().cloned() {
            let event = self.next_event(&place, self.target.answer_timeout)?;
            let Event::Message(message) = &event else { return Err(event.to_string()) };
            let environment = &mut self.environment;
            let found =
                group.iter().position(|(at, term)| *at == place && matches(term, message, environment));
            group.remove(found.ok_or_else(|| event.to_string())?);
            if message.method == "channel.close-ok" || message.method == "connection.close-ok" {
                self.peer(&place)?.mark_closed(place.channel);
            }
        }
        Ok(())
    }

    fn expect_error(&mut self, place: &Place, code: u16, method: (u16, u16), text: &Term) -> Outcome {
        let event = self.next_event(place, self.target.answer_timeout)?;
        let Event::Message(message) = &event else { return Err(event.to_string()) };
        let close = if place.channel == 0 { "connection.close" } else { "channel.close" };
        if message.method != close || !self.is_error(message, code, method, text)? {
            return Err(event.to_string());
        }
        let close_ok = Message::new(&format!("{close}-ok")).ok_or("close-ok is in the table")?;
        self.note(place, '>', close_ok.method);
        self.peer(place)?.send_message(place.channel, &close_ok)?;
        self.peer(place)?.mark_closed(place.channel);
        if place.channel == 0 { self.expect_closed(place, false) } else { Ok(()) }
    }

    fn is_error(
        &self,
        message: &Message,
        code: u16,
        method: (u16, u16),
        text: &Term,
    ) -> Result<bool, String> {
        let number = |name: &str| message.field(name).and_then(Value::as_int).unwrap_or(-1);
        let Term::Word { parts, .. } = text else { return Err("the text of an error is a string".into()) };
        let mut glob: Vec<Option<u8>> = format!("{} - ", code_name(code)).bytes().map(Some).collect();
        glob.extend(self.environment.glob(parts).map_err(|error| error.0)?);
        let Some(Value::Str { bytes, .. }) = message.field("reply-text") else { return Ok(false) };
        Ok(number("reply-code") == i128::from(code)
            && number("class-id") == i128::from(method.0)
            && number("method-id") == i128::from(method.1)
            && super::term::glob_matches(&cut_reply_text(glob), bytes))
    }

    fn expect_bytes(&mut self, place: &Place, terms: &[Term]) -> Outcome {
        let expected = self.concatenate(terms)?;
        let event = self.next_event(place, self.target.answer_timeout)?;
        if matches!(&event, Event::Bytes(bytes) if *bytes == expected) {
            Ok(())
        } else {
            Err(event.to_string())
        }
    }

    fn expect_closed(&mut self, place: &Place, may_explain: bool) -> Outcome {
        let mut event = self.next_event(&whole(place), self.target.close_timeout)?;
        if may_explain && event.is_message("connection.close-ok") {
            event = self.next_event(&whole(place), self.target.close_timeout)?;
        } else if may_explain && event.is_message("connection.close") {
            let close_ok = Message::new("connection.close-ok").ok_or("close-ok is in the table")?;
            self.peer(place)?.send_message(0, &close_ok)?;
            event = self.next_event(&whole(place), self.target.close_timeout)?;
        }
        let left = self.peer(place)?.left_over();
        self.peers.remove(&place.connection);
        match (event, left) {
            (Event::Closed, None) => Ok(()),
            (Event::Closed, Some((channel, event))) => {
                Err(format!("before the end, on channel {channel}: {event}"))
            }
            (event, _) => Err(event.to_string()),
        }
    }

    fn expect_nothing(&mut self, place: &Place, duration: Duration) -> Outcome {
        match self.next_event(place, duration)? {
            Event::Silence => Ok(()),
            event => Err(event.to_string()),
        }
    }

    fn expect_heartbeat(&mut self, place: &Place, timeout: Duration) -> Outcome {
        let deadline = Instant::now() + timeout;
        let event = self.peer(place)?.next_heartbeat(deadline);
        if event == Event::Heartbeat { Ok(()) } else { Err(event.to_string()) }
    }

    fn poll(&mut self, place: &Place, ask: &MessageTerm, answer: &MessageTerm) -> Outcome {
        let deadline = Instant::now() + self.target.answer_timeout;
        let ask = self.message(ask)?;
        loop {
            self.send_message(place, ask.clone())?;
            let event = self.next_event(place, self.target.answer_timeout)?;
            let Event::Message(message) = &event else { return Err(event.to_string()) };
            if matches(answer, message, &mut self.environment) {
                return Ok(());
            }
            if Instant::now() > deadline || message.method != answer.method {
                return Err(event.to_string());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn expect_acked(&mut self, place: &Place, first: u64, last: u64) -> Outcome {
        let mut missing: Vec<i128> = (i128::from(first)..=i128::from(last)).collect();
        while !missing.is_empty() {
            let event = self.next_event(place, self.target.answer_timeout)?;
            let Event::Message(message) = &event else { return Err(event.to_string()) };
            let (Some(Value::Int { value: tag, .. }), Some(Value::Bool(is_multiple)), "basic.ack") =
                (message.field("delivery-tag"), message.field("multiple"), message.method)
            else {
                return Err(event.to_string());
            };
            let before = missing.len();
            missing.retain(|number| number != tag && !(*is_multiple && number < tag));
            if missing.len() == before {
                return Err(format!("{event}, while {missing:?} were missing"));
            }
        }
        Ok(())
    }

    fn close(&mut self, place: &Place) -> Outcome {
        let class = if place.channel == 0 { "connection" } else { "channel" };
        let close = Message::new(&format!("{class}.close")).ok_or("close is in the table")?;
        let close = close.with("reply-code", Value::Int { tag: FIELD_INT, value: 200 });
        self.note(place, '>', &close.to_string());
        self.peer(place)?.send_message(place.channel, &close)?;
        let event = self.next_event(place, self.target.answer_timeout)?;
        if !event.is_message(&format!("{class}.close-ok")) {
            return Err(event.to_string());
        }
        self.peer(place)?.mark_closed(place.channel);
        if place.channel == 0 {
            // Either side may end the socket now; RabbitMQ leaves it to the client for 30 s.
            self.peers.remove(&place.connection);
        }
        Ok(())
    }

    /// Closes what is still open; whatever the first connection still has to say was not expected. What later
    /// ones say may be the consequence of the first's end.
    fn nothing_is_left(&mut self) -> Outcome {
        let names: Vec<String> = self.peers.keys().cloned().collect();
        for name in &names {
            if let Some((channel, event)) = self.peers.get_mut(name).and_then(Peer::left_over) {
                return Err(format!("{name}.{channel}< {event}"));
            }
        }
        let Some(place) = names.first().map(|name| Place { connection: name.clone(), channel: 0 }) else {
            return Ok(());
        };
        if self.peer(&place)?.is_managed() { self.close(&place) } else { Ok(()) }
    }

    fn remember_declared(&mut self, message: &Message) {
        let (field, delete) = match message.method {
            "queue.declare" => ("queue", "queue.delete"),
            "exchange.declare" => ("exchange", "exchange.delete"),
            _ => return,
        };
        let name = message.field(field).cloned().unwrap_or(Value::Void);
        let is_ours = name.as_text().is_some_and(|name| name.contains(&self.environment.suffix));
        if let (true, Some(delete)) = (is_ours, Message::new(delete)) {
            let delete = delete.with(field, name);
            if !self.declared.contains(&delete) {
                self.declared.push(delete);
            }
        }
    }

    fn delete_declared(&mut self) {
        if self.declared.is_empty() {
            return;
        }
        let timeout = self.target.answer_timeout;
        let Ok(mut peer) = Peer::open(self.target, &ConnectOptions::default()) else { return };
        for (channel, delete) in (1..).zip(std::mem::take(&mut self.declared)) {
            let is_open = peer.ensure_channel(channel, timeout).is_ok();
            if is_open && peer.send_message(channel, &delete).is_ok() {
                let _what_cannot_be_deleted_stays = peer.next(channel, Instant::now() + timeout);
            }
        }
    }
}

fn whole(place: &Place) -> Place {
    Place { connection: place.connection.clone(), channel: 0 }
}

fn field_type(method: &str, field: &str) -> Option<FieldType> {
    let spec = spec::method_named(method)?;
    spec.fields.iter().find(|(name, _)| name == field).map(|(_, kind)| *kind)
}

fn property(name: &str) -> Option<(&'static str, FieldType)> {
    BASIC_PROPERTIES.iter().find(|(property, _)| *property == name).copied()
}

/// Whether a message is what the term says. Captures are kept only when all of it fits.
fn matches(term: &MessageTerm, message: &Message, environment: &mut Environment) -> bool {
    let mut attempt = environment.clone();
    let fits = term.method == message.method
        && fields_match(term, message, &mut attempt)
        && message.content.as_ref().is_none_or(|content| content_matches(term, content, &mut attempt));
    if fits {
        *environment = attempt;
    }
    fits
}

fn fields_match(term: &MessageTerm, message: &Message, environment: &mut Environment) -> bool {
    message.spec().fields.iter().zip(&message.fields).all(|((name, kind), value)| {
        match term.fields.iter().find(|(field, _)| field == name) {
            Some((_, expected)) => expected.matches_field(value, environment),
            None => term.is_open || Term::is_default(value, *kind),
        }
    })
}

fn content_matches(term: &MessageTerm, content: &Content, environment: &mut Environment) -> bool {
    let body_fits = match &term.body {
        Some(body) => body.matches_field(&Value::Str { tag: b'S', bytes: content.body.clone() }, environment),
        None => term.is_open || content.body.is_empty(),
    };
    body_fits && properties_match(term, &content.properties, environment)
}

fn properties_match(term: &MessageTerm, actual: &Properties, environment: &mut Environment) -> bool {
    let Some(Term::Table { entries, is_open }) = &term.properties else {
        return term.is_open || actual.is_empty();
    };
    let all_there = entries.iter().all(|(name, expected)| {
        let found = actual.iter().find(|(property, _)| property == name);
        found.is_some_and(|(_, value)| expected.matches_field(value, environment))
    });
    all_there && (*is_open || actual.len() == entries.len())
}

/// A reply text is a short string: RabbitMQ keeps 252 octets of a longer one and adds three dots.
fn cut_reply_text(mut glob: Vec<Option<u8>>) -> Vec<Option<u8>> {
    const LIMIT: usize = 255;
    if glob.len() > LIMIT && glob.iter().all(Option::is_some) {
        glob.truncate(LIMIT - 3);
        glob.extend([Some(b'.'); 3]);
    }
    glob
}

fn code_name(code: u16) -> &'static str {
    match code {
        311 => "CONTENT_TOO_LARGE",
        312 => "NO_ROUTE",
        313 => "NO_CONSUMERS",
        320 => "CONNECTION_FORCED",
        402 => "INVALID_PATH",
        403 => "ACCESS_REFUSED",
        404 => "NOT_FOUND",
        405 => "RESOURCE_LOCKED",
        406 => "PRECONDITION_FAILED",
        501 => "FRAME_ERROR",
        502 => "SYNTAX_ERROR",
        503 => "COMMAND_INVALID",
        504 => "CHANNEL_ERROR",
        505 => "UNEXPECTED_FRAME",
        506 => "RESOURCE_ERROR",
        530 => "NOT_ALLOWED",
        540 => "NOT_IMPLEMENTED",
        541 => "INTERNAL_ERROR",
        _ => "UNKNOWN",
    }
}
