//! Scenarios generated from the table of methods: every method in every state before the connection is open, on
//! channels that are not open, and from the wrong side.

use crate::raw_client::message::Message;
use crate::raw_client::spec::{self, MethodSpec, Sender};
use crate::raw_client::value::quoted;
use crate::scenario::{self, Scenario};

/// A state of the handshake: its name, the steps that lead there, and the one method that is right then.
const STATES: [(&str, &str, &str); 4] = [
    ("no-header", "a socket\n", ""),
    (
        "header-sent",
        concat!("a socket\n", "a> bytes \"AMQP\" hex(00 00 09 01)\n", "a< connection.start ...\n"),
        "connection.start-ok",
    ),
    (
        "start-ok-sent",
        concat!(
            "a socket\n",
            "a> bytes \"AMQP\" hex(00 00 09 01)\n",
            "a< connection.start ...\n",
            "a> connection.start-ok mechanism=PLAIN response=\"\\x00guest\\x00guest\" locale=en_US\n",
            "a< connection.tune ...\n"
        ),
        "connection.tune-ok",
    ),
    (
        "tune-ok-sent",
        concat!(
            "a socket\n",
            "a> bytes \"AMQP\" hex(00 00 09 01)\n",
            "a< connection.start ...\n",
            "a> connection.start-ok mechanism=PLAIN response=\"\\x00guest\\x00guest\" locale=en_US\n",
            "a< connection.tune ...\n",
            "a> connection.tune-ok channel-max=2047 frame-max=131072\n"
        ),
        "connection.open",
    ),
];

/// Every generated scenario.
pub(super) fn generate() -> Vec<Scenario> {
    let mut text = String::new();
    for method in spec::methods() {
        for (state, steps, right) in STATES {
            before_open(&mut text, method, state, steps, right);
        }
        on_unopened_channel(&mut text, method);
        on_channel_zero(&mut text, method);
        from_the_wrong_side(&mut text, method);
    }
    scenario::parse("generated", &text).expect("the generator and the parser are tested together")
}

fn before_open(text: &mut String, method: &MethodSpec, state: &str, steps: &str, right: &str) {
    for channel in [0, 1] {
        if channel == 0 && method.name == right {
            continue;
        }
        let frame = frame_step(method, channel);
        let end =
            if state == "no-header" { "a< bytes \"AMQP\" hex(00 00 09 01)\na< closed" } else { "a< refused" };
        text.push_str(&format!("scenario {state}/{channel}/{}\n{steps}{frame}\n{end}\n", method.name));
    }
}

/// On a channel nobody opened, only channel.open is right; close-ok and what is in flight after a close are ignored.
fn on_unopened_channel(text: &mut String, method: &MethodSpec) {
    if matches!(method.name.as_str(), "channel.open" | "channel.close-ok") {
        return;
    }
    let frame = frame_step(method, 1);
    let end = if method.name == "channel.close" {
        "1< channel.close-ok".to_owned()
    } else {
        format!("a! 504 {} \"expected 'channel.open'\"", method.name)
    };
    text.push_str(&format!(
        "scenario unopened-channel/{}\na connect channels=manual\n{frame}\n{end}\n",
        method.name
    ));
}

/// On channel 0 of an open connection only connection methods mean something, and few of them.
fn on_channel_zero(text: &mut String, method: &MethodSpec) {
    if matches!(method.name.as_str(), "connection.close" | "connection.close-ok" | "connection.update-secret")
    {
        return;
    }
    let frame = frame_step(method, 0);
    let end = format!("a! 504 {} \"unexpected method in connection state running\"", method.name);
    text.push_str(&format!("scenario channel-zero/{}\na connect\n{frame}\n{end}\n", method.name));
}

/// What only a server says is no command, on an open channel.
fn from_the_wrong_side(text: &mut String, method: &MethodSpec) {
    if method.sender != Sender::Server {
        return;
    }
    let frame = frame_step(method, 1);
    let content = if method.has_content { "1> header 60 size=0\n" } else { "" };
    let end = format!("a! 503 {} \"unimplemented method\"", method.name);
    text.push_str(&format!(
        "scenario server-method/{}\n1> channel.open\n1< channel.open-ok\n{frame}\n{content}{end}\n",
        method.name
    ));
}

/// The method frame alone: a content would be a second mistake.
fn frame_step(method: &MethodSpec, channel: u16) -> String {
    let message = Message::new(&method.name).expect("the method comes from the table");
    let payload = message.encode_method().expect("default fields always encode");
    format!("a.{channel}> frame 1 {}", quoted(&payload))
}
