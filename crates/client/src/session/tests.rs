//! The session against octets, friendly and hostile.

use leveret_wire::method::{
    BasicAck, BasicCancel, BasicConsumeOk, BasicGetEmpty, BasicNack, ChannelClose, ChannelFlow,
    ChannelOpenOk, ConnectionBlocked, ConnectionClose, ConnectionOpenOk, ConnectionUnblocked, QueueDeclareOk,
    QueuePurgeOk,
};
use leveret_wire::{RawProperties, write_content, write_deliver, write_heartbeat};
use proptest::prelude::*;

use super::hostile::{Names, busy_session, expect, session};
use super::*;
use crate::error::Scope;

const FRAME_MAX: u32 = hostile::LIMITS.frame_max;

fn frame<'m>(channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
    let mut octets = Vec::new();
    write_method(&mut octets, channel, &method.into()).unwrap();
    octets
}

fn raw(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&[kind][..], &channel.to_be_bytes(), &size, payload, &[0xce]].concat()
}

fn deliver(channel: u16, tag: &str, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    let properties = RawProperties::default();
    write_deliver(&mut octets, channel, tag, 7, false, "x", "k", properties, body, FRAME_MAX);
    octets
}

fn header(channel: u16, class: u16, body_bytes: u64) -> Vec<u8> {
    let payload = [&class.to_be_bytes()[..], &[0, 0], &body_bytes.to_be_bytes(), &[0, 0]].concat();
    raw(2, channel, &payload)
}

/// Feeds everything; what happened, in words, and what was answered.
fn take(session: &mut Session<Names>, octets: &[u8]) -> Result<(Vec<String>, Vec<String>), WireError> {
    let (mut events, mut out, mut at) = (Vec::new(), Vec::new(), 0);
    while let Step::Took(count, event) = session.receive(&octets[at..], &mut out)? {
        assert!(count > 0);
        at += count;
        events.extend(event.map(|event| words(&event)));
    }
    Ok((events, answers(&out)))
}

fn take_one(session: &mut Session<Names>, octets: &[u8]) -> String {
    take(session, octets).unwrap().0.join("; ")
}

fn answers(out: &[u8]) -> Vec<String> {
    let (mut names, mut at) = (Vec::new(), 0);
    while let Some((frame, size_bytes)) = split_frame(&out[at..], 0).unwrap() {
        names.push(format!("{} {}", frame.channel, Method::decode(frame.payload).unwrap().name()));
        at += size_bytes;
    }
    names
}

fn words(event: &Event<Names>) -> String {
    match event {
        Event::Delivered { channel, consumer, incoming } => {
            format!("delivered {channel} {consumer} {} of {}", incoming.delivery_tag, incoming.body.len())
        }
        Event::Returned { channel, returned } => format!("returned {channel} {}", returned.code),
        Event::Settled { channel, delivery_tag, multiple, ack } => {
            format!("settled {channel} {delivery_tag} {multiple} {ack}")
        }
        Event::Answered { waiter, answer, dropped, .. } => format!("{waiter}: {answer:?} {dropped:?}"),
        Event::Cancelled { consumer } => format!("cancelled {consumer}"),
        Event::ChannelEnded(ended) => format!(
            "ended {} {} {:?} {:?} {:?}",
            ended.channel, ended.closed.code, ended.waiters, ended.closer, ended.consumers
        ),
        Event::Blocked(reason) => format!("blocked {reason}"),
        Event::Unblocked => "unblocked".to_owned(),
        Event::Closed(closed) => {
            assert_eq!(closed.scope, Scope::Connection);
            format!("closed {:?} {}", closed.by, closed.code)
        }
    }
}

fn check(octets: &[Vec<u8>], expected: &[&str], expected_answers: &[&str]) {
    let (events, answers) = take(&mut session(), &octets.concat()).unwrap();
    assert_eq!(events, expected);
    assert_eq!(answers, expected_answers);
}

#[test]
fn messages_are_put_together() {
    check(&[deliver(1, "tag", b"")], &["delivered 1 c 7 of 0"], &[]);
    check(&[deliver(1, "tag", &[1; 100])], &["delivered 1 c 7 of 100"], &[]);
    check(&[deliver(1, "tag", &[1; 10_000])], &["delivered 1 c 7 of 10000"], &[]);
    let returned = BasicReturn { reply_code: 312, reply_text: "NO_ROUTE", exchange: "x", routing_key: "k" };
    let mut octets = Vec::new();
    let properties = RawProperties::default();
    write_content(&mut octets, 2, &returned.into(), properties, b"body", FRAME_MAX).unwrap();
    check(&[octets], &["returned 2 312"], &[]);
}

