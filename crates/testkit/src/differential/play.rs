//! Plays a program and writes down what the broker says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::program::{Answer, Place, Step};
use crate::raw_client::message::Message;
use crate::raw_client::spec;
use crate::raw_client::value::{FIELD_INT, Value};
use crate::scenario::Target;
use crate::scenario::peer::{ConnectOptions, Event, Peer};

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long one connection is listened to before the other.
const TURN: Duration = Duration::from_millis(2);
const PEERS: usize = 2;

/// All that was said, a line each: step, place, event. It ends early when the broker cannot be spoken to any more.
pub(super) fn play(target: &Target, steps: &[Step], pause: Duration) -> Vec<String> {
    let mut player = Player {
        target,
        pause,
        peers: [None, None],
        held: BTreeMap::new(),
        consumers: BTreeMap::new(),
        unconfirmed: BTreeMap::new(),
        transcript: Vec::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        if let Err(error) = player.take_step(number, step) {
            player.transcript.push(format!("{number} cannot go on: {error}"));
            break;
        }
    }
    player.transcript
}

struct Player<'a> {
    target: &'a Target,
    pause: Duration,
    peers: [Option<Peer>; PEERS],
    /// Deliveries without an answer.
    held: BTreeMap<Place, Vec<u64>>,
    consumers: BTreeMap<String, Consumer>,
    /// Of channels that confirm: the last number, and those that wait.
    unconfirmed: BTreeMap<Place, (u64, BTreeSet<u64>)>,
    transcript: Vec<String>,
}

struct Consumer {
    place: Place,
    no_ack: bool,
}

/// What a step waits for.
struct Awaited {
    place: Place,
    /// The class and method of the request; its answer is `NAME-ok`, or one of several.
    request: &'static str,
    no_ack: bool,
    answered: bool,
}

