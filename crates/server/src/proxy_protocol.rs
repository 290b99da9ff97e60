//! The PROXY protocol: what a load balancer puts in front of a connection to say whom it carries.
//!
//! ```text
//!   v1   PROXY TCP4 192.0.2.1 198.51.100.2 51234 5672␍␊          at most 107 octets
//!   v2   ␍␊␍␊␀␍␊QUIT␊  version+command  family  length (u16)  addresses, extensions
//! ```
//!
//! Only who is in `proxy_protocol_from` may and must send it: everybody could write any address in there. Nothing
//! is taken for a header that is longer than [`HEADER_MAX_BYTES`]; extensions are skipped.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest header that is read: the addresses, and room for what balancers add of their own.
pub const HEADER_MAX_BYTES: usize = 4096;

const V1_MAX_BYTES: usize = 107;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// How far a header was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of the input belongs to the header, and there is more.
    Incomplete,
    /// The header has so many octets.
    Done(usize, Carried),
}

/// For whom a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// For a client.
    Client {
        /// Its end.
        peer: SocketAddr,
        /// The end that it connected to.
        host: SocketAddr,
    },
    /// For the proxy itself (a health check), or for somebody of whom it says nothing.
    Nobody,
}

/// What follows is no header that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHeader;

/// Reads a header from the start of a connection.
///
/// # Errors
/// It is none, or broken, or too long.
pub fn parse(input: &[u8]) -> Result<Progress, BadHeader> {
    if starts(input, V2_START) {
        return parse_v2(input);
    }
    if starts(input, V1_START) {
        return parse_v1(input);
    }
    Err(BadHeader)
}

/// Whether the input begins like that, as far as it goes.
fn starts(input: &[u8], start: &[u8]) -> bool {
    let len = input.len().min(start.len());
    input[..len] == start[..len]
}

fn parse_v1(input: &[u8]) -> Result<Progress, BadHeader> {
    let within = &input[..input.len().min(V1_MAX_BYTES)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if input.len() < V1_MAX_BYTES { Ok(Progress::Incomplete) } else { Err(BadHeader) };
    };
    let line = std::str::from_utf8(&input[..end]).map_err(|_| BadHeader)?;
    let carried = match line.split(' ').collect::<Vec<_>>()[..] {
        ["PROXY", "UNKNOWN", ..] => Carried::Nobody,
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            client(address::<Ipv4Addr>(from, from_port)?, address::<Ipv4Addr>(to, to_port)?)
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            client(address::<Ipv6Addr>(from, from_port)?, address::<Ipv6Addr>(to, to_port)?)
        }
        _ => return Err(BadHeader),
    };
    Ok(Progress::Done(end + 2, carried))
}

fn address<A: FromStr + Into<IpAddr>>(ip: &str, port: &str) -> Result<SocketAddr, BadHeader> {
    let is_number = port.bytes().all(|octet| octet.is_ascii_digit()); // `+1` is none
    let port = port.parse().ok().filter(|_| is_number).ok_or(BadHeader)?;
    Ok(SocketAddr::new(ip.parse::<A>().map_err(|_| BadHeader)?.into(), port))
}

fn client(peer: SocketAddr, host: SocketAddr) -> Carried {
    Carried::Client { peer, host }
}

fn parse_v2(input: &[u8]) -> Result<Progress, BadHeader> {
    let Some((fixed, rest)) = input.split_first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Progress::Incomplete);
    };
    let [.., command, family, high, low] = *fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if V2_FIXED_BYTES + len > HEADER_MAX_BYTES {
        return Err(BadHeader);
    }
    let Some(block) = rest.get(..len) else { return Ok(Progress::Incomplete) };
    let carried = match (command, family) {
        (0x20, _) => Carried::Nobody,
        (0x21, 0x00) => Carried::Nobody,
        (0x21, 0x11) => addresses::<4, 12>(block)?,
        (0x21, 0x21) => addresses::<16, 36>(block)?,
        _ => return Err(BadHeader),
    };
    Ok(Progress::Done(V2_FIXED_BYTES + len, carried))
}

/// Two addresses of `N` octets, then two ports: `ALL` octets.
fn addresses<const N: usize, const ALL: usize>(block: &[u8]) -> Result<Carried, BadHeader>
where
    IpAddr: From<[u8; N]>,
{
    let block = block.first_chunk::<ALL>().ok_or(BadHeader)?;
    let end = |at: usize, port_at: usize| {
        let ip: [u8; N] = block[at..at + N].try_into().map_err(|_| BadHeader)?;
        let port = u16::from_be_bytes([block[port_at], block[port_at + 1]]);
        Ok(SocketAddr::new(IpAddr::from(ip), port))
    };
    Ok(client(end(0, 2 * N)?, end(N, 2 * N + 2)?))
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no sound PROXY protocol header")
    }
}

impl std::error::Error for BadHeader {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every shorter input is the start of the same header.
    fn check(header: &[u8], expected: Result<Carried, BadHeader>) {
        let all = [header, b"AMQP"].concat();
        assert_eq!(parse(&all), expected.map(|carried| Progress::Done(header.len(), carried)), "{header:?}");
        if expected.is_ok() {
            for end in 0..header.len() {
                assert_eq!(parse(&header[..end]), Ok(Progress::Incomplete), "{header:?} cut at {end}");
            }
        }
    }

    fn from(peer: &str, host: &str) -> Result<Carried, BadHeader> {
        Ok(Carried::Client { peer: peer.parse().unwrap(), host: host.parse().unwrap() })
    }

    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let len = (block.len() as u16).to_be_bytes();
        [V2_START, &[command, family], &len, block].concat()
    }

    #[test]
    fn the_first_version_is_a_line() {
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65535\r\n", from("1.2.3.4:1", "5.6.7.8:65535"));
        check(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", from("[2001:db8::1]:1", "[::1]:2"));
        check(b"PROXY UNKNOWN\r\n", Ok(Carried::Nobody));
        check(b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n", Ok(Carried::Nobody));
        for bad in [
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
            "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY \r\n",
            "PROXY\tTCP4",
            "GET / HTTP/1.1\r\n",
        ] {
            check(bad.as_bytes(), Err(BadHeader));
        }
        check(&[b"PROXY TCP4 ", &[b' '; V1_MAX_BYTES][..], b"\r\n"].concat(), Err(BadHeader));
    }

    #[test]
    fn the_second_version_is_binary() {
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0x15, 0xB3];
        check(&v2(0x21, 0x11, &four), from("1.2.3.4:1", "5.6.7.8:5555"));
        let extended = [&four[..], &[4, 0, 1, 0]].concat();
        check(&v2(0x21, 0x11, &extended), from("1.2.3.4:1", "5.6.7.8:5555"));
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 3, 4);
        check(&v2(0x21, 0x21, &six), from("[::1]:3", "[::2]:4"));
        check(&v2(0x20, 0x00, b""), Ok(Carried::Nobody));
        check(&v2(0x20, 0x11, &four), Ok(Carried::Nobody));
        check(&v2(0x21, 0x00, b""), Ok(Carried::Nobody));
        check(&v2(0x21, 0x11, &four[..11]), Err(BadHeader));
        check(&v2(0x21, 0x12, &four), Err(BadHeader));
        check(&v2(0x21, 0x31, &[0; 216]), Err(BadHeader));
        check(&v2(0x11, 0x11, &four), Err(BadHeader));
        check(&v2(0x22, 0x11, &four), Err(BadHeader));
        check(&v2(0x20, 0x00, &[0; HEADER_MAX_BYTES]), Err(BadHeader));
    }
}