#[test]
fn channels_take_turns_frame_by_frame() {
    let mut session = session();
    expect(&mut session, 2, Expects::Consume("tag".into(), "d"), "consume");
    take_one(&mut session, &frame(2, BasicConsumeOk { consumer_tag: "tag" }));
    let (one, two) = (deliver(1, "tag", &[1; 6000]), deliver(2, "tag", &[2; 6000]));
    let frames = |octets: &[u8]| {
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some((_, size_bytes)) = split_frame(&octets[at..], FRAME_MAX).unwrap() {
            frames.push(octets[at..at + size_bytes].to_vec());
            at += size_bytes;
        }
        frames
    };
    let mixed: Vec<u8> =
        frames(&one).into_iter().zip(frames(&two)).flat_map(|(a, b)| [a, b].concat()).collect();
    let (events, _) = take(&mut session, &mixed).unwrap();
    assert_eq!(events, ["delivered 1 c 7 of 6000", "delivered 2 d 7 of 6000"]);
}

#[test]
fn octets_may_come_one_by_one() {
    let octets =
        [deliver(1, "tag", &[1; 5000]), frame(1, BasicAck { delivery_tag: 3, multiple: true })].concat();
    let (mut session, mut pending, mut events) = (session(), Vec::new(), Vec::new());
    for octet in octets {
        pending.push(octet);
        while let Step::Took(count, event) = session.receive(&pending, &mut Vec::new()).unwrap() {
            pending.drain(..count);
            events.extend(event.map(|event| words(&event)));
        }
    }
    assert_eq!(events, ["delivered 1 c 7 of 5000", "settled 1 3 true true"]);
}

#[test]
fn the_connections_own_methods() {
    check(
        &[{
            let mut octets = Vec::new();
            write_heartbeat(&mut octets);
            octets
        }],
        &[],
        &[],
    );
    let blocked = frame(0, ConnectionBlocked { reason: "low on disk" });
    check(&[blocked, frame(0, ConnectionUnblocked)], &["blocked low on disk", "unblocked"], &[]);
    let close = ConnectionClose { reply_code: 320, reply_text: "bye", class_id: 0, method_id: 0 };
    check(&[frame(0, close)], &["closed Broker 320"], &["0 connection.close-ok"]);
    let mut session = session();
    session.closing();
    assert_eq!(take_one(&mut session, &frame(0, ConnectionCloseOk)), "closed Us 200");
}

#[test]
fn a_channels_methods() {
    check(
        &[frame(1, BasicNack { delivery_tag: 3, multiple: false, requeue: false })],
        &["settled 1 3 false false"],
        &[],
    );
    check(&[frame(1, BasicCancel { consumer_tag: "tag", nowait: true })], &["cancelled c"], &[]);
    check(
        &[frame(1, BasicCancel { consumer_tag: "tag", nowait: false })],
        &["cancelled c"],
        &["1 basic.cancel-ok"],
    );
    check(&[frame(1, BasicCancel { consumer_tag: "gone", nowait: true })], &[], &[]);
    check(&[frame(1, ChannelFlow { active: false })], &[], &["1 channel.flow-ok"]);
}

#[test]
fn answers_come_in_the_order_of_the_questions() {
    let mut session = session();
    expect(&mut session, 1, Expects::Method(50, 11), "declare");
    expect(&mut session, 1, Expects::Get, "get");
    expect(&mut session, 1, Expects::Cancel("tag".into()), "cancel");
    expect(&mut session, 1, Expects::Method(50, 31), "purge");
    let declared = frame(1, QueueDeclareOk { queue: "q", message_count: 1, consumer_count: 2 });
    let cancelled = frame(1, BasicCancelOk { consumer_tag: "tag" });
    let octets = [
        declared,
        frame(1, BasicGetEmpty::default()),
        deliver(1, "tag", b"on its way"),
        cancelled,
        frame(1, QueuePurgeOk { message_count: 9 }),
    ];
    let (events, _) = take(&mut session, &octets.concat()).unwrap();
    let declared = "declare: Queue(QueueDeclared { name: \"q\", messages: 1, consumers: 2 }) None";
    let expected = [
        declared,
        "get: Got(None) None",
        "delivered 1 c 7 of 10",
        "cancel: Done Some(\"c\")",
        "purge: Count(9) None",
    ];
    assert_eq!(events, expected);
    assert!(take(&mut session, &deliver(1, "tag", b"too late")).is_err());
}

