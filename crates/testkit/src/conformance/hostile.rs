//! Scenarios generated from the table of methods: every method in every state before the connection is open,
//! on channel 0 and on a channel nobody opened, and from the wrong side.

use crate::raw_client::message::Message;
use crate::raw_client::spec::{self, MethodSpec, Sender};
use crate::raw_client::value::{Value, quoted};
use crate::scenario::{self, Scenario};

/// The handshake, step by step.
const STEPS: [&str; 3] = [
    "a> bytes \"AMQP\" hex(00 00 09 01)\na< connection.start ...\n",
    concat!(
        "a> connection.start-ok mechanism=PLAIN response=\"\\x00guest\\x00guest\" locale=en_US\n",
        "a< connection.tune ...\n"
    ),
    "a> connection.tune-ok channel-max=2047 frame-max=131072\n",
];

/// The state after so many of these steps, and the one method that is right then.
const STATES: [(&str, usize, Option<&str>); 4] = [
    ("no-header", 0, None),
    ("header-sent", 1, Some("connection.start-ok")),
    ("start-ok-sent", 2, Some("connection.tune-ok")),
    ("tune-ok-sent", 3, Some("connection.open")),
];

/// What an open connection understands on channel 0.
const CONNECTION_METHODS: [&str; 3] = ["connection.close", "connection.close-ok", "connection.update-secret"];

/// Every generated scenario.
pub(super) fn generate() -> Vec<Scenario> {
    let mut text = String::new();
    for method in spec::methods() {
        for (state, steps, right) in STATES {
            before_open(&mut text, method, state, &STEPS[..steps].concat(), right);
        }
        on_unopened_channel(&mut text, method);
        on_channel_zero(&mut text, method);
        from_the_wrong_side(&mut text, method);
    }
    scenario::parse("generated", &text).expect("the generator and the parser are tested together")
}

fn before_open(text: &mut String, method: &MethodSpec, state: &str, steps: &str, right: Option<&str>) {
    for channel in [0, 1] {
        if channel == 0 && right == Some(&method.name) {
            continue;
        }
        let end = match right {
            None => "a< bytes \"AMQP\" hex(00 00 09 01)\na< closed",
            Some(_) => "a< refused",
        };
        let (name, frame) = (&method.name, frame_step(method, channel));
        text.push_str(&format!("scenario {state}/{channel}/{name}\na socket\n{steps}{frame}{end}\n"));
    }
}

/// On a channel nobody opened, only channel.open is right.
fn on_unopened_channel(text: &mut String, method: &MethodSpec) {
    if method.name == "channel.open" {
        return;
    }
    let (name, frame) = (&method.name, frame_step(method, 1));
    let end = format!("a! 504 {name} \"expected 'channel.open'\"");
    text.push_str(&format!(
        "scenario unopened-channel/{name}\na connect channels=manual\n{frame}{}{end}\n",
        content_step(method)
    ));
}

/// On channel 0 of an open connection only connection methods mean something, and few of them.
fn on_channel_zero(text: &mut String, method: &MethodSpec) {
    if CONNECTION_METHODS.contains(&method.name.as_str()) {
        return;
    }
    let (name, frame) = (&method.name, frame_step(method, 0));
    let end = format!("a! 504 {name} \"unexpected method in connection state running\"");
    text.push_str(&format!("scenario channel-zero/{name}\na connect\n{frame}{end}\n"));
}

/// What only a server says is no command, on an open channel.
fn from_the_wrong_side(text: &mut String, method: &MethodSpec) {
    if method.sender != Sender::Server {
        return;
    }
    let (name, frame) = (&method.name, frame_step(method, 1));
    let end = format!("a! 503 {name} \"unimplemented method\"");
    text.push_str(&format!(
        "scenario server-method/{name}\n1> channel.open\n1< channel.open-ok\n{frame}{}{end}\n",
        content_step(method)
    ));
}

/// The content of a method that has one: an empty header.
fn content_step(method: &MethodSpec) -> &'static str {
    if method.has_content { "1> header 60 size=0\n" } else { "" }
}

/// The method frame alone. A queue has a name, since the empty one is a mistake of its own.
fn frame_step(method: &MethodSpec, channel: u16) -> String {
    let mut message = Message::new(&method.name).expect("the method comes from the table");
    if message.field("queue").is_some() {
        message = message.with("queue", Value::text("no-such-queue"));
    }
    let payload = message.encode_method().expect("default fields always encode");
    format!("a.{channel}> frame 1 {}\n", quoted(&payload))
}