impl Player<'_> {
    fn take_step(&mut self, number: usize, step: &Step) -> Result<(), String> {
        let (place, message) = match step {
            Step::Send(place, message) => (*place, message.clone()),
            Step::Consume(place, message) => {
                let tag = text(message, "consumer-tag");
                if self.consumers.contains_key(&tag) {
                    return Ok(());
                }
                let no_ack = message.field("no-ack") == Some(&Value::Bool(true));
                self.consumers.insert(tag, Consumer { place: *place, no_ack });
                (*place, message.clone())
            }
            Step::Settle(place, pick, answer) => match self.settlement(*place, *pick, *answer) {
                Some(message) => (*place, message),
                None => return Ok(()),
            },
        };
        self.transcript.push(format!("{number} {}.{} > {message}", place.0, place.1));
        self.send(place, &message)?;
        let no_ack = message.field("no-ack") == Some(&Value::Bool(true));
        let mut awaited = Awaited { place, request: message.method, no_ack, answered: false };
        self.listen(number, &mut awaited);
        Ok(())
    }

    fn settlement(&mut self, place: Place, pick: u64, answer: Answer) -> Option<Message> {
        let held = self.held.get_mut(&place).filter(|held| !held.is_empty())?;
        let at = (pick % held.len() as u64) as usize;
        let tag = held[at];
        let multiple = match answer {
            Answer::Ack { multiple } | Answer::Nack { multiple, .. } => multiple,
            Answer::Reject { .. } => false,
        };
        held.retain(|other| if multiple { *other > tag } else { *other != tag });
        let message = match answer {
            Answer::Ack { .. } => Message::new("basic.ack")?.with("multiple", Value::Bool(multiple)),
            Answer::Nack { requeue, .. } => {
                let nack = Message::new("basic.nack")?.with("multiple", Value::Bool(multiple));
                nack.with("requeue", Value::Bool(requeue))
            }
            Answer::Reject { requeue } => Message::new("basic.reject")?.with("requeue", Value::Bool(requeue)),
        };
        Some(message.with("delivery-tag", Value::Int { tag: FIELD_INT, value: i128::from(tag) }))
    }

    /// Opens what is not open, and sends.
    fn send(&mut self, place: Place, message: &Message) -> Result<(), String> {
        let (peer, channel) = place;
        if self.peers[peer].is_none() {
            self.peers[peer] = Some(Peer::open(self.target, &ConnectOptions::default())?);
        }
        let Some(connection) = &mut self.peers[peer] else { return Ok(()) };
        connection.ensure_channel(channel, ANSWER_MAX)?;
        connection.send_message(channel, message)?;
        if message.method == "basic.recover" {
            self.held.remove(&place);
        }
        if message.method == "basic.publish"
            && let Some((last, waiting)) = self.unconfirmed.get_mut(&place)
        {
            *last += 1;
            waiting.insert(*last);
        }
        Ok(())
    }

    /// Until what is awaited has come and nobody has said anything for a while. What is heard on one channel keeps its
    /// order; confirms stand behind it.
    fn listen(&mut self, number: usize, awaited: &mut Awaited) {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut heard: BTreeMap<(Place, bool), Vec<String>> = BTreeMap::new();
        let mut last = Instant::now();
        loop {
            for peer in 0..PEERS {
                let Some(connection) = &mut self.peers[peer] else { continue };
                if let Some((channel, event)) = connection.next_of_any(Instant::now() + TURN) {
                    last = Instant::now();
                    self.hear((peer, channel), event, awaited, &mut heard);
                }
            }
            let answered = awaited.answered || !self.is_owed(awaited);
            if answered && last.elapsed() >= self.pause {
                break;
            }
            if Instant::now() > deadline {
                heard.entry((awaited.place, false)).or_default().push("no answer".to_owned());
                break;
            }
            if self.peers.iter().all(Option::is_none) {
                break;
            }
        }
        for ((place, is_confirm), mut lines) in heard {
            if is_confirm {
                lines.sort();
            }
            let (peer, channel) = place;
            self.transcript.extend(lines.into_iter().map(|line| format!("{number} {peer}.{channel} {line}")));
        }
    }

    fn is_owed(&self, awaited: &Awaited) -> bool {
        match awaited.request {
            "basic.publish" => {
                self.unconfirmed.get(&awaited.place).is_some_and(|(_, waiting)| !waiting.is_empty())
            }
            "basic.get" => true,
            other => spec::method_named(&format!("{other}-ok")).is_some(),
        }
    }

    fn hear(
        &mut self,
        place: Place,
        event: Event,
        awaited: &mut Awaited,
        heard: &mut BTreeMap<(Place, bool), Vec<String>>,
    ) {
        let Event::Message(mut message) = event else {
            heard.entry((place, false)).or_default().push(event.to_string());
            awaited.answered |= place.0 == awaited.place.0;
            return self.forget_connection(place.0);
        };
        let is_answer = message.method.strip_suffix("-ok") == Some(awaited.request)
            || awaited.request == "basic.get" && message.method.starts_with("basic.get-");
        awaited.answered |= is_answer && place == awaited.place;
        let line = match message.method {
            "basic.ack" | "basic.nack" => {
                let lines = self.confirmed(place, &message);
                return heard.entry((place, true)).or_default().extend(lines);
            }
            "channel.close" | "connection.close" => {
                awaited.answered |= place == awaited.place || place.1 == 0 && place.0 == awaited.place.0;
                self.close(place, message.method);
                without_words(&message)
            }
            _ => {
                self.note(place, &message, awaited);
                forget_known_differences(&mut message);
                message.to_string()
            }
        };
        let lines = heard.entry((place, false)).or_default();
        // RabbitMQ's queue hears of it later than the client: what is recovered comes behind the answer.
        let at = if message.method == "basic.recover-ok" { 0 } else { lines.len() };
        lines.insert(at, line);
    }

    /// Keeps in mind what later steps depend on.
    fn note(&mut self, place: Place, message: &Message, awaited: &Awaited) {
        match message.method {
            "confirm.select-ok" => {
                self.unconfirmed.entry(place).or_default();
            }
            "basic.cancel" | "basic.cancel-ok" => {
                self.consumers.remove(&text(message, "consumer-tag"));
            }
            "basic.get-ok" if !awaited.no_ack => self.hold(place, message),
            "basic.deliver" => {
                let consumer = self.consumers.get(&text(message, "consumer-tag"));
                if consumer.is_some_and(|consumer| !consumer.no_ack) {
                    self.hold(place, message);
                }
            }
            _ => {}
        }
    }

    fn hold(&mut self, place: Place, message: &Message) {
        self.held.entry(place).or_default().push(number(message, "delivery-tag"));
    }

    /// One line for each number, however the broker put them together.
    fn confirmed(&mut self, place: Place, message: &Message) -> Vec<String> {
        let tag = number(message, "delivery-tag");
        let is_multiple = message.field("multiple") == Some(&Value::Bool(true));
        let Some((_, waiting)) = self.unconfirmed.get_mut(&place) else {
            return vec![format!("{message}, though nothing is to be confirmed")];
        };
        let meant: Vec<u64> = waiting
            .iter()
            .copied()
            .filter(|one| if is_multiple { *one <= tag } else { *one == tag })
            .collect();
        waiting.retain(|one| !meant.contains(one));
        meant.iter().map(|one| format!("{} of {one:04}", message.method)).collect()
    }

    /// The broker closed a channel or the connection: answered, and what hung on it is forgotten.
    fn close(&mut self, place: Place, method: &str) {
        let (peer, channel) = place;
        let answer =
            Message::new(if method == "channel.close" { "channel.close-ok" } else { "connection.close-ok" });
        if let (Some(connection), Some(answer)) = (&mut self.peers[peer], answer) {
            let _noticed_by_the_next_step = connection.send_message(channel, &answer);
            connection.mark_closed(channel);
        }
        if method == "connection.close" {
            return self.forget_connection(peer);
        }
        self.forget(|other| other == place);
    }

    fn forget_connection(&mut self, peer: usize) {
        self.peers[peer] = None;
        self.forget(|other| other.0 == peer);
    }

    fn forget(&mut self, is_gone: impl Fn(Place) -> bool) {
        self.held.retain(|place, _| !is_gone(*place));
        self.unconfirmed.retain(|place, _| !is_gone(*place));
        self.consumers.retain(|_, consumer| !is_gone(consumer.place));
    }
}

fn text(message: &Message, field: &str) -> String {
    message.field(field).and_then(Value::as_text).unwrap_or_default().to_owned()
}

fn number(message: &Message, field: &str) -> u64 {
    let value = message.field(field).and_then(Value::as_int).unwrap_or_default();
    u64::try_from(value).unwrap_or_default()
}

/// A close without its text.
fn without_words(close: &Message) -> String {
    let [code, class, method] = ["reply-code", "class-id", "method-id"].map(|field| number(close, field));
    format!("{} {code} for {class}.{method}", close.method)
}

/// Two brokers do not do things at the same second, nor write a table in the same order; and the headers about the last death are newer
/// than RabbitMQ 3.10.
fn forget_known_differences(message: &mut Message) {
    fn forget(value: &mut Value) {
        match value {
            Value::Int { tag: b'T', value } => *value = 0,
            Value::Array(items) => items.iter_mut().for_each(forget),
            Value::Table(entries) => {
                entries.retain(|(name, _)| !name.starts_with(b"x-last-death-"));
                entries.iter_mut().for_each(|(_, value)| forget(value));
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            _ => {}
        }
    }
    for (_, value) in message.content.iter_mut().flat_map(|content| &mut content.properties) {
        forget(value);
    }
}
