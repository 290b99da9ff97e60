//! A session in the middle of its work, for octets from a broker gone mad: tests and the fuzzer.

use leveret_wire::method::{BasicConsumeOk, ChannelOpenOk, ConfirmSelectOk};

use super::*;

/// Waiters, consumers and channels are names.
pub(crate) struct Names;

impl Tokens for Names {
    type Waiter = &'static str;
    type Consumer = &'static str;
    type Channel = u16;
}

pub(crate) const LIMITS: Limits = Limits { channel_max: 3, frame_max: 4096, message_max_bytes: 10_000 };

/// A session with channels 1 and 2 open, and consumer `c` (tag `tag`) on channel 1, which is in confirm mode.
pub(crate) fn session() -> Session<Names> {
    let mut session = Session::new(LIMITS);
    for number in [1, 2] {
        assert_eq!(session.channels().open(|number| number), Ok(number));
        expect(&mut session, number, Expects::Method(20, 11), "open");
        take(&mut session, number, &ChannelOpenOk::default().into());
    }
    expect(&mut session, 1, Expects::Consume("tag".into(), "c"), "consume");
    take(&mut session, 1, &BasicConsumeOk { consumer_tag: "tag" }.into());
    expect(&mut session, 1, Expects::Method(85, 11), "select");
    take(&mut session, 1, &ConfirmSelectOk.into());
    session
}

/// Everything that can be under way.
pub(crate) fn busy_session() -> Session<Names> {
    let mut session = session();
    for number in [1, 2] {
        expect(&mut session, number, Expects::Method(50, 11), "declare");
        expect(&mut session, number, Expects::Get, "get");
        expect(&mut session, number, Expects::Consume("tag".into(), "e"), "consume");
        expect(&mut session, number, Expects::Cancel("tag".into()), "cancel");
    }
    assert!(session.channels().close(2, "closer").is_ok());
    session
}

pub(crate) fn expect(
    session: &mut Session<Names>,
    number: u16,
    expects: Expects<&'static str>,
    waiter: &'static str,
) {
    assert!(session.channels().expect(number, expects, waiter).is_ok(), "channel {number} is open");
}

/// Whatever the octets are, the session takes them in order, or ends; and no message is larger than allowed.
pub(crate) fn receive(octets: &[u8]) {
    let (mut session, mut out, mut at) = (busy_session(), Vec::new(), 0);
    while let Ok(Step::Took(size_bytes, event)) = session.receive(&octets[at..], &mut out) {
        assert!(size_bytes > 0 && at + size_bytes <= octets.len());
        at += size_bytes;
        if let Some(Event::Delivered { incoming, .. }) = event {
            assert!(incoming.body.len() as u64 <= LIMITS.message_max_bytes);
        }
    }
    session.channels().abandon(&Closed::connection(By::Network, 0, ""));
}

fn take(session: &mut Session<Names>, channel: u16, method: &Method<'_>) {
    let mut octets = Vec::new();
    reply(&mut octets, channel, method);
    assert!(session.receive(&octets, &mut Vec::new()).is_ok());
}
