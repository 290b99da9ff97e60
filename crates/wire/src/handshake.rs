//! The start of a connection: protocol header and the limits both sides agree on.
//!
//! ```text
//!  client                                server
//!    | AMQP 0 0 9 1                        |      protocol_header
//!    |<------------------ connection.start |
//!    | connection.start-ok                 |      sasl
//!    |<------------------- connection.tune |      negotiate_client
//!    | connection.tune-ok                  |      negotiate_server
//!    | connection.open                     |
//!    |<---------------- connection.open-ok |
//! ```

use crate::method::{ConnectionTune, ConnectionTuneOk};
use crate::{FRAME_MIN_SIZE, PROTOCOL_HEADER, ReplyCode, WireError};

pub use crate::sasl;

/// AMQP 0-9, whose wire format is the same for our purposes.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";
/// The smallest frame_max the AMQP specification allows a peer to have, in octets.
const SPEC_FRAME_MIN_BYTES: u32 = 4096;

/// What the first eight octets of a client ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 0-9-1.
    Amqp091,
    /// AMQP 0-9: served as 0-9-1; connection.start then says version 0-9 as well.
    Amqp09,
    /// Anything else: answer with [`PROTOCOL_HEADER`] and close.
    Refuse,
}

/// Judges a protocol header. Whoever speaks something else is told what we speak, as the specification and
/// RabbitMQ 3 have it; RabbitMQ 4 offers AMQP 1.0, which would be a lie of ours.
pub fn protocol_header(octets: &[u8; 8]) -> ProtocolHeader {
    match *octets {
        PROTOCOL_HEADER => ProtocolHeader::Amqp091,
        PROTOCOL_HEADER_0_9 => ProtocolHeader::Amqp09,
        _ => ProtocolHeader::Refuse,
    }
}

/// What the two sides of a connection agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuneLimits {
    /// The highest channel number; 0 is no limit below 65535.
    pub channel_max: u16,
    /// The largest frame in octets; 0 is no agreed limit
    /// ([`DEFAULT_FRAME_MAX`](crate::DEFAULT_FRAME_MAX) is then enforced).
    pub frame_max: u32,
    /// The heartbeat interval in seconds; 0 is off.
    pub heartbeat_s: u16,
}

/// The server's view of connection.tune-ok: the client's values, if they are within ours. Its
/// heartbeat always wins.
///
/// # Errors
/// 530 with RabbitMQ's text if the client asks for more than we offered, or for "no limit" (0) where
/// we have one, or for frames below 4096 octets.
///
/// RabbitMQ 3 accepts what the specification demands (4096, which older amqplib clients ask for), RabbitMQ 4 does
/// not. The text names RabbitMQ 4's minimum, because that is what clients know and what always works.
pub fn negotiate_server(ours: TuneLimits, tune_ok: &ConnectionTuneOk) -> Result<TuneLimits, WireError> {
    let channel_max = u32::from(tune_ok.channel_max);
    if tune_ok.frame_max < SPEC_FRAME_MIN_BYTES || tune_ok.frame_max > FRAME_MIN_SIZE {
        check_limit("frame_max", tune_ok.frame_max, FRAME_MIN_SIZE, ours.frame_max)?;
    }
    check_limit("channel_max", channel_max, 1, u32::from(ours.channel_max))?;
    Ok(TuneLimits {
        channel_max: tune_ok.channel_max,
        frame_max: tune_ok.frame_max,
        heartbeat_s: tune_ok.heartbeat,
    })
}

/// The client's answer to connection.tune: the lower of both limits, where 0 is "no limit". Heartbeats
/// are off if the client wishes so; else the shorter interval counts, and a server without one gets ours.
///
/// A hostile server's absurd frame_max is raised to 4096 octets, the least a peer may have; a server
/// that meant it refuses that.
pub fn negotiate_client(wish: TuneLimits, tune: &ConnectionTune) -> TuneLimits {
    let frame_max = match lower_limit(u64::from(wish.frame_max), u64::from(tune.frame_max)) as u32 {
        0 => 0,
        frame_max => frame_max.max(SPEC_FRAME_MIN_BYTES),
    };
    TuneLimits {
        channel_max: lower_limit(u64::from(wish.channel_max), u64::from(tune.channel_max)) as u16,
        frame_max,
        heartbeat_s: match (wish.heartbeat_s, tune.heartbeat) {
            (wish, 0) => wish,
            (wish, offered) => wish.min(offered),
        },
    }
}

/// The lower of two limits of which 0 is none.
fn lower_limit(a: u64, b: u64) -> u64 {
    if a == 0 || b == 0 { a.max(b) } else { a.min(b) }
}

