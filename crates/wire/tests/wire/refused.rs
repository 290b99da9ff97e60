//! What RabbitMQ refuses, recorded: our code and text are the same, except where noted.

use leveret_wire::method::ConnectionClose;
use leveret_wire::{
    Assembler, DEFAULT_FRAME_MAX, FrameKind, Method, Progress, RawFrame, WireError, content, split_frame,
};

use crate::golden::recording;

/// The largest body RabbitMQ 4 accepts, in octets.
const MAX_BODY_BYTES: u64 = 536_870_912;

/// How we judge a case of `refused.hex`.
enum Verdict {
    /// As RabbitMQ.
    Same,
    /// RabbitMQ says the same, but breaks the line where Erlang's printer does.
    SameUnwrapped,
    /// RabbitMQ crashes, drops the connection, or lets it pass: our code and text.
    Ours(u16, &'static str),
    /// RabbitMQ crashes, we accept.
    Accepted,
}

fn verdict(case: &str) -> Verdict {
    use Verdict::{Accepted, Ours, Same, SameUnwrapped};
    let unknown_type = "SYNTAX_ERROR - unknown field table type 'Z' (octet 90)";
    match case {
        "end octet 0 after a long payload" => SameUnwrapped,
        // The text would not be UTF-8.
        "latin-1 payload" => {
            Ours(501, "FRAME_ERROR - type 3, all octets = <<228,246,252>>: {invalid_frame_end_marker,0}")
        }
        "malformed utf-8 in a routing key" => Ours(501, "FRAME_ERROR - Malformed UTF-8 in shortstr"),
        "unknown class" | "unknown method" => Ours(503, "COMMAND_INVALID - unimplemented method"),
        "unknown table type" | "unknown type in headers" => Ours(502, unknown_type),
        "table ends early" => Ours(502, "SYNTAX_ERROR - field table ends within an entry"),
        // RabbitMQ 3.10 drops the connection; 4.3 has these texts.
        "body too long" => Ours(501, "FRAME_ERROR - content body frame exceeds remaining content size"),
        "content too large" => Ours(
            501,
            "FRAME_ERROR - content body size 9223372036854775808 exceeds maximum allowed size 536870912",
        ),
        "property value missing" => Ours(502, "SYNTAX_ERROR - content properties end within a value"),
        "octets after the properties" => {
            Ours(502, "SYNTAX_ERROR - content properties are followed by unknown octets")
        }
        "property flags continued" => {
            Ours(502, "SYNTAX_ERROR - content properties have more than one word of flags")
        }
        "key not utf8" => Ours(502, "SYNTAX_ERROR - Malformed UTF-8 in field table key"),
        "unused property flag" | "headers U" | "NaN" => Accepted,
        _ => Same,
    }
}

#[test]
fn the_same_code_and_text_as_rabbitmq() {
    let lines = recording("refused.hex");
    for pair in lines.chunks(2) {
        let [(case, sent), (_, answer)] = pair else { panic!("a case without an answer") };
        check(case, &sent.octets, &answer.octets);
    }
    assert_eq!(lines.len() / 2, 39);
}

fn check(case: &str, sent: &[u8], answer: &[u8]) {
    let found = receive(sent).map_err(|error| (error.code.0, error.reply_text()));
    let expected = match verdict(case) {
        Verdict::Accepted => Ok(()),
        Verdict::Ours(code, text) => Err((code, text.to_owned())),
        Verdict::Same => Err(closed_with(answer)),
        Verdict::SameUnwrapped => {
            let (code, text) = closed_with(answer);
            let (head, tail) = text.split_once('\n').unwrap();
            Err((code, head.to_owned() + tail.trim_start()))
        }
    };
    assert_eq!(found, expected, "{case}");
}

fn closed_with(answer: &[u8]) -> (u16, String) {
    let (frame, _) = split_frame(answer, DEFAULT_FRAME_MAX).unwrap().unwrap();
    let Method::ConnectionClose(ConnectionClose { reply_code, reply_text, .. }) =
        Method::decode(frame.payload).unwrap()
    else {
        panic!("the answer is not connection.close")
    };
    (reply_code, reply_text.to_owned())
}

/// What a server does with frames on an open channel, as far as this crate decides it.
fn receive(mut octets: &[u8]) -> Result<(), WireError> {
    let mut content = None;
    while let Some((frame, size_bytes)) = split_frame(octets, DEFAULT_FRAME_MAX)? {
        octets = &octets[size_bytes..];
        content = take(frame, content)?;
    }
    assert!(octets.is_empty() || content.is_some(), "the case ends within a frame");
    Ok(())
}

fn take(frame: RawFrame<'_>, content: Option<Assembler<()>>) -> Result<Option<Assembler<()>>, WireError> {
    let progress = match (FrameKind::from_octet(frame.kind), content) {
        (None, _) => return Err(frame.unknown()),
        (Some(FrameKind::Heartbeat), _) if !frame.payload.is_empty() => return Err(frame.unknown()),
        (Some(FrameKind::Heartbeat), _) if frame.channel != 0 => return Err(frame.unexpected()),
        (Some(FrameKind::Heartbeat), content) => return Ok(content),
        (Some(FrameKind::Method), None) => {
            let method = Method::decode(frame.payload)?;
            let start = || Assembler::start((), method.class_id()).of_method(method.method_id());
            return Ok(method.has_content().then(start));
        }
        (Some(FrameKind::Method), Some(content)) => return Err(content.unexpected()),
        (Some(_), None) => return Err(content::expected_method()),
        (Some(FrameKind::Header), Some(content)) => content.header(frame.payload, MAX_BODY_BYTES)?,
        (Some(FrameKind::Body), Some(content)) => content.body(frame.payload)?,
    };
    match progress {
        Progress::More(content) => Ok(Some(content)),
        Progress::Done(_) => Ok(None),
    }
}