#[test]
fn consumers_start_and_end_late() {
    let mut session = session();
    expect(&mut session, 1, Expects::Consume("late".into(), "d"), "consume late");
    expect(&mut session, 1, Expects::Cancel("tag".into()), "cancel");
    expect(&mut session, 1, Expects::Consume("soon".into(), "e"), "consume soon");
    expect(&mut session, 1, Expects::Get, "get");
    let octets = [
        frame(1, BasicConsumeOk { consumer_tag: "soon" }),
        frame(1, BasicGetEmpty::default()),
        frame(1, BasicConsumeOk { consumer_tag: "late" }),
        frame(1, BasicCancelOk { consumer_tag: "tag" }),
    ];
    let (events, _) = take(&mut session, &octets.concat()).unwrap();
    let expected = [
        "consume soon: Consuming(\"soon\") None",
        "get: Got(None) None",
        "consume late: Consuming(\"late\") None",
        "cancel: Done Some(\"c\")",
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_closed_channel_fails_who_waits_and_frees_its_number() {
    let mut session = session();
    expect(&mut session, 1, Expects::Method(50, 11), "first");
    expect(&mut session, 1, Expects::Get, "second");
    let close = ChannelClose { reply_code: 404, reply_text: "NOT_FOUND", class_id: 50, method_id: 10 };
    let (events, answers) = take(&mut session, &frame(1, close)).unwrap();
    assert_eq!(events, ["ended 1 404 [\"first\", \"second\"] None [\"c\"]"]);
    assert_eq!(answers, ["1 channel.close-ok"]);
    assert!(session.channels().expect(1, Expects::Get, "too late").is_err());
    assert_eq!(session.channels().open(|number| number), Ok(1));
}

#[test]
fn closing_a_channel_waits_for_the_answer() {
    let mut session = session();
    expect(&mut session, 1, Expects::Method(50, 11), "before");
    session.channels().close(1, "closer").unwrap();
    assert!(session.channels().expect(1, Expects::Get, "after").is_err());
    assert!(session.channels().close(1, "again").is_err());
    let declared = frame(1, QueueDeclareOk { queue: "q", message_count: 0, consumer_count: 0 });
    let crossing = ChannelClose { reply_code: 404, reply_text: "", class_id: 0, method_id: 0 };
    let octets =
        [deliver(1, "tag", b"ignored"), declared, frame(1, crossing), frame(1, ChannelCloseOk)].concat();
    let (events, answers) = take(&mut session, &octets).unwrap();
    assert!(events[0].starts_with("before: Queue"), "{events:?}");
    assert_eq!(events[1..], ["ended 1 200 [] Some(\"closer\") [\"c\"]"]);
    assert_eq!(answers, ["1 channel.close-ok"]);
}

#[test]
fn numbers_are_limited() {
    let mut session = session();
    assert_eq!(session.channels().open(|number| number), Ok(3));
    assert_eq!(session.channels().open(|number| number), Err(Refused::TooMany(3)));
    let closed = Closed::connection(By::Network, 0, "gone");
    assert_eq!(session.channels().abandon(&closed).len(), 3);
    assert!(session.channels().abandon(&closed).is_empty());
}

fn check_hostile(octets: &[Vec<u8>], code: u16, text: &str) {
    let error = take(&mut session(), &octets.concat()).expect_err("it was accepted");
    assert_eq!((error.code.0, error.text.as_ref()), (code, text));
}

#[test]
fn a_hostile_broker_is_stopped() {
    check_hostile(
        &[b"HTTP/1.1 200 OK".to_vec()],
        501,
        "type 72, all octets = <<>>: {frame_too_large,1345270062,4088}",
    );
    check_hostile(&[raw(1, 1, &[0; 5000])], 501, "type 1, all octets = <<>>: {frame_too_large,5000,4088}");
    check_hostile(&[frame(3, ChannelOpenOk::default())], 504, "a frame on channel 3, which is not open");
    check_hostile(&[frame(9, ChannelCloseOk)], 504, "a frame on channel 9, which is not open");
    check_hostile(&[deliver(1, "who", b"x")], 503, "a delivery for unknown consumer 'who'");
    check_hostile(&[deliver(2, "tag", b"x")], 503, "a delivery for unknown consumer 'tag'");
    check_hostile(&[frame(1, ChannelCloseOk)], 503, "channel.close-ok was not expected here");
    check_hostile(&[frame(0, ConnectionCloseOk)], 503, "connection.close-ok was not expected here");
    check_hostile(&[frame(0, ConnectionOpenOk::default())], 503, "connection.open-ok was not expected here");
    check_hostile(&[frame(1, ConnectionUnblocked)], 503, "connection.unblocked was not expected here");
    check_hostile(&[frame(0, BasicAck::default())], 503, "basic.ack was not expected here");
    let got = BasicGetOk::default();
    check_hostile(&[frame(1, got)], 503, "basic.get-ok was not expected here");
    let ack = frame(2, BasicAck { delivery_tag: 1, multiple: false });
    check_hostile(&[ack], 503, "publishes were confirmed on a channel that is not in confirm mode");
    check_hostile(&[raw(8, 1, b"")], 505, "type 8, all octets = <<>>");
    check_hostile(&[raw(5, 1, b"")], 501, "type 5, all octets = <<>>: unknown_frame");
}

#[test]
fn a_lying_content_is_stopped() {
    let start = || frame(1, BasicDeliver { consumer_tag: "tag", ..BasicDeliver::default() });
    let no_header = "expected content header for class 60, got non content header frame instead";
    let no_body = "expected content body, got non content body frame instead";
    check_hostile(&[start(), start()], 505, no_header);
    check_hostile(&[start(), raw(3, 1, b"abc")], 505, no_header);
    check_hostile(&[start(), header(1, 60, 5), start()], 505, no_body);
    let other = "expected content header for class 60, got one for class 10 instead";
    check_hostile(&[start(), header(1, 10, 5)], 505, other);
    let too_long = "content body frame exceeds remaining content size";
    check_hostile(&[start(), header(1, 60, 2), raw(3, 1, b"abc")], 501, too_long);
    let giant = "content body size 18446744073709551615 exceeds maximum allowed size 10000";
    check_hostile(&[start(), header(1, 60, u64::MAX)], 501, giant);
    check_hostile(&[raw(3, 1, b"abc")], 505, "type 3, all octets = <<\"abc\">>");
    check_hostile(&[header(1, 60, 2)], 505, "type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,2,0,0>>");
    check_hostile(&[header(0, 60, 2)], 505, "type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,2,0,0>>");
}

#[test]
fn unsound_properties_are_a_message_like_any_other() {
    let start = frame(1, BasicDeliver { consumer_tag: "tag", ..BasicDeliver::default() });
    let header = raw(2, 1, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    check(&[start, header], &["delivered 1 c 0 of 0"], &[]);
}

/// A frame of a kind, on a channel, that starts like a method, or not.
fn arbitrary_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (0_u8..100, 0_u8..130, proptest::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(class, method, rest)| [&[0, class, 0, method][..], &rest].concat()),
    ];
    let kinds = prop_oneof![4 => Just(1_u8), 1 => Just(2), 1 => Just(3), 1 => Just(8), 1 => any::<u8>()];
    (kinds, 0_u16..4, payload).prop_map(|(kind, channel, payload)| raw(kind, channel, &payload))
}

/// Frames that make sense, in any order.
fn plausible_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0_u16..4, 0_usize..9000).prop_map(|(channel, size)| deliver(channel, "tag", &vec![0; size])),
        (0_u16..4, any::<u64>(), any::<bool>()).prop_map(|(channel, delivery_tag, multiple)| frame(
            channel,
            BasicAck { delivery_tag, multiple }
        )),
        (1_u16..4, any::<u64>()).prop_map(|(channel, size)| header(channel, 60, size)),
        (0_u16..4).prop_map(|channel| frame(channel, ChannelCloseOk)),
        (0_u16..4).prop_map(|channel| frame(channel, ChannelClose::default())),
        (0_u16..4).prop_map(|channel| frame(channel, BasicConsumeOk { consumer_tag: "tag" })),
        (0_u16..4).prop_map(|channel| frame(channel, QueueDeclareOk::default())),
        (0_u16..4).prop_map(|channel| frame(channel, BasicGetEmpty::default())),
        (0_u16..4).prop_map(|channel| frame(channel, BasicCancel { consumer_tag: "tag", nowait: false })),
    ]
}

proptest! {
    #[test]
    fn no_octets_make_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ended = take(&mut busy_session(), &octets);
        hostile::receive(&octets);
    }

    #[test]
    fn no_frames_make_it_panic(frames in proptest::collection::vec(prop_oneof![arbitrary_frame(), plausible_frame()], 0..20)) {
        let mut session = busy_session();
        let _ended = take(&mut session, &frames.concat());
        session.channels().abandon(&Closed::connection(By::Network, 0, ""));
    }
}