fn check_limit(name: &str, theirs: u32, min: u32, ours: u32) -> Result<(), WireError> {
    let detail = if theirs == 0 && name == "channel_max" { " (no limit)" } else { "" };
    let text = if theirs != 0 && theirs < min {
        format!("negotiated {name} = {theirs} is lower than the minimum allowed value ({min})")
    } else if ours != 0 && (theirs == 0 || theirs > ours) {
        format!("negotiated {name} = {theirs}{detail} is higher than the maximum allowed value ({ours})")
    } else {
        return Ok(());
    };
    Err(WireError::new(ReplyCode::NOT_ALLOWED, text).with_method(10, 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: TuneLimits = TuneLimits { channel_max: 2047, frame_max: 131_072, heartbeat_s: 60 };

    fn check_header(octets: &[u8; 8], expected: ProtocolHeader) {
        assert_eq!(protocol_header(octets), expected, "{octets:?}");
    }

    #[test]
    fn protocol_headers() {
        check_header(b"AMQP\x00\x00\x09\x01", ProtocolHeader::Amqp091);
        check_header(b"AMQP\x01\x01\x00\x09", ProtocolHeader::Amqp09);
        check_header(b"AMQP\x00\x00\x09\x00", ProtocolHeader::Refuse);
        check_header(b"AMQP\x00\x00\x0a\x00", ProtocolHeader::Refuse);
        check_header(b"AMQP\x00\x00\x08\x00", ProtocolHeader::Refuse);
        check_header(b"AMQP\x01\x01\x08\x00", ProtocolHeader::Refuse);
        check_header(b"AMQP\x00\x01\x00\x00", ProtocolHeader::Refuse);
        check_header(b"AMQP\x03\x01\x00\x00", ProtocolHeader::Refuse);
        check_header(b"GET / HT", ProtocolHeader::Refuse);
        check_header(b"\x16\x03\x01\x02\x00\x01\x00\x01", ProtocolHeader::Refuse);
    }

    fn check_server(channel_max: u16, frame_max: u32, heartbeat: u16, expected: Result<TuneLimits, &str>) {
        let tune_ok = ConnectionTuneOk { channel_max, frame_max, heartbeat };
        let agreed = negotiate_server(OURS, &tune_ok);
        if let Err(error) = &agreed {
            assert_eq!((error.code, error.class_id, error.method_id), (ReplyCode::NOT_ALLOWED, 10, 30));
        }
        let agreed = agreed.map_err(|error| error.text.into_owned());
        assert_eq!(agreed, expected.map_err(str::to_owned), "{tune_ok:?}");
    }

    #[test]
    fn the_server_refuses_more_than_it_offered() {
        check_server(2047, 131_072, 60, Ok(OURS));
        check_server(1, 4096, 0, Ok(TuneLimits { channel_max: 1, frame_max: 4096, heartbeat_s: 0 }));
        check_server(1, 8192, 0, Ok(TuneLimits { channel_max: 1, frame_max: 8192, heartbeat_s: 0 }));
        check_server(2047, 131_072, 600, Ok(TuneLimits { heartbeat_s: 600, ..OURS }));
        for (channel_max, frame_max, text) in [
            (
                0,
                131_072,
                "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)",
            ),
            (3000, 131_072, "negotiated channel_max = 3000 is higher than the maximum allowed value (2047)"),
            (2047, 0, "negotiated frame_max = 0 is higher than the maximum allowed value (131072)"),
            (
                2047,
                200_000,
                "negotiated frame_max = 200000 is higher than the maximum allowed value (131072)",
            ),
            (2047, 100, "negotiated frame_max = 100 is lower than the minimum allowed value (8192)"),
            (2047, 4095, "negotiated frame_max = 4095 is lower than the minimum allowed value (8192)"),
        ] {
            check_server(channel_max, frame_max, 60, Err(text));
        }
    }

    #[test]
    fn a_server_without_limits_accepts_no_limit() {
        let ours = TuneLimits { channel_max: 0, frame_max: 0, heartbeat_s: 0 };
        assert_eq!(negotiate_server(ours, &ConnectionTuneOk::default()), Ok(ours));
    }

    fn check_client(wish: (u16, u32, u16), offered: (u16, u32, u16), expected: (u16, u32, u16)) {
        let wish = TuneLimits { channel_max: wish.0, frame_max: wish.1, heartbeat_s: wish.2 };
        let tune = ConnectionTune { channel_max: offered.0, frame_max: offered.1, heartbeat: offered.2 };
        let agreed = negotiate_client(wish, &tune);
        assert_eq!((agreed.channel_max, agreed.frame_max, agreed.heartbeat_s), expected, "{wish:?} {tune:?}");
    }

    #[test]
    fn the_client_takes_the_lower_limits() {
        check_client((2047, 131_072, 60), (2047, 131_072, 60), (2047, 131_072, 60));
        check_client((100, 8192, 10), (2047, 131_072, 60), (100, 8192, 10));
        check_client((0, 0, 30), (2047, 131_072, 0), (2047, 131_072, 30));
        check_client((2047, 131_072, 0), (0, 0, 60), (2047, 131_072, 0));
        check_client((0, 0, 0), (0, 0, 0), (0, 0, 0));
        check_client((10, 131_072, 60), (5, 1, 5), (5, 4096, 5));
    }
}
